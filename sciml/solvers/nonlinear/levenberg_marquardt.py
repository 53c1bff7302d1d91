"""Levenberg-Marquardt for nonlinear least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Linearised
from sciml.solvers.bookkeeping import SolverProgress, at_rest, check_tolerances
from sciml.solvers.layout import Rows
from sciml.solvers.norms import norm_of, power_of_two
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed

Factorisation = Literal["qr", "gram"]


@typed
@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton steps with damping, gain ratio and acceptance per problem.

    The Jacobian is compressed once per iteration by QR; damped steps then cost `n x n` work and
    the condition number is not squared. Columns are scaled by their largest norm so far, so units
    of the unknowns do not matter. Converged is a problem whose residual is orthogonal to all
    columns, `max_j |J_j^T r| / |J_j| <= rtol |r|`, or has fallen below `atol + rtol |r(x0)|`.

    Sources: Moré 1978 (scaling, stop test); Nielsen 1999, report IMM-REP-1999-05 (damping).

    Args:
        rtol: See above; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance on |r|.
        max_iter: Largest number of iterations, accepted or not.
        damping: First damping, relative to the squared column norms.
        every: Iterations between looks at the device; None chooses.
        factor: `qr` of the Jacobian, or `gram`: Cholesky of J^T J, half the cost for long
            Jacobians, with QR for the problems that are too ill-conditioned for it.

    Raises:
        InvalidArgument: For tolerances that cannot work and an unknown `factor`.

    Example:
        >>> import torch
        >>> from sciml.solvers import LevenbergMarquardt, least_squares
        >>> t = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
        >>> data = 2.0 * torch.exp(-0.5 * t)
        >>> found = least_squares(
        ...     lambda p: p[:, :1] * torch.exp(-p[:, 1:] * t) - data,
        ...     torch.ones(1, 2, dtype=torch.float64),
        ...     solver=LevenbergMarquardt(), on_failure="raise",
        ... )
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [2.0, 0.5]
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 200
    damping: float = 1e-3
    every: int | None = None
    factor: Factorisation = "qr"

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`.

        Raises:
            InvalidArgument: If the problem is of another kind or has no dense layout.
        """
        if task.kind != "least_squares" or not isinstance(task.layout, Rows):
            raise InvalidArgument(
                f"LevenbergMarquardt on a {task.kind} problem with {task.layout!r}",
                "least_squares with Rows",
                "Type solver=Newton() or solver=LBFGS()",
            )
        layout = task.layout
        progress = SolverProgress(layout, x, self.rtol, 0.0, self.max_iter, self.every)
        mu = x.new_full(layout.problems(x), self.damping)
        nu = torch.full_like(mu, 2.0)
        width: Tensor | None = None  # scale of the unknowns
        first: Tensor | None = None  # |r| at the start
        # rows at x; without a formula for the Jacobian they come with it
        r = layout.pack(task.rows(x)) if task.has_jacobian else None
        tiny = torch.finfo(x.dtype).tiny
        rest = torch.ones_like(mu, dtype=torch.bool)
        while True:
            triangle, q, columns = _compressed(task, x, r, self.factor)
            width = columns if width is None else width.maximum(columns)
            size = norm_of(q)
            first = size if first is None else first
            directions = triangle / columns.masked_fill(columns == 0, 1.0)[..., None, :]
            angle = (directions.mT @ q[..., None])[..., 0].abs()
            worst = angle.amax(-1) if angle.shape[-1] else torch.zeros_like(size)
            # without a residual at the minimum the angle never closes; then |r| itself counts
            small = size * torch.where(rest, size / first.clamp_min(tiny), 1.0)
            progress.update(x, worst.minimum(small), size, size <= self.atol)
            if not progress.go_on():
                out = progress.outcome(task.evaluations)
                out.inverse = _gauss_newton_inverse(triangle, layout)
                return out
            d = _damped_step(triangle, q, width, mu)
            gone = norm_of((triangle @ d[..., None])[..., 0] + q)
            dx = layout.unpack(d, x)
            moved = layout.pack(task.rows(x + dx))
            trial = norm_of(moved)
            # objectives in units of the present one, whose square may be out of range
            unit = power_of_two(size)
            here, value = 0.5 * (size * unit).square(), 0.5 * (trial * unit).square()
            predicted = here - 0.5 * (gone * unit).square()
            gain = (here - value) / predicted.clamp_min(tiny)
            # near the minimum the gain drowns in round-off while the step is still good
            noise = 10 * torch.finfo(x.dtype).eps * here
            blind = (predicted <= noise) & (value <= here + noise)
            gain = torch.where(blind, 1.0, gain)
            accepted = (gain > 1e-4) & value.isfinite()
            step = layout.norm(dx)
            unmoved = ~accepted & (step <= torch.finfo(x.dtype).eps * layout.norm(x))
            progress.finish(unmoved, Status.STALLED)
            new = progress.keep(torch.where(layout.spread(accepted, x), x + dx, x))
            near = at_rest(layout, (x, size), (new, trial), step, progress.rtol)
            x, rest = new, torch.where(accepted, near, rest)
            better = (1 - (2 * gain - 1) ** 3).clamp(1 / 3, 2.0)
            if r is not None:
                r = torch.where(accepted[..., None], moved, r)
            mu = torch.where(accepted, mu * better, mu * nu).clamp(1e-20, 1e20)
            nu = torch.where(accepted, 2.0, 2 * nu).clamp_max(1e10)


