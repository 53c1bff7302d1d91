"""A Hamilton-Jacobi-Bellman equation with a linear cost and another Hamiltonian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.autodiff import sum_coordinates
from sciml.physics.checks import check_number
from sciml.physics.pde import Fields, Points
from sciml.physics.problems.hjb import TerminalCost

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


class HJBLinear(TerminalCost):
    """Linear cost: u_t + Lap u - (1/d) sum |d_i u|^c = -2, g = sum x_i, u = sum x_i + T - t.

    A check of the machinery rather than of accuracy: the network has to become the constant T.
    Its trivial baseline is therefore g plus the best constant.

    Args:
        dim: Number of space dimensions d.
        exponent: c, at least 1.
        final_time: T, positive.
        sampling: Law of the training points, "dependence" or "evaluation".

    Example:
        >>> import torch
        >>> from sciml.physics import HJBLinear
        >>> problem = HJBLinear(dim=3)
        >>> problem.exact(torch.ones(1, 3), torch.zeros(1, 1)).item()  # sum of x, and T
        4.0
    """

    def __init__(
        self,
        *,
        dim: int,
        exponent: float = 1.75,
        final_time: float = 1.0,
        sampling: str = "dependence",
    ) -> None:
        super().__init__(dim=dim, final_time=final_time, sampling=sampling)
        self.exponent = check_number("problem.exponent", exponent, least=1)

    def terminal(self, x: Differentiable) -> Differentiable:
        """Return g = sum x_i `(N, 1)`."""
        return sum_coordinates(x)

    def terminal_gradient(self, x: Tensor) -> Tensor:
        """Return grad g = (1, ..., 1) `(N, d)`."""
        return torch.ones_like(x)

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return u_t + Lap u - (1/d) sum |d_i u|^c + 2 `(N,)`."""
        return u.dt + u.trace - u.grad.abs().pow(self.exponent).mean(-1) + 2.0

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return sum x_i + T - t `(N,)`."""
        return x.double().sum(-1) + self.to_go(t.double())

    def constant_basis(self, p: Points) -> tuple[Tensor, Tensor]:
        """Return (1, g)."""
        return torch.ones_like(p.x[:, 0]), p.x.sum(-1)
