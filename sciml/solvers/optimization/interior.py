"""A primal-dual interior-point method for convex quadratic programs, batched and dense.

    minimise  x^T Q x / 2 + c^T x    subject to    A x = b,  G x <= h

Sources: Mehrotra 1992, SIAM J. Optim. 2(4) (predictor and corrector); Vandenberghe 2010, The CVXOPT
linear and quadratic cone program solvers (start); Farkas' lemma for the two certificates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.solution import Status

CLOSED = 1e-12  # residuals and gap, in scaled data, at which the iteration ends
OPEN = 1e-5  # violation, in scaled data, that counts: ten times what a degenerate minimum leaves
PATIENCE = 12  # iterations without halving the residual, after which round-off rules
SHIFT = 1e-13  # on the diagonal of the Newton matrix


@dataclass(frozen=True)
class Program:
    """Data of a batch of programs, float64: Q `(*P, n, n)`, c, A `(*P, m, n)`, b, G, h."""

    q: Tensor
    c: Tensor
    a: Tensor
    b: Tensor
    g: Tensor
    h: Tensor

    def select(self, which: Tensor) -> Program:
        """Return the programs `which`, booleans `(*P)`."""
        return Program(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


def times(matrix: Tensor, v: Tensor) -> Tensor:
    """Return the product of `(*P, k, n)` and `(*P, n)`."""
    return (matrix @ v[..., None])[..., 0]


def largest(v: Tensor) -> Tensor:
    """Return the largest absolute value of `(*P, k)`, 0 where k is 0."""
    return v.abs().amax(-1) if v.shape[-1] else v.sum(-1)


@dataclass(frozen=True)
class ScaledProgram:
    """A program whose data are of size one, and the way back.

    Rows of A and G have length one, x is measured in the largest right-hand side, the objective in
    its largest coefficient. A row of G with h = inf becomes `0 <= 1`.
    """

    program: Program
    size: Tensor
    cost: Tensor
    rows_a: Tensor
    rows_g: Tensor

    def back(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the point in the units of the user."""
        unit = self.cost / self.size
        return x * self.size, y * unit / self.rows_a, z * unit / self.rows_g


def scaled(p: Program) -> ScaledProgram:
    """Return the scaled program."""
    free = p.h == torch.inf
    g, h = p.g.masked_fill(free[..., None], 0.0), p.h.masked_fill(free, 1.0)
    rows_a, rows_g = (torch.linalg.vector_norm(t, dim=-1) for t in (p.a, g))
    rows_a, rows_g = (torch.where(t > 0, t, 1.0) for t in (rows_a, rows_g))
    a, b = p.a / rows_a[..., None], p.b / rows_a
    g, h = g / rows_g[..., None], h / rows_g
    size = largest(b).maximum(largest(h.masked_fill(free, 0.0)))[..., None]
    curved, slope = largest(p.q.flatten(-2))[..., None], largest(p.c)[..., None]
    # without right-hand sides the unconstrained minimum sets the size
    size = torch.where(size > 0, size, torch.where(curved > 0, slope / curved, 1.0))
    size = torch.where(size > 0, size, 1.0)
    cost = (curved * size**2).maximum(slope * size)
    cost = torch.where(cost > 0, cost, 1.0)
    h = torch.where(free, 1.0, h / size)
    q = p.q * (size**2 / cost)[..., None]
    return ScaledProgram(
        Program(q, p.c * size / cost, a, b / size, g, h), size, cost, rows_a, rows_g
    )


