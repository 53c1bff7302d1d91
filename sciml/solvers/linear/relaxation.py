"""Successive over-relaxation of stencil matrices, and the preconditioner that it makes.

    SOR    x_c <- x_c + omega (b - A x)_c / a_cc, first on the red cells, then on the black ones
    SSOR   M = (E - L) E^-1 (E - L)^T with E = D / omega, a preconditioner for conjugate gradients

For a consistently ordered matrix the best asymptotic omega is 2 / (1 + sqrt(1 - beta^2)), beta the
spectral radius of Jacobi's iteration; red-black order has the rate of the usual one. Which omega is
best for a finite tolerance can be learned: `sciml.solvers.bandits`.

Source: Young, Iterative Solution of Large Linear Systems, 1971.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.linear.incomplete import IncompleteCholesky
from sciml.solvers.linear.stencil import Stencil
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed

EVERY = 8  # sweeps between looks at which problems are done


@typed
def sor(
    stencil: Stencil,
    b: Tensor,
    omega: Tensor | float,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    max_iter: int = 10_000,
) -> Outcome:
    """Solve a batch of systems by SOR from zero.

    Args:
        stencil: Symmetric positive definite matrices `(B, *grid)`.
        b: Right-hand sides of the same shape.
        omega: In (0, 2), one or `(B,)`.
        rtol: Tolerance on |b - A x| / |b|.
        atol: Tolerance on |b - A x|; either is enough.
        max_iter: Largest number of sweeps.

    Raises:
        InvalidArgument: For omega outside (0, 2), no tolerance, or b that does not fit.
    """
    stencil.check_fits(b)
    omega = torch.as_tensor(omega, dtype=b.dtype, device=b.device).expand(len(b))
    if not bool(((omega > 0) & (omega < 2)).all()) or not max(rtol, atol) > 0:
        raise InvalidArgument(
            f"omega from {float(omega.min())} to {float(omega.max())}, rtol={rtol}, atol={atol}",
            "omega in (0, 2), and a positive tolerance",
            "Type omega=1.5, rtol=1e-8",
        )
    d, count = stencil.ndim, len(b)
    wide = (-1, *(1,) * d)
    parity = sum(
        torch.arange(n, device=b.device).reshape(-1, *(1,) * (d - 1 - a))
        for a, n in enumerate(stencil.grid)
    )
    red = (parity % 2 == 0).expand(stencil.grid)
    goal = (rtol * b.flatten(1).norm(dim=1)).clamp_min(atol)
    value, iterations = torch.zeros_like(b), torch.full((count,), max_iter, device=b.device)
    left, now = torch.full_like(goal, torch.inf), torch.arange(count, device=b.device)
    x, matrix, rhs, factor = torch.zeros_like(b), stencil, b, omega.reshape(wide)
    for sweep in range(max_iter + 1):
        r = rhs - matrix.times(x)
        norm = r.flatten(1).norm(dim=1)
        new = (norm <= goal[now]) & (iterations[now] == max_iter)
        at = now[new]
        iterations[at], left[at], value[at] = sweep, norm[new], x[new]
        if sweep % EVERY == 0:
            going = left[now] == torch.inf
            if not bool(going.any()):
                break
            if 2 * int(going.sum()) < len(now):
                now, x, r = now[going], x[going], r[going]
                matrix, rhs, factor = stencil[now], b[now], omega[now].reshape(wide)
        scale = factor / matrix.diagonal
        x = torch.where(red, x + scale * r, x)
        r = rhs - matrix.times(x)
        x = torch.where(red, x, x + scale * r)
    behind = left[now] == torch.inf
    at = now[behind]
    value[at], left[at] = x[behind], norm[behind]
    status = torch.where(left <= goal, int(Status.CONVERGED), int(Status.MAX_ITER))
    status = torch.where(left.isfinite(), status, int(Status.NONFINITE))
    size = b.flatten(1).norm(dim=1)
    return Outcome(
        value, status, iterations, left, left / size.masked_fill(size == 0, 1.0), sweep + 1
    )


@typed
def best_omega(jacobi_radius: Tensor) -> Tensor:
    """Return 2 / (1 + sqrt(1 - beta^2)), the best asymptotic omega (Young 1971)."""
    return 2 / (1 + (1 - jacobi_radius.square()).clamp_min(0).sqrt())


class SSOR(IncompleteCholesky):
    """Symmetric SOR in the usual order of cells as a preconditioner.

    Args:
        stencil: The matrices.
        omega: In (0, 2).
        solves: As in `IncompleteCholesky`.

    Raises:
        InvalidArgument: For omega outside (0, 2).

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import Stencil
        >>> from sciml.solvers.linear.relaxation import SSOR
        >>> faces = torch.ones(1, 7, 8), torch.ones(1, 8, 7)
        >>> s = Stencil(faces, torch.ones(1, 8, 8), torch.ones(1, 8, 8) > 0)
        >>> tuple(SSOR(s, omega=1.5).apply(torch.ones(1, 8, 8)).shape)
        (1, 8, 8)
    """

    def __init__(self, stencil: Stencil, *, omega: float = 1.5, solves: str = "auto") -> None:
        if not 0 < omega < 2:
            raise InvalidArgument(f"omega={omega}", "a number between 0 and 2", "Type omega=1.5")
        self.omega = omega
        super().__init__(stencil, solves=solves)

    def _pivots(self, below: list[Tensor], above: list[Tensor], tau: float) -> Tensor:
        return self._sorted(self.stencil.diagonal) / self.omega
