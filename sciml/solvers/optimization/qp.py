"""Convex quadratic programs with exact derivatives.

    minimise  x^T Q x / 2 + c^T x    subject to    A x = b,  G x <= h

The solution is the root of the optimality conditions (Karush, Kuhn, Tucker)

    Q x + c + A^T y + G^T z = 0,    A x = b,    min(z, h - G x) = 0.

An interior-point method finds the active constraints, Newton's method on these equations, which are
linear once the active set is known, the point to round-off; its factor serves the derivative. The
derivative holds, to all orders, where each constraint is either strictly active (z > 0) or strictly
inactive; where both z and h - G x vanish there is none, and that of the inactive piece is returned.

Sources: Amos & Kolter 2017, arXiv 1703.00443 (a program as a layer); Qi & Sun 1993, Math. Program.
58 (Newton's method on the minimum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.arguments import maybe, number, shown, takes, tensor, whole
from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance
from sciml.solvers.entry_points import root
from sciml.solvers.nonlinear.newton import Newton
from sciml.solvers.optimization.interior import Program, interior, largest, scaled, times, why
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome, Policy, Solution, Status
from sciml.solvers.solve_arguments import PARTS, Adjoint
from sciml.tensor_types import check_alike

CURES = {
    Status.INFEASIBLE: "No point meets all constraints: loosen inequality=(G, h), or move one into "
    "the objective as a penalty",
    Status.UNBOUNDED: "Add bounds to inequality=(G, h), or a small multiple of the identity to "
    "quadratic",
    Status.NONCONVEX: "Check the sign of quadratic (a maximum is the minimum of its negative), or "
    "take minimise() for a local minimum",
    Status.NONFINITE: "Leave programs with NaN in their data out",
    Status.MAX_ITER: "Raise max_iter or rtol, or remove constraints that repeat others",
}


class QPPoint(NamedTuple):
    """A solution with its multipliers.

    Attributes:
        x: `(B, n)`.
        equality: y `(B, m)`, of `A x = b`.
        inequality: z `(B, p)`, of `G x <= h`, not negative.

    Example:
        >>> import torch
        >>> from sciml.solvers import qp
        >>> quadratic, linear = torch.eye(2)[None], torch.tensor([[-3.0, 0.0]])
        >>> bound = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0]])  # x_1 <= 1
        >>> point = qp(quadratic, linear, inequality=bound, on_failure="raise").value
        >>> [round(v, 3) for v in point.x[0].tolist()], round(point.inequality.item(), 3)
        ([1.0, 0.0], 2.0)
    """

    x: Tensor
    equality: Tensor
    inequality: Tensor


@takes(quadratic=tensor, linear=tensor, rtol=maybe(number), max_iter=whole, **PARTS)
def qp(
    quadratic: Tensor,
    linear: Tensor,
    *,
    equality: tuple[Tensor, Tensor] | None = None,
    inequality: tuple[Tensor, Tensor] | None = None,
    on_failure: Policy,
    rtol: float | None = None,
    max_iter: int = 50,
    adjoint: Adjoint | None = None,
) -> Solution:
    """Minimise `x^T Q x / 2 + c^T x` subject to `A x = b` and `G x <= h`, for a batch.

    Derivatives in all of Q, c, A, b, G and h; only the symmetric part of Q counts. The work is in
    float64 and dense: n up to some hundreds.

    Args:
        quadratic: Q `(B, n, n)`, or `(n, n)` for all; positive semi-definite. Zero is a linear
            program.
        linear: c `(B, n)`.
        equality: A `(B, m, n)` or `(m, n)`, and b `(B, m)` or `(m,)`.
        inequality: G `(B, p, n)` or `(p, n)`, and h `(B, p)` or `(p,)`; entries of h may be inf.
        on_failure: As in `root`. A program without solution has the status INFEASIBLE, UNBOUNDED or
            NONCONVEX; NONFINITE if its data are.
        rtol: Tolerance on each condition over the size of its own terms; None takes 1e-10 in
            float64, 1e-5 below.
        max_iter: Largest number of interior-point iterations.
        adjoint: Derivative rule, by default `Implicit()`; `Implicit(order=2)` for second ones.

    Returns:
        Value `QPPoint(x, equality, inequality)`, and per program status, iterations and residual.

    Raises:
        ConvergenceError: Under `raise`, if a program was not solved.
        InvalidArgument: If shapes do not fit.
        InvalidType: If data are no tensors, or of several dtypes.

    Example:
        >>> import torch
        >>> from sciml.solvers import qp
        >>> quadratic, linear = torch.eye(2)[None], torch.tensor([[-3.0, 0.0]])
        >>> bound = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[1.0]])  # x_1 <= 1
        >>> found = qp(quadratic, linear, inequality=bound, on_failure="raise")
        >>> [round(v, 3) for v in found.value.x[0].tolist()]
        [1.0, 0.0]
    """
    if max_iter < 1:
        raise InvalidArgument(f"max_iter={max_iter}", "1 or more")
    check_tolerances(rtol, 0.0)
    data = _checked(quadratic, linear, equality, inequality)
    size, n, m, p = len(linear), linear.shape[-1], data[3].shape[-1], data[5].shape[-1]
    start = QPPoint(*(linear.new_zeros(size, k) for k in (n, m, p)))
    solver = InteriorPoint(rtol=rtol, max_iter=max_iter)
    return root(_conditions, start, data, on_failure=on_failure, solver=solver, adjoint=adjoint)


@dataclass(frozen=True)
class InteriorPoint:
    """Interior-point method, then Newton's method on the optimality conditions."""

    rtol: float | None = None
    max_iter: int = 50

    def __call__(self, task: Task, start: Tensor) -> Outcome:
        """Solve; `start` is only looked at for its shape."""
        lead, dtype = start.shape[:-1], start.dtype
        given = Program(*_wide(task.theta, lead))
        given = Program(0.5 * (given.q + given.q.mT), *list(vars(given).values())[1:])
        fine = _finite(given)
        safe = _harmless(given, fine)
        rows = safe
        if not safe.h.shape[-1]:  # one constraint that never binds keeps the formulas whole
            rows = Program(*list(vars(safe).values())[:4], safe.q[..., :1, :] * 0, _one(safe.c))
        small = scaled(rows)
        x, y, z, iterations, _ = interior(small.program, self.max_iter)
        x, y, z = small.back(x, y, z)
        point = torch.cat([x, y, z[..., : safe.h.shape[-1]]], -1)
        rough = point.to(dtype)
        task.scale(start, task.residual(start))
        polished = Newton(rtol=1e-14 if dtype == torch.float64 else 1e-7, max_iter=5)(task, rough)
        first, second = _relative(safe, rough.double()), _relative(safe, polished.value.double())
        better = second < first
        value = torch.where(better[..., None], polished.value, rough)
        relative = torch.where(better, second, first)
        rtol = default_tolerance(dtype) if self.rtol is None else self.rtol
        status = torch.where(relative <= rtol, int(Status.CONVERGED), int(Status.MAX_ITER))
        lost = relative > rtol
        if bool(lost.any()):
            status[lost] = why(small.program.select(lost), self.max_iter)
        status = torch.where(_convex(safe.q, dtype), status, int(Status.NONCONVEX))
        status = torch.where(fine, status, int(Status.NONFINITE))
        residual = task.layout.norm(task.residual(value))
        relative = torch.where(fine, relative, torch.nan).to(dtype)
        out = Outcome(value, status, iterations, residual, relative, task.evaluations)
        out.inverse = polished.inverse
        return out

    def cures(self, out: Outcome) -> str:
        """Return what to type after a failure."""
        parts = []
        for status, text in CURES.items():
            if bool((out.status == status).any()):
                parts.append(text)
        parts.append("on_failure='warn', 'mask' or 'best' carries on, Solution.status says which")
        return ". ".join(parts)


