"""V-cycles: smoothing and coarse correction, for groups of problems with the same coarsening.

The smoother is a polynomial of G D^-1 A, D the diagonal, 0 < G <= 1 a factor per cell. With the
same steps after the correction as before it, in reversed order, the V-cycle

    M = S + E P B P^T E^T,    E = I - T A the error of smoothing,   S = (I - E E*) A^-1

is symmetric positive definite for *any* interpolation P and any SPD (or zero) B: it cannot spoil
conjugate gradients, whatever the geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciml.solvers.batch_parts import parts_of
from sciml.solvers.linear.coarsening import Transfer, coarsening_groups, hierarchy
from sciml.solvers.linear.grid_graph import add_neighbours_
from sciml.solvers.linear.stencil import Stencil

RANK = 1e-9  # eigenvalues of the coarsest matrix below this share of the largest are zero


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a V-cycle.

    Attributes:
        stencil: Its matrices.
        scaling: `(*P, *grid)`, G D^-1, zero at cells that are no unknowns.
        steps: Factors of the smoothing steps before the correction; reversed after it.
        transfer: To the next coarser level; None on the coarsest.
        factors: The scaling times every step.
    """

    stencil: Stencil
    scaling: Tensor
    steps: Sequence[float | Tensor]
    transfer: Transfer | None
    factors: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Multiply once, and where the level is made: later there may be no graph to record."""
        object.__setattr__(self, "factors", [step * self.scaling for step in self.steps])

    def part(self, rows: slice) -> Level:
        """Return the level of some problems of a flat batch."""
        transfer = self.transfer and self.transfer.part(rows)
        return Level(self.stencil.part(rows), self.scaling[rows], self.steps, transfer)


@dataclass(frozen=True, eq=False)
class Cycle:
    """The V-cycle of a group of problems with the same coarsening.

    Attributes:
        levels: From fine to coarse.
        coarsest: `(*P, n, n)`, the inverse on the coarsest level.
        which: Places of the problems in the flattened batch; None where they are all.
    """

    levels: Sequence[Level]
    coarsest: Tensor
    which: Tensor | None


def group_cycles(
    stencil: Stencil, make: Callable[[list[Stencil], list[Transfer | None]], list[Level]]
) -> list[Cycle]:
    """Return the V-cycles of a batch, for groups that are coarsened alike and fit into the cache.

    Args:
        stencil: The matrices.
        make: Makes the levels of a group from its matrices and transfers.
    """
    cycles, lead = [], len(stencil.problems)
    for waits, every in coarsening_groups(stencil):
        count = stencil.problems.numel() if every is None else len(every)
        cpu = lead > 0 and stencil.shift.device.type == "cpu"
        split = parts_of(count, stencil.grid.numel()) if cpu else [slice(None)]
        for part in split:
            which, mine = every, stencil
            if len(split) > 1 and every is None:
                which = torch.arange(count, device=stencil.shift.device)
            if which is not None:
                which = which[part]
                mine = stencil.map(lambda t: t.flatten(0, lead - 1).index_select(0, which))  # noqa: B023
            stencils, transfers = hierarchy(mine, waits)
            levels = make(stencils, transfers)
            cycles.append(Cycle(levels, coarsest_inverse(stencils[-1]), which))
    return cycles


def cycles_of_slice(cycles: Sequence[Cycle], places: slice, count: int) -> list[Cycle]:
    """Return the V-cycles of a slice of a batch of `count` problems; their arrays are views."""
    first, last, _ = places.indices(count)
    found = []
    for cycle in cycles:
        which = torch.arange(count) if cycle.which is None else cycle.which.cpu()  # ascending
        begin, end = (int(torch.searchsorted(which, place)) for place in (first, last))
        if begin == end:
            continue
        rows, mine = slice(begin, end), cycle
        if end - begin < len(which):
            mine = Cycle([lv.part(rows) for lv in cycle.levels], cycle.coarsest[rows], None)
        alone = end - begin == last - first
        which = None if alone else (which[rows] - first).to(cycle.coarsest.device)
        found.append(Cycle(mine.levels, mine.coarsest, which))
    return found


def v_cycles(cycles: Sequence[Cycle], stencil: Stencil, r: Tensor) -> Tensor:
    """Return M r `(..., *P, *grid)` of all groups, see `v_cycle`."""
    if cycles[0].which is None:
        return v_cycle(cycles[0].levels, cycles[0].coarsest, r)
    d, lead = stencil.ndim, len(stencil.problems)
    r = r.expand(torch.broadcast_shapes(r.shape, stencil.shift.shape))
    flat, axis = r.flatten(-d - lead, -d - 1), -d - 1
    made = [
        v_cycle(cycle.levels, cycle.coarsest, flat.index_select(axis, cycle.which))
        for cycle in cycles
    ]
    order = torch.cat([cycle.which for cycle in cycles]).argsort()
    return torch.cat(made, axis).index_select(axis, order).reshape(r.shape)


def v_cycle(levels: Sequence[Level], coarsest: Tensor | None, r: Tensor) -> Tensor:
    """Return M r, one V-cycle from zero; differentiable in r and in what the levels hold.

    Args:
        levels: From fine to coarse.
        coarsest: `(*P, n, n)`, the inverse on the coarsest level; None smooths there.
        r: `(..., *P, *grid)`.
    """
    level = levels[0]
    if level.transfer is None and coarsest is not None:
        d = level.stencil.ndim
        flat = r.flatten(-d)
        # not a matrix product, whose rounding depends on the size of the batch
        return (coarsest * flat[..., None, :]).sum(-1).reshape(r.shape)
    first, *more = level.factors
    x = first * r
    for factor in more:
        x = torch.addcmul(x, factor, residual(level.stencil, x, r))
    if level.transfer is not None:
        rest = level.transfer.down(residual(level.stencil, x, r))
        x = x + level.transfer.up(v_cycle(levels[1:], coarsest, rest))
    for factor in reversed(level.factors):
        x = torch.addcmul(x, factor, residual(level.stencil, x, r))
    return x


def residual(stencil: Stencil, x: Tensor, r: Tensor) -> Tensor:
    """Return r - A x."""
    out = torch.addcmul(r, stencil.diagonal, x, value=-1)
    return add_neighbours_(out, stencil.faces, x, 1)


def pseudo_inverse(a: Tensor) -> Tensor:
    """Return the pseudo-inverse of symmetric matrices `(..., n, n)`, the same bits in any batch."""
    size, vectors = torch.linalg.eigh(a)
    kept = size > RANK * size.amax(-1, keepdim=True)
    scaled = vectors * torch.where(kept, 1 / size.masked_fill(~kept, 1.0), 0.0)[..., None, :]
    return (scaled[..., :, None, :] * vectors[..., None, :, :]).sum(-1)


def coarsest_inverse(stencil: Stencil) -> Tensor:
    """Return the pseudo-inverse of small matrices `(*P, n, n)`, zero at cells without unknown."""
    n, grid = stencil.grid.numel(), tuple(stencil.grid)
    exact = stencil.to(torch.float64)
    units = torch.eye(n, dtype=torch.float64, device=stencil.shift.device)
    units = units.reshape(n, *(1,) * len(stencil.problems), *grid)
    units = units.expand(n, *stencil.problems, *grid)
    a = exact.times(units).flatten(-stencil.ndim).movedim(0, -2)
    mask = stencil.unknown.flatten(-stencil.ndim).to(a.dtype)
    root, _ = torch.linalg.cholesky_ex(a)
    pivots = root.diagonal(dim1=-2, dim2=-1).square()
    regular = pivots.amin(-1) > RANK * pivots.amax(-1)  # not of NaN: a breakdown
    if bool(regular.all()):
        inverse = torch.cholesky_inverse(root)
    else:
        wide, unit = regular[..., None, None], torch.eye(n, dtype=a.dtype, device=a.device)
        inverse = torch.cholesky_inverse(torch.where(wide, root, unit))
        inverse = torch.where(wide, inverse, pseudo_inverse(a))
    return (mask[..., None] * inverse * mask[..., None, :]).to(stencil.shift.dtype)
