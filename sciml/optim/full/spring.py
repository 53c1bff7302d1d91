"""SPRING: Gauss-Newton steps on small fresh batches that remember the last direction.

The part of the last direction that the present residuals do not see survives:

    phi <- mu phi - J^T (J J^T + lambda)^-1 (r + mu J phi),     theta <- theta + eta phi,

which turns independent batches into a Kaczmarz iteration and makes few points per step enough.

Reference: Goldshlager, Abrahamsen and Lin 2024, arXiv 2401.10190, algorithm 1. Departure: the
damping is relative to the mean diagonal of the kernel unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sciml.optim.curvature.jacobian import Jacobian
from sciml.optim.full.engd import ENGD
from sciml.optim.option_ranges import POSITIVE, check, number


class SPRING(ENGD):
    """Gauss-Newton steps on small fresh batches, with memory of the previous direction.

    Args:
        module: Network, or parameters, as in `ENGD`.
        lr: Step length eta.
        damping: lambda, relative to the mean diagonal of the kernel if `relative`.
        relative: See `damping`.
        momentum: mu, the share of the last direction that is kept.
        max_norm: Longest change of the parameters in one step (`sqrt(C)`); None for no limit.
        fallback_lr: Adam's learning rate for complex parameters.

    Raises:
        InvalidArgument, InvalidType: For a value that cannot be used.

    Example:
        >>> import torch
        >>> from sciml.optim import SPRING, LossTerm, Objective
        >>> line, x = torch.nn.Linear(1, 1), torch.linspace(0, 1, 8)[:, None]
        >>> optimizer = SPRING(line, lr=0.5)
        >>> for step in range(30):
        ...     fit = Objective(lambda: [LossTerm("fit", line(x) - (3 * x + 1), 1.0, 8)], step=step)
        ...     optimizer.update_curvature(fit)
        ...     optimizer.step()
        >>> round(line.weight.item(), 2), round(line.bias.item(), 2)
        (3.0, 1.0)
    """

    def __init__(
        self,
        module: nn.Module | Iterable[Tensor],
        *,
        lr: float = 0.1,
        damping: float = 1e-3,
        relative: bool = True,
        momentum: float = 0.9,
        max_norm: float | None = None,
        fallback_lr: float = 1e-3,
    ) -> None:
        check(momentum=momentum)
        if max_norm is not None:
            number(POSITIVE, max_norm=max_norm)
        super().__init__(
            module,
            lr=lr,
            damping=damping,
            relative=relative,
            line_search=False,
            adapt_every=0,
            fallback_lr=fallback_lr,
        )
        self.momentum, self.max_norm = momentum, max_norm

    def direction(self, jacobian: Jacobian) -> tuple[list[Tensor], Tensor]:
        """Return the new direction phi, one tensor per parameter, and J phi `(R,)`."""
        old = [self.state[p].get("direction", torch.zeros_like(p)) for p in self.treated]
        old = [self.momentum * phi for phi in old]
        seen = jacobian.times(old)
        new, image = self._solve(-jacobian.residual - seen)
        return [a + b for a, b in zip(old, new, strict=True)], seen + image

    def _cap(self, directions: list[Tensor]) -> float | Tensor:
        if self.max_norm is None:
            return 1.0
        norm = torch.stack([d.norm() for d in directions]).norm()
        return (self.max_norm / (self.param_groups[0]["lr"] * norm)).clamp_max(1.0)
