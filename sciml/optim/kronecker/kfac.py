"""Kronecker-factored approximate curvature for supervised and physics-informed losses.

    theta <- theta + eta m,     m <- mu m - F~^-1 g,     F~ = layer by layer  sum_t G_t x A_t,

t the terms of the loss (`factors`), inverted by `kronecker_sums`, spread over ranks by `placement`.
How far a step goes is said by the rules of `kfac_steps`.

References: Martens and Grosse 2015, arXiv 1503.05671; Pauloski et al. 2021, arXiv 2107.01739
(ranks); Dangel et al. 2024, arXiv 2405.15603 (differential operators; algorithm 1 and KFAC*).
Departures: factors start from the first batch unless `start` says otherwise; loss terms of a
physics loss may come from stochastic dimensions and from networks that are not plain perceptrons,
since slots are recorded and not derived (`capture`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, NumericalWarning
from sciml.optim import step_size
from sciml.optim.base import CurvatureOptimizer, gradients
from sciml.optim.curvature.capture import require_layers
from sciml.optim.curvature.jacobian import Jacobian, jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.output_differences import Differences
from sciml.optim.curvature.terms import total_loss
from sciml.optim.curvature.uses import UseCheck
from sciml.optim.kronecker import kronecker_sums
from sciml.optim.kronecker.factors import FEW_OUTPUTS, CurvatureKind
from sciml.optim.kronecker.kfac_steps import STEP_RULES, Vector
from sciml.optim.kronecker.layer_curvature import KroneckerPreconditioner, split_joined, treatable
from sciml.optim.option_ranges import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    check,
    module_of,
    number,
    one_of,
    switches,
)
from sciml.optim.placement import fraction_of

CHOICES = {
    "kind": ("auto", "type2", "mc", "empirical", "forward_only"),
    "sharing": ("expand", "reduce", "trace"),
    "inverse": ("exact", "factored", "same"),
    "step": tuple(STEP_RULES),
}


class KFAC(CurvatureOptimizer):
    """Natural gradient steps with one Kronecker product per layer and loss term.

    Args:
        module: Network; its affine and convolution layers are preconditioned, the rest goes to
            Adam.
        lr: Step length; with `quadratic` and `line_search` a factor on the length found.
        momentum: Share of the last direction that is kept; without effect for `quadratic`.
        damping: lambda.
        inverse: How lambda enters: `exact`, `factored` or `same`, see `kronecker_sums`.
        step: `lr`, `kl_clip`, `quadratic` (KFAC*) or `line_search`.
        kl_clip: kappa of the KL clip.
        adapt_every: Steps between adaptations of lambda (Levenberg-Marquardt); 0 for never.
        kind: What the curvature is made from: `type2`, `mc`, `empirical`, `forward_only` or
            `auto`, see `factors`.
        sharing: `expand`, `reduce` or `trace`, for layers used at several positions or by jets.
        ekfac: Whether the eigenvalues are second moments of projected per-sample gradients.
        decay: Largest share of the old factors in the running means.
        start: Multiple of the identity at which the running means begin, a damping that fades
            with them; 0 for the first batch.
        curvature_every: Steps between updates of the factors.
        inverse_every: Steps between decompositions, a multiple of `curvature_every`.
        grad_worker_fraction: Share of the ranks that keep a layer's decomposition: `comm` (1),
            `hybrid` (0.5), `mem` (0) or a number.
        max_factor: Layers with more inputs or outputs go to Adam.
        fallback_lr: Adam's learning rate for the rest.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import KFAC, LossTerm, Objective
        >>> line, x = torch.nn.Linear(1, 1), torch.linspace(0, 1, 8)[:, None]
        >>> optimizer = KFAC(line, step="quadratic", damping=1e-6)
        >>> for step in range(5):
        ...     fit = Objective(lambda: [LossTerm("fit", line(x) - (3 * x + 1), 1.0, 8)], step=step)
        ...     optimizer.update_curvature(fit)
        ...     optimizer.step()
        >>> round(line.weight.item(), 2), round(line.bias.item(), 2)
        (3.0, 1.0)
    """

    preconditions = True

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float = 1.0,
        momentum: float = 0.5,
        damping: float = 1e-2,
        inverse: kronecker_sums.Damping = "exact",
        step: Literal["lr", "kl_clip", "quadratic", "line_search"] = "kl_clip",
        kl_clip: float = 1e-2,
        adapt_every: int = 0,
        kind: CurvatureKind = "auto",
        sharing: Literal["expand", "reduce", "trace"] = "expand",
        ekfac: bool = False,
        decay: float = 0.95,
        start: float = 0.0,
        curvature_every: int = 1,
        inverse_every: int = 1,
        grad_worker_fraction: str | float = 1.0,
        max_factor: int = 4096,
        fallback_lr: float = 1e-3,
    ) -> None:
        given = {"kind": kind, "sharing": sharing, "inverse": inverse, "step": step}
        for name, value in given.items():
            one_of(CHOICES[name], **{name: value})
        check(momentum=momentum, damping=damping, adapt_every=adapt_every, max_factor=max_factor)
        check(curvature_every=curvature_every, inverse_every=inverse_every)
        number(POSITIVE, kl_clip=kl_clip)
        number(SHARE, decay=decay)
        number(NOT_NEGATIVE, start=start)
        switches(ekfac=ekfac)
        if inverse_every % curvature_every:
            raise InvalidArgument(
                f"optimizer.inverse_every={inverse_every}",
                f"a multiple of optimizer.curvature_every={curvature_every}",
            )
        fraction = fraction_of(grad_worker_fraction)
        if ekfac and fraction < 1:
            raise InvalidArgument(
                f"optimizer.ekfac=true with grad_worker_fraction={grad_worker_fraction}",
                "every rank to keep every basis, which projects its own samples",
                "Type optimizer.grad_worker_fraction=comm",
            )
        if kind == "forward_only" and (ekfac or sharing == "trace"):
            raise InvalidArgument(
                "optimizer.kind=forward_only with ekfac or sharing=trace",
                "per-sample gradients, which this kind does not compute",
                "Type optimizer.kind=auto",
            )
        layers, rest = treatable(module_of(module, type(self).__name__), max_factor)
        require_layers(layers, type(self).__name__)
        treated = [p for layer in layers.values() for p in layer.parameters(recurse=False)]
        super().__init__(
            treated,
            {"lr": lr},
            rest=rest,
            fallback_lr=fallback_lr,
            curvature_every=curvature_every,
        )
        self.layers = layers
        self.momentum, self.rule, self.kl_clip = momentum, step, kl_clip
        self.adapt_every, self.inverse_every = adapt_every, inverse_every
        self.searches = step == "line_search" or adapt_every > 0
        self.accumulates = not self.searches and step != "quadratic"
        device = treated[0].device
        lambda_ = torch.tensor(damping, dtype=torch.float64, device=device)
        self.memory |= {"damping": lambda_, "bases": {}}
        self.preconditioner = KroneckerPreconditioner(
            layers,
            kind=kind,
            sharing=sharing,
            inverse=inverse,
            ekfac=ekfac,
            decay=decay,
            start=start,
            fraction=fraction,
        )
        self._objective: Objective | None = None
        self._jacobian: Jacobian | Differences | None = None
        self._complete: dict[str, list[Tensor]] | None = None
        self._check = UseCheck(self.layers)
        self._mixing: frozenset[str] = frozenset()

    # --- curvature ------------------------------------------------------------------------------
    def due(self) -> bool:
        """Return whether the coming step wants `update_curvature` first."""
        looks = self.rule in ("quadratic", "line_search") or self._adapts()
        return looks or super().due()

    def _adapts(self) -> bool:
        return self.adapt_every > 0 and self.steps % self.adapt_every == 0

    def observe(self, objective: Objective) -> None:
        """Add what the terms show of the factors; keep the objective for the step."""
        self._mix(self._check(objective))
        self._objective = objective
        if self.rule == "quadratic" or self._adapts():
            self._jacobian = self._products(objective)
        if super().due() or not self.memory["bases"]:
            exact = self._jacobian if isinstance(self._jacobian, Jacobian) else None
            self.preconditioner.observe(objective, exact, self._mixing)

    def _mix(self, terms: frozenset[str]) -> None:
        """Take note of terms that mix samples.

        Raises:
            InvalidArgument: If per-sample gradients are asked for, which they do not have.
        """
        if terms == self._mixing:
            return
        self._mixing = terms
        if self.preconditioner.ekfac or self.preconditioner.sharing != "expand":
            raise InvalidArgument(
                f"optimizer.ekfac=true or sharing={self.preconditioner.sharing} with the loss "
                f"terms {sorted(terms)}, which mix the samples of a batch",
                "residuals that depend on their own sample alone",
                "Type optimizer.ekfac=false optimizer.sharing=expand, or optimizer=engd",
            )
        warnings.warn(
            f"the loss terms {sorted(terms)} mix the samples of a batch (a mean, an integral, a "
            f"difference between points): {type(self).__name__} feeds random signs of the samples "
            "back for them (kind=mc)",
            NumericalWarning,
            stacklevel=3,
        )

    def _products(self, objective: Objective) -> Jacobian | Differences:
        """Return what multiplies with the Jacobian of this rank."""
        terms, _ = objective.captured(self.layers)
        if not self._mixing and all(term.outputs.shape[1] <= FEW_OUTPUTS for term in terms):
            return jacobian_of(objective, self.layers, self.treated, everywhere=False, checked=True)
        return Differences(objective, terms, self.treated)

    # --- the step -------------------------------------------------------------------------------
    def direction_step(self) -> None:
        """Change the parameters of recorded layers.

        Raises:
            InvalidArgument: If curvature was never updated, or not for a step that needs it.
        """
        objective, jacobian = self._objective, self._jacobian
        self._objective = self._jacobian = None
        if objective is None and (self.due() or not self.memory["bases"]):
            raise InvalidArgument(
                f"{type(self).__name__}.step() without update_curvature()",
                "the loss terms of this step",
                "Call optimizer.update_curvature(objective) on steps where optimizer.due()",
            )
        if self.preconditioner.pending:
            invert = self.steps % self.inverse_every == 0
            self.preconditioner.refresh(self.memory, objective, self.steps, invert)
        gradient = gradients(self.treated)
        direction = [-d for d in self.precondition(gradient)]
        start = [p.clone() for p in self.treated] if self._adapts() else []
        STEP_RULES[self.rule](self, direction, gradient, objective, jacobian)
        if start:
            change = [p - s for p, s in zip(self.treated, start, strict=True)]
            self._adapt(change, gradient, objective, jacobian)

    def precondition(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """Return `F~^-1 v` for one tensor per treated parameter."""
        given = {id(p): v for p, v in zip(self.treated, vector, strict=True)}
        joined = self.preconditioner.divide(self.memory, given)
        return [d for name, layer in self.layers.items() for d in split_joined(layer, joined[name])]

    def _adapt(self, change: Vector, gradient: Vector, objective: Objective, jacobian: Any) -> None:
        damping = self.memory["damping"]
        (image,) = objective.sum([jacobian.times(change).square().sum()])
        model = step_size.inner(gradient, change)
        model = model + 0.5 * (image + damping * step_size.inner(change, change))
        (before,) = objective.sum([total_loss(objective.terms()).detach().double()])
        damping, ratio = step_size.adapted(
            damping, objective.loss() - before, model, self.adapt_every
        )
        self.memory["damping"], self.numbers["rho"] = damping, ratio

    # --- state ----------------------------------------------------------------------------------
    def statistics(self) -> dict[str, float]:
        """Return what the step rule found, damping, factors' sizes and age of the inverses."""
        out = {name: float(value) for name, value in self.numbers.items()}
        out["damping"] = float(self.memory["damping"])
        if "inverted" in self.memory:
            out["inverse_age"] = float(self.steps - 1 - self.memory["inverted"])
        return out | self.preconditioner.statistics(self.memory)

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Gather the inverses of all ranks for the next `state_dict`; all ranks must call it."""
        self._complete = self.preconditioner.complete(self.memory)
        if self.preconditioner.place().rank != to:
            self._complete = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state; on several ranks call `consolidate_state_dict` first."""
        own = self.memory
        if self._complete is not None:
            self.memory = {**own, "bases": self._complete}
            self._complete = None
        try:
            return super().state_dict()
        finally:
            self.memory = own

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state, and keep of the inverses what this rank holds."""
        super().load_state_dict(state_dict)
        self.preconditioner.prune(self.memory)