def interior(p: Program, max_iter: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return x, y, z, iterations `(*P)`, and the largest residual `(*P)` of scaled programs."""
    n, m, count = p.c.shape[-1], p.b.shape[-1], max(p.h.shape[-1], 1)
    shift = SHIFT * torch.eye(n, dtype=p.c.dtype, device=p.c.device)
    low = -SHIFT * torch.eye(m, dtype=p.c.dtype, device=p.c.device)
    low = low.expand(*p.c.shape[:-1], m, m)

    def factor(weight: Tensor) -> tuple[Tensor, Tensor]:
        top = p.q + p.g.mT @ (weight[..., None] * p.g) + shift
        both = torch.cat([torch.cat([top, p.a.mT], -1), torch.cat([p.a, low], -1)], -2)
        # LAPACK may not return from NaN
        both = torch.where(both.isfinite(), both, torch.zeros_like(both))
        return torch.linalg.lu_factor_ex(both)[:2]

    def solve(lu: tuple[Tensor, Tensor], top: Tensor, bottom: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.linalg.lu_solve(*lu, torch.cat([top, bottom], -1)[..., None])[..., 0]
        return both[..., :n], both[..., n:]

    x, y = solve(factor(torch.ones_like(p.h)), times(p.g.mT, p.h) - p.c, p.b)
    z = times(p.g, x) - p.h
    s = _shifted(-z)
    z = _shifted(z)
    iterations = torch.zeros(p.c.shape[:-1], dtype=torch.long, device=p.c.device)
    worst = p.c.new_full(p.c.shape[:-1], torch.inf)
    best, mark, since = (x, y, z), worst, torch.zeros_like(iterations)
    for _ in range(max_iter):
        rx = times(p.q, x) + p.c + times(p.a.mT, y) + times(p.g.mT, z)
        ry, rz = times(p.a, x) - p.b, times(p.g, x) + s - p.h
        gap = (s * z).sum(-1) / count
        unit = 1 + largest(x) + largest(y).maximum(largest(z))
        now = torch.stack([largest(rx), largest(ry), largest(rz), gap]).amax(0) / unit
        better = (now < worst)[..., None]
        best = tuple(torch.where(better, v, w) for v, w in zip((x, y, z), best, strict=True))
        worst = now.minimum(worst)
        halved = worst <= 0.5 * mark
        mark, since = torch.where(halved, worst, mark), torch.where(halved, 0, since + 1)
        going = (worst > CLOSED) & (since < PATIENCE)
        if not bool(going.any()):
            break
        lu = factor(z / s)

        def move(target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """Return the Newton direction towards `s z = s z + target`."""
            top = -rx - times(p.g.mT, target / s + z / s * rz)  # noqa: B023 (called at once)
            dx, dy = solve(lu, top, -ry)  # noqa: B023
            ds = -rz - times(p.g, dx)  # noqa: B023
            return dx, dy, ds, (target - z * ds) / s  # noqa: B023

        _, _, ds, dz = move(-s * z)
        t = _longest(s, ds).minimum(_longest(z, dz))[..., None]
        ahead = ((s + t * ds) * (z + t * dz)).sum(-1) / count
        centre = (ahead / torch.where(gap > 0, gap, 1.0)).clamp(0, 1) ** 3 * gap
        dx, dy, ds, dz = move(centre[..., None] - s * z - ds * dz)
        t = (0.99 * _longest(s, ds).minimum(_longest(z, dz))).clamp_max(1.0)
        finite = torch.cat([dx, dy, ds, dz], -1).isfinite().all(-1)
        t = torch.where(going & finite, t, 0.0)[..., None]
        iterations += going
        x, y, s, z = (
            torch.where(t > 0, v + t * d, v) for v, d in ((x, dx), (y, dy), (s, ds), (z, dz))
        )
    return *best, iterations, worst


def why(p: Program, max_iter: int) -> Tensor:
    """Return the status `(k)` of scaled programs `(k, ...)` that were not solved.

    Two programs that always have a solution decide: the smallest violation of the constraints, and
    the smallest violation by a direction of descent, `c^T d = -1`, of what makes it endless
    (Q d = 0, A d = 0, G d <= 0).
    """
    k, n = p.c.shape
    m, rows = p.b.shape[-1], p.h.shape[-1]
    like = {"dtype": p.c.dtype, "device": p.c.device}

    def eye(size: int) -> Tensor:
        return torch.eye(size, **like).expand(k, size, size)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(k, *shape, **like)

    square = torch.diag_embed(torch.cat([zeros(n), zeros(m + rows) + 1], -1))
    nearest = Program(
        square,
        zeros(n + m + rows),
        torch.cat([p.a, -eye(m), zeros(m, rows)], -1),
        p.b,
        torch.cat([p.g, zeros(rows, m), -eye(rows)], -1),
        p.h,
    )
    x = interior(nearest, max_iter)[0][..., :n]
    broken = largest(times(p.a, x) - p.b).maximum(largest((times(p.g, x) - p.h).clamp_min(0)))
    flat = p.q.mT @ p.q + p.a.mT @ p.a
    top = torch.cat([flat, zeros(n, rows)], -1)
    descent = Program(
        torch.cat([top, torch.cat([zeros(rows, n), eye(rows)], -1)], -2),
        zeros(n + rows),
        torch.cat([p.c, zeros(rows)], -1)[..., None, :],
        -torch.ones(k, 1, **like),
        torch.cat([p.g, -eye(rows)], -1),
        zeros(rows),
    )
    d = interior(descent, max_iter)[0][..., :n]
    d = d / largest(d)[..., None].clamp_min(1e-300)
    bent = largest(times(p.q, d)).maximum(largest(times(p.a, d)))
    bent = bent.maximum(largest(times(p.g, d).clamp_min(0)))
    falls = (p.c * d).sum(-1) < -OPEN
    status = torch.where(falls & (bent <= OPEN), int(Status.UNBOUNDED), int(Status.MAX_ITER))
    return torch.where(broken > OPEN, int(Status.INFEASIBLE), status)


def _shifted(v: Tensor) -> Tensor:
    """Return `v` moved to positive entries, if it has others."""
    least = v.amin(-1, keepdim=True)
    return torch.where(least > 0, v, v - least + 1)


def _longest(v: Tensor, dv: Tensor) -> Tensor:
    """Return the largest step up to 1 that keeps `v + t dv` non-negative, `(*P)`."""
    limit = torch.where(dv < 0, -v / torch.where(dv < 0, dv, -1.0), torch.inf)
    return limit.amin(-1).clamp_max(1.0)
