"""The loss of a learned preconditioner: the error's energy after conjugate directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.solvers.linear import Stencil, high, low


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Return inner products per sample, in a shape that multiplies a sample."""
    return (x * y).flatten(1).sum(1).reshape(-1, *(1,) * (x.dim() - 1))


def direction_rows(stencil: Stencil, q: Tensor, b: Tensor, x: Tensor, loss: str) -> Tensor:
    """Return rows `(N, m)` whose squares add up to the loss of every sample.

    Args:
        stencil: A.
        q: Directions `(N, *grid)`, of any size and sign.
        b: Right-hand sides.
        x: Solutions; not looked at by the residual loss.
        loss: `energy` or `residual`, see the module's text.
    """
    tiny = torch.finfo(q.dtype).tiny
    product = stencil.times(q)
    alpha = inner(q, b) / inner(q, product).clamp_min(tiny)
    if loss == "residual":
        return (b - alpha * product).flatten(1)
    size = torch.linalg.vector_norm(energy_rows(stencil, x), dim=1, keepdim=True)
    return energy_rows(stencil, x - alpha * q) / size.clamp_min(tiny)


def energy_rows(stencil: Stencil, x: Tensor) -> Tensor:
    """Return rows `(N, m)` whose squares add up to x.Ax: of every cell and of every face."""
    parts = [(stencil.shift.sqrt() * x).flatten(1)]
    for a, w in enumerate(stencil.faces):
        jump = high(x, a - stencil.ndim) - low(x, a - stencil.ndim)
        parts.append((w.sqrt() * jump).flatten(1))
    return torch.cat(parts, 1)


@torch.no_grad()
def own_residuals(
    product: Callable[[Tensor], Tensor], stencil: Stencil, b: Tensor, x: Tensor, age: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what conjugate directions (K = 1) leave of each sample after `age` steps.

    Args:
        product: r -> q of the present network.
        stencil: A.
        b: Right-hand sides `(N, *grid)`.
        x: Their solutions.
        age: `(N,)` whole numbers; 0 leaves a sample as it is.

    Returns:
        Residuals of 2-norm 1, and their solutions. The residuals are formed from the solutions: a
        recurrence in float32 would be off by more than a good network leaves.
    """
    tiny = torch.finfo(b.dtype).tiny
    wide = age.reshape(-1, *(1,) * stencil.ndim)
    last: tuple[Tensor, Tensor, Tensor] | None = None
    r, left = b, x
    for step in range(1, int(age.max()) + 1 if age.numel() else 1):
        d = product(r)  # constants of singular components change neither products nor losses
        if last is not None:
            old, w_old, g_old = last
            d = d - inner(d, w_old) / g_old * old
        w = stencil.times(d)
        curvature = inner(d, w).clamp_min(tiny)
        alpha = torch.where(wide >= step, inner(d, r) / curvature, 0.0)
        r, left = r - alpha * w, left - alpha * d
        last = d, w, curvature
    r = torch.where(wide > 0, stencil.times(left), b)
    size = inner(r, r).sqrt()
    size = size.masked_fill(size == 0, 1.0)
    return r / size, left / size