def _conditions(
    point: QPPoint, q: Tensor, c: Tensor, a: Tensor, b: Tensor, g: Tensor, h: Tensor
) -> QPPoint:
    """Return the residuals of the optimality conditions."""
    x, y, z = point
    slope = 0.5 * times(q + q.mT, x) + c + times(a.mT, y) + times(g.mT, z)
    slack = h - times(g, x)
    # not torch.minimum, which halves the derivative at ties
    return QPPoint(slope, times(a, x) - b, torch.where(z > slack, slack, z))


def _relative(p: Program, point: Tensor) -> Tensor:
    """Return the largest residual `(*P)`, each over the size of its own terms."""
    n, m = p.c.shape[-1], p.b.shape[-1]
    x, y, z = point[..., :n], point[..., n : n + m], point[..., n + m :]
    terms = (times(p.q, x), p.c, times(p.a.mT, y), times(p.g.mT, z))
    slope_size = torch.stack([largest(t) for t in terms]).amax(0)
    slope = largest(sum(terms))
    ax, gx = times(p.a, x), times(p.g, x)
    bounds = p.h.masked_fill(p.h == torch.inf, 0.0)
    rows = torch.linalg.vector_norm(p.g, dim=-1)
    curved = largest(p.q.flatten(-2))
    length = torch.linalg.vector_norm(x, dim=-1)
    length = length.maximum(torch.where(curved > 0, largest(p.c) / curved, 0.0))
    size = torch.stack([largest(ax), largest(p.b), largest(bounds), largest(rows) * length]).amax(0)
    tiny = torch.finfo(x.dtype).tiny
    slope_size, size = slope_size.clamp_min(tiny), size.clamp_min(tiny)
    slack = (p.h - gx) / size[..., None]
    weight = z * rows / slope_size[..., None]
    apart = largest(torch.where(weight > slack, slack, weight))
    out = torch.stack([slope / slope_size, largest(ax - p.b) / size, apart]).amax(0)
    return torch.where(out.isfinite(), out, torch.inf)