def _compressed(
    task: Task, x: Tensor, r: Tensor | None, factor: Factorisation
) -> tuple[Tensor, Tensor, Tensor]:
    """Return R `(*P, k, n)`, q `(*P, k)` with |R d + q| = |J d + r|, and column norms `(*P, n)`.

    `r` are the rows at x where there is a formula for the Jacobian, else None.
    """
    if r is None:
        jacobian, r = linearised(task, x)
    else:
        jacobian = task.jacobian(x)
    n = jacobian.shape[-1]
    if factor == "gram" and jacobian.shape[-2] > n:
        upper, columns = _by_gram(jacobian, r)
    else:
        upper, columns = _by_qr(jacobian, r)
    return upper[..., :n], upper[..., n], columns


def linearised(task: Task, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return dr/dx `(*P, m, n)`, by formula or automatic differentiation, and r `(*P, m)`."""
    layout = task.layout
    if task.has_jacobian:
        return task.jacobian(x), layout.pack(task.rows(x))
    rows = Linearised(task.rows, x)
    r = layout.pack(rows.value)
    n, m = layout.pack(x).shape[-1], r.shape[-1]
    if n == 0:
        return r[..., None][..., :0], r
    if n <= m:
        products = torch.vmap(rows.times)(layout.basis(x))
        return torch.stack([layout.pack(c) for c in products], -1), r
    products = torch.vmap(rows.transposed_times)(layout.basis(rows.value))
    return torch.stack([layout.pack(c) for c in products], -2), r


def _by_qr(jacobian: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return the triangle of a QR factorisation of [J, r] `(*P, m, n + 1)`, and |J_j| `(*P, n)`.

    The triangle is `(*P, min(m, n + 1), n + 1)`, NaN for problems with entries that are not finite.
    """
    both = torch.cat([jacobian, r[..., None]], -1)
    size = norm_of(both.mT)
    bad = ~size.isfinite().all(-1)
    if not (both.device.type == "cpu" and not bool(bad.any())):
        both = both.masked_fill(bad[..., None, None], 0.0)  # LAPACK may not return from NaN
    upper = torch.linalg.qr(both, mode="r")[1]
    return upper.masked_fill(bad[..., None, None], torch.nan), size[..., :-1]


def _by_gram(jacobian: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same (up to signs) from a Cholesky factor of [J, r]^T [J, r], where it is safe.

    [J, r] itself is never formed: reading J is what costs. Squaring costs half of the digits: with
    columns scaled to norm 1 the triangle is right to eps cond^2. Problems with cond above
    1e-2 / sqrt(eps), as the triangle itself estimates it, without a Cholesky factor, or with
    squares near the ends of the dtype's range are factored by QR.
    """
    pull = jacobian.mT @ r[..., None]
    square = torch.cat(
        [
            torch.cat([jacobian.mT @ jacobian, pull], -1),
            torch.cat([pull.mT, r.square().sum(-1)[..., None, None]], -1),
        ],
        -2,
    )
    info = torch.finfo(square.dtype)
    length = square.diagonal(dim1=-2, dim2=-1)
    size = length.sqrt()
    lower, failed = torch.linalg.cholesky_ex(square / size[..., None, :] / size[..., :, None])
    diagonal = lower.diagonal(dim1=-2, dim2=-1)
    limit = 100 * info.eps**0.5
    # the last column is the residual, which may well be a combination of the others
    safe = diagonal[..., :-1].amin(-1) > limit * diagonal[..., :-1].amax(-1)
    safe = safe & (failed == 0) & lower.isfinite().all(-1).all(-1)
    safe = safe & (length.amin(-1) > info.tiny / info.eps**2) & length.isfinite().all(-1)
    upper = lower.mT * size[..., None, :]
    if bool(safe.all()):
        return upper, size[..., :-1]
    poor = ~safe.reshape(-1)
    (m, n), total = jacobian.shape[-2:], len(poor)
    exact, columns = upper.reshape(total, n + 1, n + 1), size[..., :-1].reshape(total, n)
    exact, columns = exact.clone(), columns.clone()
    exact[poor], columns[poor] = _by_qr(
        jacobian.reshape(total, m, n)[poor], r.reshape(total, m)[poor]
    )
    return exact.reshape(upper.shape), columns.reshape(size[..., :-1].shape)


def _gauss_newton_inverse(triangle: Tensor, layout: Rows) -> Callable[..., Tensor] | None:
    """Return the product with `(J^T J)^{-1}`, which is symmetric, for the derivative."""
    n = triangle.shape[-1]
    if triangle.shape[-2] < n:
        return None
    upper = triangle[..., :n, :]

    def inverse(v: Tensor, transposed: bool) -> Tensor:
        half = torch.linalg.solve_triangular(upper.mT, layout.pack(v)[..., None], upper=False)
        return layout.unpack(torch.linalg.solve_triangular(upper, half, upper=True)[..., 0], v)

    return inverse


def _damped_step(triangle: Tensor, q: Tensor, width: Tensor, mu: Tensor) -> Tensor:
    """Return the minimiser `(*P, n)` of `|R d + q|^2 + mu |width d|^2`."""
    floor = torch.where(width > 0, width, torch.ones_like(width))
    stacked = torch.cat([triangle, torch.diag_embed(mu.sqrt()[..., None] * floor)], -2)
    rhs = torch.cat([-q, torch.zeros_like(width)], -1)
    bad = ~stacked.isfinite().all(-1).all(-1)
    basis, upper = torch.linalg.qr(stacked.masked_fill(bad[..., None, None], 1.0))
    d = torch.linalg.solve_triangular(upper, basis.mT @ rhs[..., None], upper=True)[..., 0]
    return d.masked_fill(bad[..., None], torch.nan)
