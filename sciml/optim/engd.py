"""Energy natural gradient descent in its kernel form, and SPRING, which remembers directions.

With the scaled residuals r and their Jacobian J (`loss = |r|^2 / 2`) the Gauss-Newton step is

    delta = -(J^T J + lambda)^-1 J^T r = -J^T (J J^T + lambda)^-1 r .

The first system has as many unknowns as parameters, the second as many as residuals; the smaller
one is solved, in float64, by Cholesky factorisation. SPRING lets the part of the last direction
that the present residuals do not see survive:

    phi <- mu phi - J^T (J J^T + lambda)^-1 (r + mu J phi),     theta <- theta + eta phi,

which turns independent batches into a Kaczmarz iteration and makes few points per step enough.

References: ENGD, Mueller and Zeinhofer 2023, arXiv 2302.13163; kernel form (ENGD-W), Guzman-Cordero
et al. 2025, arXiv 2505.12149; SPRING, Goldshlager, Abrahamsen and Lin 2024, arXiv 2401.10190,
algorithm 1. Departure: the damping is relative to the mean diagonal of the system unless asked
otherwise, so it does not depend on the weight of the loss.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, NumericalWarning, PerformanceWarning
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.capture import affine_layers
from sciml.optim.jacobian import Jacobian, jacobian_of
from sciml.optim.line_search import halvings
from sciml.optim.objective import Objective
from sciml.optim.uses import UseCheck


class ENGD(CurvatureOptimizer):
    """Gauss-Newton steps for residual losses, with a line search or a fixed step.

    Args:
        module: Network; all its real parameters are trained.
        lr: Step length, or the longest step the line search tries.
        damping: lambda, relative to the mean diagonal of the system if `relative`.
        relative: See `damping`.
        line_search: Whether to halve the step until the loss of the batch stops falling.
        fallback_lr: Adam's learning rate for complex parameters.

    Raises:
        InvalidArgument: For a step or a damping that is not positive.
    """

    own_gradient = True
    accumulates = False

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float = 1.0,
        damping: float = 1e-8,
        relative: bool = True,
        line_search: bool = True,
        fallback_lr: float = 1e-3,
    ) -> None:
        if lr <= 0:
            raise InvalidArgument(f"optimizer.lr={lr}", "a positive step length")
        if damping <= 0:
            raise InvalidArgument(f"optimizer.damping={damping}", "a positive number")
        trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        rest = [(n, p, "complex") for n, p in trained if p.is_complex()]
        treated = [p for _, p in trained if not p.is_complex()]
        super().__init__(treated, {"lr": lr}, rest=rest, fallback_lr=fallback_lr)
        self.layers = affine_layers(module)
        self.damping, self.relative, self.searches = damping, relative, line_search
        self._objective: Objective | None = None
        self._check = UseCheck(self.layers)
        self._numbers: dict[str, Tensor] = {}

    def update_curvature(self, objective: Objective) -> None:
        """Compute the direction, and the gradient of what the fallback treats."""
        if self.layers and (mixing := self._check(objective)):
            self._without_layers(objective, mixing)
        jacobian = jacobian_of(objective, self.layers, self.treated, checked=True)
        for p, d in zip(self.treated, self.direction(jacobian), strict=True):
            self.state[p]["direction"] = d
        self._objective = objective
        self._rest_gradients(objective)

    def direction(self, jacobian: Jacobian) -> list[Tensor]:
        """Return the Gauss-Newton direction, one tensor per parameter."""
        return self._solve(jacobian, -jacobian.residual)

    def direction_step(self) -> None:
        """Move along the direction.

        Raises:
            InvalidArgument: If `update_curvature` was not called for this step.
        """
        if self._objective is None:
            raise InvalidArgument(
                f"{type(self).__name__}.step() without update_curvature()",
                "a direction from the present loss terms",
                "Call optimizer.update_curvature(objective) before every step",
            )
        objective, self._objective = self._objective, None
        directions = [self.state[p]["direction"] for p in self.treated]
        lr = self.param_groups[0]["lr"]
        length = self._search(objective, directions, lr) if self.searches else lr
        self._move(directions, length * self._cap(directions))
        self._numbers["step"] = torch.as_tensor(length)

    def statistics(self) -> dict[str, float]:
        """Return step length, damping and the size of the kernel's diagonal."""
        return {name: float(value) for name, value in self._numbers.items()}

    # --- parts ----------------------------------------------------------------------------------
    def _solve(self, jacobian: Jacobian, target: Tensor) -> list[Tensor]:
        """Return `J^T (J J^T + lambda)^-1 target`, by the smaller of the two systems."""
        size = sum(p.numel() for p in self.treated)
        if len(jacobian) <= size:
            y = self._cholesky(jacobian.kernel(), target)
            return self._nothing() if y is None else jacobian.transposed_times(y)
        dense = jacobian.dense()
        flat = self._cholesky(dense.t() @ dense, dense.t() @ target)
        if flat is None:
            return self._nothing()
        pieces = flat.split([p.numel() for p in self.treated])
        return [v.view_as(p).to(p) for v, p in zip(pieces, self.treated, strict=True)]

    def _nothing(self) -> list[Tensor]:
        return [torch.zeros_like(p) for p in self.treated]

    def _without_layers(self, objective: Objective, mixing: frozenset[str]) -> None:
        """Take the Jacobian row by row from here on."""
        warnings.warn(
            f"the loss terms {sorted(mixing)} mix the samples of a batch (a mean, an integral, a "
            f"difference between points): {type(self).__name__} takes one backward pass per "
            "residual, which is exact and slower. Residuals that depend on their own sample alone "
            "need one pass in all",
            PerformanceWarning,
            stacklevel=3,
        )
        self.layers = {}
        objective.forget()  # its graph tells layers apart

    def _cholesky(self, system: Tensor, target: Tensor) -> Tensor | None:
        """Return `(system + lambda)^-1 target`; None, with a warning, if that is no number."""
        diagonal = system.diagonal()
        mean = diagonal.mean()
        shift = self.damping * mean if self.relative else system.new_tensor(self.damping)
        self._numbers |= {"damping": shift, "diagonal": mean}
        diagonal += shift
        factor, failed = torch.linalg.cholesky_ex(system)
        while failed:  # damping below the rounding error of the system: raise it until it is not
            if not (system.isfinite().all() and shift > 0):
                warnings.warn(
                    f"{type(self).__name__}: residuals or derivatives that are not finite, or all "
                    "zero; this batch adds nothing to the step",
                    NumericalWarning,
                    stacklevel=2,
                )
                return None
            diagonal += 9 * shift
            shift = 10 * shift
            self._numbers["damping"] = shift
            factor, failed = torch.linalg.cholesky_ex(system)
        return torch.cholesky_solve(target[:, None], factor)[:, 0]

    def _cap(self, directions: list[Tensor]) -> float | Tensor:
        return 1.0

    def _move(self, directions: list[Tensor], length: float | Tensor) -> None:
        for p, d in zip(self.treated, directions, strict=True):
            p.add_(d * length)

    def _search(self, objective: Objective, directions: list[Tensor], lr: float) -> float:
        """Return the best of L, L/2, L/4, ... before the loss rises again; 0 if none helps.

        L is lr, or twice the length of the last step where that is shorter: steps on small batches
        settle far below lr, and every length tried costs an evaluation.
        """
        start = [p.clone() for p in self.treated]

        def loss_at(length: float) -> Tensor:
            for p, s, d in zip(self.treated, start, directions, strict=True):
                torch.add(s, d, alpha=length, out=p)
            return objective.loss()

        first = min(lr, 2 * (self.memory.get("length") or lr))
        length, _, _ = halvings(loss_at, objective.loss(), first=first)
        for p, s in zip(self.treated, start, strict=True):
            p.copy_(s)
        self.memory["length"] = length
        return length

    def _rest_gradients(self, objective: Objective) -> None:
        if self.fallback is None:
            return
        rest = [p for _, p, _ in self._unregistered]
        loss = sum(term.loss() for term in objective.terms())
        grads = torch.autograd.grad(loss, rest, retain_graph=True, allow_unused=True)
        grads = [torch.zeros_like(p) if g is None else g for p, g in zip(rest, grads, strict=True)]
        for p, g in zip(rest, objective.sum(grads), strict=True):
            p.grad = g


