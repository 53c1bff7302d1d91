"""MKOR: Kronecker-factored curvature of rank one per refresh, inverses kept directly.

Each factor follows `L <- gamma L + (1 - gamma) v v^T`, and so its inverse follows Sherman-Morrison,

    L^-1 <- 1/gamma [ L^-1 - (1 - gamma) L^-1 v v^T L^-1 / (gamma + (1 - gamma) v^T L^-1 v) ],

quadratic in the layer size where a decomposition is cubic; ranks exchange v alone. A layer's
direction is `G^-1 V A^-1`, rescaled to the length of its gradient V, and goes through momentum.

    statistic mean     v: mean input, mean output gradient of the loss, as in the paper
    statistic probe    v: sums with random signs, `E v v^T = A` or `G` of `factors` (the default)

Reference: Mozaffari et al. 2023, arXiv 2306.01685. Departures: `probe`, since the mean gradient of
a residual loss vanishes at the solution and carries no curvature there; the exact formula above
(the released code blends with the identity every time and drops gamma); inverses are pulled towards
the identity only when an entry exceeds `limit`; the hybrid that falls back to a first-order method
is left out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sciml.optim.base import CurvatureOptimizer, gradients
from sciml.optim.curvature.capture import require_layers
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.per_sample import joined_weight, split_groups, term_slots
from sciml.optim.curvature.uses import UseCheck
from sciml.optim.kronecker.factors import factor_sizes
from sciml.optim.kronecker.layer_curvature import split_joined, treatable
from sciml.optim.option_ranges import (
    POSITIVE,
    NumberRule,
    check,
    module_of,
    number,
    one_of,
    switches,
)

DECAY = NumberRule(lambda x: 0 < x < 1, "a number between 0 and 1")


class MKOR(CurvatureOptimizer):
    """Momentum on gradients preconditioned by rank-one updates of inverse factors.

    Args:
        module: Network; its affine and convolution layers are preconditioned, the rest goes to
            Adam.
        lr: Step length.
        momentum: Share of the last direction that is kept.
        decay: gamma, the share of the old factors that is kept at a refresh.
        statistic: `probe` or `mean`, see above.
        rescale: Whether a layer's direction gets the length of its gradient.
        limit: Largest entry an inverse may have before it is averaged with the identity.
        curvature_every: Steps between refreshes.
        max_factor: Layers with more inputs or outputs go to Adam.
        fallback_lr: Adam's learning rate for the rest.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import MKOR, LossTerm, Objective
        >>> line, x = torch.nn.Linear(1, 1), torch.linspace(0, 1, 8)[:, None]
        >>> optimizer = MKOR(line, lr=0.1)
        >>> for step in range(100):
        ...     fit = Objective(lambda: [LossTerm("fit", line(x) - (3 * x + 1), 1.0, 8)], step=step)
        ...     optimizer.update_curvature(fit)
        ...     optimizer.step()
        >>> bool(fit.loss() < 0.1)
        True
    """

    preconditions = True

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float = 1e-2,
        momentum: float = 0.9,
        decay: float = 0.9,
        statistic: Literal["probe", "mean"] = "probe",
        rescale: bool = True,
        limit: float = 100.0,
        curvature_every: int = 10,
        max_factor: int = 16384,
        fallback_lr: float = 1e-3,
    ) -> None:
        one_of(("probe", "mean"), statistic=statistic)
        check(momentum=momentum, max_factor=max_factor)
        number(DECAY, decay=decay)
        number(POSITIVE, limit=limit)
        switches(rescale=rescale)
        layers, rest = treatable(module_of(module, type(self).__name__), max_factor)
        require_layers(layers, type(self).__name__)
        super().__init__(
            [p for layer in layers.values() for p in layer.parameters(recurse=False)],
            {"lr": lr},
            rest=rest,
            fallback_lr=fallback_lr,
            curvature_every=curvature_every,
        )
        self.layers, self.momentum, self.decay = layers, momentum, decay
        self.statistic, self.rescale, self.limit = statistic, rescale, limit
        self.memory["inverses"] = {
            name: [_identity(layer, n) for n in factor_sizes(layer)[:0:-1]]
            for name, layer in layers.items()
        }
        self._pending: list[tuple[Objective, dict[str, list[Tensor]]]] = []
        self._check = UseCheck(self.layers)

    def observe(self, objective: Objective) -> None:
        """Collect the vectors v of this rank."""
        self._check(objective)  # samples may mix: what is fed back has independent signs
        self._pending.append((objective, self._vectors(objective)))

    def direction_step(self) -> None:
        """Refresh the inverses if something was seen, and move."""
        for objective, vectors in self._pending:
            self._refresh(objective, vectors)
        self._pending = []
        gradient = gradients(self.treated)
        given = {id(p): g for p, g in zip(self.treated, gradient, strict=True)}
        lr = self.param_groups[0]["lr"]
        for name, layer in self.layers.items():
            groups, o, k = factor_sizes(layer)
            v = joined_weight(layer, given).view(groups, o, k)
            a, g = self.memory["inverses"][name]
            d = (g @ v.to(g.dtype) @ a).to(v.dtype)
            if self.rescale:
                d = d * (v.norm() / d.norm().clamp_min(torch.finfo(d.dtype).tiny))
            parts = split_joined(layer, d.flatten(0, 1))
            for p, part in zip(layer.parameters(recurse=False), parts, strict=True):
                state = self.state[p]
                state["direction"] = self.momentum * state.get("direction", 0.0) + part
                p.sub_(lr * state["direction"])

    def statistics(self) -> dict[str, float]:
        """Return the largest entry of the inverses."""
        largest = [m.abs().max() for pair in self.memory["inverses"].values() for m in pair]
        return {"largest": float(torch.stack(largest).max())}

    # --- parts ----------------------------------------------------------------------------------
    def _vectors(self, objective: Objective) -> dict[str, list[Tensor]]:
        """Return sums over this rank by layer: for A `(g, k)`, for G `(g, o)`, rows of A `(1,)`."""
        terms, uses = objective.captured(self.layers)
        generator = objective.generator("mkor")
        out = {}
        for name, (a, g) in self.memory["inverses"].items():
            out[name] = [a.new_zeros(a.shape[:2]), g.new_zeros(g.shape[:2]), a.new_zeros(1)]
        for term in terms:
            if self.statistic == "mean":
                cotangent = term.scale * term.slope()
            else:
                cotangent = term.scale**0.5 * term.draw(generator)
            for name, slots in term_slots(term, uses, self.layers, cotangent).items():
                z, gamma = split_groups(slots)
                sums = out[name]
                sums[0] += _signed_sum(z, self.statistic, generator)
                sums[1] += _signed_sum(gamma, self.statistic, generator)
                sums[2] += z.shape[0] * z.shape[1]
        return out

    def _refresh(self, objective: Objective, vectors: dict[str, list[Tensor]]) -> None:
        flat = objective.sum([v for three in vectors.values() for v in three])
        for i, name in enumerate(vectors):
            for_a, for_g, rows = flat[3 * i : 3 * i + 3]
            rows = rows.clamp_min(1)
            for_a = for_a / (rows.sqrt() if self.statistic == "probe" else rows)
            pair = zip(self.memory["inverses"][name], (for_a, for_g), strict=True)
            self.memory["inverses"][name] = [
                _bounded(rank_one(inverse, v, self.decay), self.limit) for inverse, v in pair
            ]


def _identity(layer: nn.Module, size: int) -> Tensor:
    like = layer.weight.detach()
    dtype = torch.promote_types(like.dtype, torch.float32)
    eye = torch.eye(size, dtype=dtype, device=like.device)
    return eye.repeat(getattr(layer, "groups", 1), 1, 1)


def _signed_sum(x: Tensor, statistic: str, generator: torch.Generator) -> Tensor:
    """Return the sum of x `(S, N, g, k)` over slots and samples, with random signs for `probe`."""
    if statistic == "mean":
        return x.sum((0, 1))
    signs = torch.randint(0, 2, x.shape[:2], generator=generator, device=generator.device)
    return torch.einsum("sn,sngk->gk", (2 * signs - 1).to(x), x)


def rank_one(inverse: Tensor, v: Tensor, decay: float) -> Tensor:
    """Return the inverse of `decay L + (1 - decay) v v^T` from that of L, `(g, d, d)`."""
    u = (inverse @ v[..., None])[..., 0]
    weight = (1 - decay) / (decay + (1 - decay) * (v * u).sum(-1))
    return (inverse - weight[:, None, None] * u[:, :, None] * u[:, None, :]) / decay


def _bounded(inverse: Tensor, limit: float) -> Tensor:
    eye = torch.eye(inverse.shape[-1], dtype=inverse.dtype, device=inverse.device)
    return torch.where(inverse.abs().max() > limit, 0.5 * (inverse + eye), inverse)