def _convex(q: Tensor, dtype: torch.dtype) -> Tensor:
    """Return whether the lowest eigenvalue is zero or more, to the precision of the data."""
    values = torch.linalg.eigvalsh(q)
    noise = 10 * q.shape[-1] * torch.finfo(dtype).eps
    return values.amin(-1) >= -noise * values.abs().amax(-1)


def _finite(p: Program) -> Tensor:
    """Return which programs have finite data, but for bounds of infinity, `(*P)`."""
    fine = [t.isfinite().flatten(-2).all(-1) for t in (p.q, p.a, p.g)]
    fine += [p.c.isfinite().all(-1), p.b.isfinite().all(-1)]
    fine.append((p.h.isfinite() | (p.h == torch.inf)).all(-1))
    return torch.stack(fine).all(0)


def _harmless(p: Program, fine: Tensor) -> Program:
    """Return the programs with zeros in place of those that are not finite."""
    wide, long = fine[..., None, None], fine[..., None]
    matrices = (torch.where(wide, t, 0.0) for t in (p.q, p.a, p.g))
    vectors = (torch.where(long, t, 0.0) for t in (p.c, p.b, p.h))
    q, a, g = matrices
    c, b, h = vectors
    return Program(q, c, a, b, g, h)


def _one(c: Tensor) -> Tensor:
    return torch.ones_like(c[..., :1])


def _wide(data: tuple[Tensor, ...], lead: torch.Size) -> list[Tensor]:
    """Return the data in float64, each with all leading axes."""
    ranks = (2, 1, 2, 1, 2, 1)
    return [
        t.double().expand(*lead, *t.shape[t.dim() - r :]) for t, r in zip(data, ranks, strict=True)
    ]


def _checked(
    quadratic: Tensor,
    linear: Tensor,
    equality: tuple[Tensor, Tensor] | None,
    inequality: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, ...]:
    """Return Q, c, A, b, G, h, all with the batch axis."""
    for name, pair in (("equality", equality), ("inequality", inequality)):
        if pair is not None and (not isinstance(pair, (tuple, list)) or len(pair) != 2):
            raise InvalidType(f"{name} of type {type(pair).__name__}", "a pair (matrix, vector)")
    given = {"quadratic": quadratic, "linear": linear}
    given |= {} if equality is None else dict(zip("Ab", equality, strict=True))
    given |= {} if inequality is None else dict(zip("Gh", inequality, strict=True))
    for name, t in given.items():
        if wanted := tensor(t):
            raise InvalidType(f"{name} is {shown(t)}", wanted)
    check_alike(**given)
    if linear.dim() != 2 or not linear.shape[-1]:
        raise InvalidArgument(
            f"linear of shape {tuple(linear.shape)}", "(B, n) with n >= 1", "Type linear[None]"
        )
    size, n = linear.shape
    out = [_fitted("quadratic", quadratic, (size, n, n)), linear]
    for pair, names in ((equality, "Ab"), (inequality, "Gh")):
        if pair is None:
            out += [linear.new_zeros(size, 0, n), linear.new_zeros(size, 0)]
            continue
        rows = pair[0].shape[-2] if pair[0].dim() > 1 else -1
        out.append(_fitted(names[0], pair[0], (size, rows, n)))
        out.append(_fitted(names[1], pair[1], (size, rows)))
    return tuple(out)


def _fitted(name: str, t: Tensor, shape: tuple[int, ...]) -> Tensor:
    if t.shape not in (shape, shape[1:]):
        raise InvalidArgument(
            f"{name} of shape {tuple(t.shape)}",
            f"{shape}, or {shape[1:]} for all programs".replace("-1", "rows"),
        )
    return t.expand(shape)