class SPRING(ENGD):
    """Gauss-Newton steps on small fresh batches, with memory of the previous direction.

    Args:
        module: Network; all its real parameters are trained.
        lr: Step length eta.
        damping: lambda, relative to the mean diagonal of the kernel if `relative`.
        relative: See `damping`.
        momentum: mu, the share of the last direction that is kept.
        max_norm: Longest change of the parameters in one step (`sqrt(C)`); None for no limit.
        fallback_lr: Adam's learning rate for complex parameters.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float = 0.1,
        damping: float = 1e-3,
        relative: bool = True,
        momentum: float = 0.9,
        max_norm: float | None = None,
        fallback_lr: float = 1e-3,
    ) -> None:
        if not 0 <= momentum < 1:
            raise InvalidArgument(f"optimizer.momentum={momentum}", "a number in [0, 1)")
        super().__init__(
            module,
            lr=lr,
            damping=damping,
            relative=relative,
            line_search=False,
            fallback_lr=fallback_lr,
        )
        self.momentum, self.max_norm = momentum, max_norm

    def direction(self, jacobian: Jacobian) -> list[Tensor]:
        """Return the new direction phi, one tensor per parameter."""
        old = [self.state[p].get("direction", torch.zeros_like(p)) for p in self.treated]
        old = [self.momentum * phi for phi in old]
        target = -jacobian.residual - jacobian.times(old)
        return [a + b for a, b in zip(old, self._solve(jacobian, target), strict=True)]

    def _cap(self, directions: list[Tensor]) -> float | Tensor:
        if self.max_norm is None:
            return 1.0
        norm = torch.stack([d.norm() for d in directions]).norm()
        return (self.max_norm / (self.param_groups[0]["lr"] * norm)).clamp_max(1.0)
