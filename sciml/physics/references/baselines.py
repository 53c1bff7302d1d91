"""Trivial baselines of a problem: errors of predictions that solve nothing.

For a trial solution `u = A n + B` (the problem's hard constraint; A = 1, B = 0 without one)

    constant    the best a in           a A + B
    affine      the best a, b, c in    (a + b . x + c t) A + B
    named       closed-form approximations that the problem itself offers

A relative error of 1e-3 means nothing if the best constant has it too; skill is the error divided
by the constant's, and an error below the affine one shows that interactions between coordinates
were learned. Both fits are made on the evaluation points themselves; k unknowns fitted to n points
leave a mean square too small by 1 - k/n, which is divided out, so that the figure estimates the
error of the best fit on all points of the law.

All sums run over chunks of points and add up over processes, so that no more than one chunk of
points is in memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.pde import PDE, Points

# Affine fits above this number of unknowns would take longer than many trainings.
MAX_UNKNOWNS = 2048
# Fit errors below this share of the constant's are rounding: the solution is affine itself.
ROUNDING = 1e-5


def constant_error(reference: Tensor, basis: Tensor, offset: Tensor) -> float:
    """Return the relative L2 error of the best `a * basis + offset`; all arguments `(N,)`."""
    gram = _gram(reference, basis, offset, basis.new_zeros(len(basis), 0))
    return _error(gram, 1, len(basis), float(reference.double().square().sum()))


def affine_error(
    reference: Tensor, basis: Tensor, offset: Tensor, x: Tensor, t: Tensor | None = None
) -> float:
    """Return the relative L2 error of the best `(a + b . x + c t) * basis + offset`.

    Args:
        reference: Solution `(N,)`.
        basis: A `(N,)`.
        offset: B `(N,)`.
        x: Coordinates `(N, d)`.
        t: Time `(N, 1)`, or None to leave the term out.
    """
    columns = x if t is None else torch.cat([x, t], 1)
    gram = _gram(reference, basis, offset, columns)
    return _error(gram, len(gram) - 1, len(basis), float(reference.double().square().sum()))


class BaselineFit:
    """Baseline errors of a problem, gathered chunk by chunk.

    An affine fit is made where the points determine it twice over, `points >= 2 (d + 1)` (one
    more unknown with time), and the unknowns are at most `MAX_UNKNOWNS`. In higher dimension
    `linearised`, where the problem offers it, takes its place.

    Args:
        problem: The PDE.
        points: Number of evaluation points in all, over all processes.

    Attributes:
        affine: Whether an affine fit is made.
    """

    def __init__(self, problem: PDE, points: int) -> None:
        self._problem = problem
        unknowns = 1 + problem.dim + int(problem.time_dependent)
        self.affine = 2 * unknowns <= points and unknowns <= MAX_UNKNOWNS
        self._names: list[str] = []
        self._sums: list[Tensor] | None = None

    def __getstate__(self) -> dict:
        """Leave the problem out: processes send each other sums, and a problem may not pickle."""
        return {key: value for key, value in vars(self).items() if key != "_problem"}

    @torch.no_grad()
    def update(self, p: Points, reference: Tensor) -> None:
        """Add a chunk of points with the reference solution `(N,)` there."""
        reference = reference.double()
        basis, offset = self._problem.constant_basis(p)
        columns = p.x[:, :0]
        if self.affine:
            columns = p.x if p.t is None else torch.cat([p.x, p.t], 1)
        gram = _gram(reference, basis, offset, columns)
        squares = [reference.square().sum(), reference.new_tensor(float(len(reference)))]
        named = self._problem.baselines(p)
        squares += [(value.double() - reference).square().sum() for value in named.values()]
        if self._sums is None:
            self._names = list(named)
            self._sums = [torch.zeros_like(gram), torch.zeros_like(torch.stack(squares))]
        self._sums[0] += gram
        self._sums[1] += torch.stack(squares)

    def sums(self) -> list[Tensor]:
        """Return the float64 tensors to add up, in place, over processes; empty before points."""
        return self._sums or []

    def errors(self) -> dict[str, float]:
        """Return relative L2 errors by name: `constant`, `affine` where fitted, the named ones.

        `affine` is left out where the solution is affine itself, to rounding.
        """
        if self._sums is None:
            return {}
        gram, (norm, points, *squares) = self._sums[0], self._sums[1].tolist()
        errors = {"constant": _error(gram, 1, int(points), norm)}
        if self.affine:
            error = _error(gram, len(gram) - 1, int(points), norm)
            if error > ROUNDING * errors["constant"]:
                errors["affine"] = error
        for name, square in zip(self._names, squares, strict=True):
            errors[name] = (square / norm) ** 0.5
        return errors


def baseline_errors(
    problem: PDE, points: int, generator: torch.Generator, chunk: int | None = None
) -> dict[str, float]:
    """Return the baseline errors on freshly drawn evaluation points.

    Args:
        problem: The PDE.
        points: Number of points.
        generator: Source of randomness.
        chunk: Points held at a time; None for about 64 MB of coordinates.
    """
    chunk = chunk or max(1, 2**23 // problem.dim)
    fit = BaselineFit(problem, points)
    for first in range(0, points, chunk):
        p = problem.sample_test(min(chunk, points - first), generator)
        fit.update(p, problem.exact(p.x, p.t))
    return fit.errors()


def skills(error: float, errors: dict[str, float]) -> dict[str, float]:
    """Return `skill` and, where an affine baseline exists, `skill_affine`.

    Args:
        error: Relative L2 error of a solution.
        errors: Relative L2 errors of the baselines, from `BaselineFit.errors`.
    """
    result = {}
    if errors.get("constant", 0.0) > 0:
        result["skill"] = error / errors["constant"]
    affine = errors.get("affine", errors.get("linearised"))
    if affine:
        result["skill_affine"] = error / affine
    return result


def _gram(reference: Tensor, basis: Tensor, offset: Tensor, columns: Tensor) -> Tensor:
    """Return the float64 inner products of `basis * (1, columns)` and `reference - offset`."""
    basis, target = basis.double(), reference.double() - offset.double()
    rows = torch.cat([basis[:, None], basis[:, None] * columns.double(), target[:, None]], 1)
    return rows.T @ rows


def _error(gram: Tensor, unknowns: int, points: int, norm: float) -> float:
    """Return the relative error of the fit with the first columns of `_gram`.

    Args:
        gram: Inner products, target last.
        unknowns: How many of the leading columns to fit with.
        points: Number of points.
        norm: Squared norm of the reference.
    """
    keep = [*range(unknowns), len(gram) - 1]
    gram = gram[keep][:, keep]
    if gram[0, 0] > 0:
        # the constant first, exactly: it often carries all but 1e-10 of the square
        gram = gram[1:, 1:] - gram[1:, :1] * gram[:1, 1:] / gram[0, 0]
    left = gram[-1, -1]
    if len(gram) > 1:
        matrix, right = gram[:-1, :-1], gram[:-1, -1:]
        scale = matrix.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()
        # unit diagonal, and a ridge near rounding for columns that depend on each other
        matrix = matrix * scale * scale[:, None]
        matrix.diagonal().add_(1e-13 * len(matrix))
        right = right * scale[:, None]
        left = left - (right * torch.cholesky_solve(right, torch.linalg.cholesky(matrix))).sum()
    freedom = points / max(1, points - unknowns)
    return max(0.0, float(left) * freedom / norm) ** 0.5
