"""Linear least squares by one factorisation per problem."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance
from sciml.solvers.layout import Rows
from sciml.solvers.nonlinear.levenberg_marquardt import linearised
from sciml.solvers.norms import norm_of
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class LinearLeastSquares:
    """Least squares whose rows are affine in the unknown: QR, then singular values of the triangle.

    Columns are scaled to norm one. Directions whose singular value is below `cutoff` times the
    largest are left at the start: from zero that is the solution of least norm, in units of the
    columns. Converged is a problem whose new residual is orthogonal to all columns,
    `max_j |J_j^T r| / |J_j| <= rtol |r(x0)|`, so rows that were not affine show up as failures.

    Args:
        rtol: See above; None takes 1e-10 in float64, 1e-5 below.
        cutoff: See above; None takes the number of unknowns times the precision of the dtype.

    Raises:
        InvalidArgument: For a tolerance that cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import LinearLeastSquares, least_squares
        >>> x = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
        >>> y = torch.tensor([1.0, 3.0, 4.0], dtype=torch.float64)
        >>> found = least_squares(  # a straight line through three points
        ...     lambda p: p[:, :1] + p[:, 1:] * x - y,
        ...     torch.zeros(1, 2, dtype=torch.float64),
        ...     solver=LinearLeastSquares(), on_failure="raise",
        ... )
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [1.1667, 1.5]
    """

    rtol: float | Tensor | None = None
    cutoff: float | None = None

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, 0.0, 1)

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Take the one step from `x`.

        Raises:
            InvalidArgument: If the problem is of another kind or has no dense layout.
        """
        layout = task.layout
        if task.kind != "least_squares" or not isinstance(layout, Rows):
            raise InvalidArgument(
                f"LinearLeastSquares on a {task.kind} problem with {layout!r}",
                "least_squares with Rows",
            )
        jacobian, r = linearised(task, x)
        step, pinv, _ = solved(jacobian, -r, self.cutoff)
        new = x + layout.unpack(step, x)
        moved = layout.pack(task.rows(new))
        size = norm_of(jacobian.mT)
        pull = (jacobian.mT @ moved[..., None])[..., 0]
        pull = pull.abs() / size.masked_fill(size == 0, 1.0)
        residual = pull.amax(-1) if pull.shape[-1] else moved.new_zeros(moved.shape[:-1])
        scale = norm_of(r)
        relative = residual / scale.masked_fill(scale == 0, 1.0)
        rtol = default_tolerance(x.dtype) if self.rtol is None else self.rtol
        status = torch.where(relative <= rtol, int(Status.CONVERGED), int(Status.STALLED))
        fine = relative.isfinite() & new.isfinite().flatten(layout.ndim).all(-1)
        status = torch.where(fine, status, int(Status.NONFINITE))
        residual = residual.masked_fill(~fine, torch.nan)
        one = torch.ones_like(status)

        def inverse(v: Tensor, transposed: bool) -> Tensor:
            return layout.unpack((pinv @ layout.pack(v)[..., None])[..., 0], v)

        out = Outcome(
            torch.where(layout.spread(fine, x), new, x),
            status,
            one,
            residual,
            relative,
            task.evaluations,
        )
        out.inverse = inverse
        return out


def solved(
    jacobian: Tensor, b: Tensor, cutoff: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the minimisers of `|J x - b|`, `(J^T J)^+`, and the ranks.

    Args:
        jacobian: J `(*P, m, n)`.
        b: `(*P, m)`.
        cutoff: Smallest singular value kept, relative to the largest, of J with columns of norm
            one; None takes n eps.

    Returns:
        `(*P, n)`, of least norm in units of the columns; `(*P, n, n)`; integers `(*P)`. NaN and
        rank 0 for problems with entries that are not finite.
    """
    n, eps = jacobian.shape[-1], torch.finfo(jacobian.dtype).eps
    cutoff = max(n, 1) * eps if cutoff is None else cutoff
    both = torch.cat([jacobian, b[..., None]], -1)
    size = norm_of(both.mT)
    bad = ~size.isfinite().all(-1)
    # LAPACK may not return from NaN
    both = both.masked_fill(bad[..., None, None], 0.0)
    size = torch.where(bad[..., None] | (size == 0), 1.0, size)
    upper = torch.linalg.qr(both / size[..., None, :], mode="r")[1]
    left, values, right = torch.linalg.svd(upper[..., :n], full_matrices=False)
    largest = values.amax(-1, keepdim=True) if n else values
    kept = (values > cutoff * largest) & ~bad[..., None]
    inverse = torch.where(kept, 1 / values, 0.0)
    turned = (left.mT @ upper[..., n:])[..., 0]
    x = (right.mT @ (inverse * turned)[..., None])[..., 0] * size[..., n:] / size[..., :n]
    root = right.mT * inverse[..., None, :] / size[..., :n, None]
    x = x.masked_fill(bad[..., None], torch.nan)
    return x, root @ root.mT, kept.sum(-1)
