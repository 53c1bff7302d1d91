"""Geometric multigrid for stencil matrices on any domain, batched, as an SPD preconditioner.

Every level is a `Stencil` again. Coarsening an axis joins pairs of cells. Read faces as conductors:

    faces across the axis      1 / w_c = (1 / w_1 + 1 / w_2) / 2 + 1 / w, w the face between the
                               pairs, w_1 and w_2 those inside them: twice the distance
    faces of the other axes    w_c = P^T w, the sum of two where coefficients are constant
    shift                      s_c = P^T (q s),  q = 1 / (1 + s / (2 w)),  w the mean face of the
                               cell: the surface is half a cell further away

and a coarse cell is an unknown if one of its two is. Walls, cut cells, surfaces and coefficients
are thereby carried along. An axis whose couplings are weak (below `WEAK` of the strongest) is not
coarsened until the others have caught up, so that point smoothers do for anisotropy along axes; a
problem's coarsening is its own, and problems that are coarsened alike are computed together.

Interpolation P divides the drop between the centres of coarse cells as the conductors do, 3/4 and
1/4 where coefficients are constant; a cell that a jump parts from its twin follows its neighbours.
It is constant at walls and falls by q beside surfaces. Restriction is the transpose.

The smoother is a Chebyshev polynomial of G D^-1 A, D the diagonal, 0 < G <= 1 a factor per cell
(1 here, learned in `sciml.networks`). Its eigenvalues lie in (0, 2], as off-diagonals add up to D
at most; the polynomial is below 1 there, so a smoothing step reduces the A-norm of every error.
With the same steps after the correction as before it, in reversed order, the V-cycle

    M = S + E P B P^T E^T,    E = I - T A the error of smoothing,   S = (I - E E*) A^-1

is symmetric positive definite for *any* interpolation P and any SPD (or zero) B: it cannot spoil
conjugate gradients, whatever the geometry.

Sources: Trottenberg, Oosterlee & Schueller, Multigrid, 2001; McAdams, Sifakis & Teran 2010 (SCA;
multigrid-PCG on voxel domains, with another interpolation and smoother); Adams, Brezina, Hu &
Tuminaro 2003, JCP 188 (polynomial smoothers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import typed
from sciml.errors import InvalidArgument
from sciml.solvers.batch_parts import parts_of
from sciml.solvers.bookkeeping import check_counts
from sciml.solvers.linear.stencil import Stencil, around, build_stencil, high, low
from sciml.solvers.linear.stencil_preconditioner import StencilPreconditioner

WEAK = 0.3  # share of the strongest coupling below which an axis waits
COARSEST = 64  # cells of a grid that is solved directly
RANK = 1e-9  # eigenvalues of the coarsest matrix below this share of the largest are zero


@dataclass(frozen=True, eq=False)
class Transfer:
    """Interpolation from a coarse grid to a fine one, one axis after the other.

    Attributes:
        axes: Negative numbers of the coarsened axes, in the order of coarsening.
        sizes: Cells along each before it was coarsened.
        below: Per coarsened axis, at the faces between coarse cells: the share in [0, 1] of the
            cell below the face in the value of the fine cell just above it.
        above: Likewise the share of the cell above in the value of the fine cell just below.
        damp: `(*P, *grid)` of the fine grid, q above, zero at cells that are no unknowns.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    below: tuple[Tensor, ...]
    above: tuple[Tensor, ...]
    damp: Tensor

    def up(self, x: Tensor) -> Tensor:
        """Return P x on the fine grid."""
        steps = list(zip(self.axes, self.sizes, self.below, self.above, strict=True))
        for axis, size, below, above in reversed(steps):
            drop = high(x, axis) - low(x, axis)
            first, second = x.clone(), x.clone()
            high(first, axis).addcmul_(below, drop, value=-1)
            low(second, axis).addcmul_(above, drop)
            place = x.dim() + axis
            x = torch.stack([first, second], place + 1).flatten(place, place + 1)
            x = x.narrow(axis, 0, size)
        return self.damp * x

    def part(self, rows: slice) -> Transfer:
        """Return the transfer of some problems of a flat batch."""
        below, above = (tuple(t[rows] for t in ts) for ts in (self.below, self.above))
        return Transfer(self.axes, self.sizes, below, above, self.damp[rows])

    def down(self, r: Tensor) -> Tensor:
        """Return P^T r on the coarse grid."""
        r = self.damp * r
        for axis, below, above in zip(self.axes, self.below, self.above, strict=True):
            r = gathered(r, below, above, axis)
        return r


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
    """A V-cycle of problems that are coarsened alike.

    Attributes:
        levels: From fine to coarse.
        coarsest: `(*P, n, n)`, the inverse on the coarsest level.
        which: Places of the problems in the flattened batch; None where they are all.
    """

    levels: Sequence[Level]
    coarsest: Tensor
    which: Tensor | None


def grouped(
    stencil: Stencil, make: Callable[[list[Stencil], list[Transfer | None]], list[Level]]
) -> list[Cycle]:
    """Return the V-cycles of a batch, for groups that are coarsened alike and fit into the cache.

    Args:
        stencil: The matrices.
        make: Makes the levels of a group from its matrices and transfers.
    """
    cycles, lead = [], len(stencil.problems)
    for waits, every in alike(stencil):
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


def of_places(cycles: Sequence[Cycle], places: slice, count: int) -> list[Cycle]:
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
    for a, w in enumerate(stencil.faces):
        axis = a - stencil.ndim
        high(out, axis).addcmul_(w, low(x, axis))
        low(out, axis).addcmul_(w, high(x, axis))
    return out


@typed
class Multigrid(StencilPreconditioner):
    """One V-cycle of the multigrid method of the module's text.

    Args:
        stencil: The matrices.
        degree: Smoothing steps before and after the correction.
        ratio: The smoother is made for eigenvalues of D^-1 A from 2 / ratio to 2.
        dtype: In which it computes, that of the stencil by default; float32 is twice as fast.

    Example:
        >>> faces = torch.ones(1, 31, 32), torch.ones(1, 32, 31)
        >>> s = Stencil(faces, torch.ones(1, 32, 32) * 0.01, torch.ones(1, 32, 32) > 0)
        >>> Multigrid(s).grids
        [[(32, 32), (16, 16), (8, 8)]]

    Raises:
        InvalidArgument: If `degree` is below 1 or `ratio` not above 1.
    """

    def __init__(
        self,
        stencil: Stencil,
        *,
        degree: int = 2,
        ratio: float = 4.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(stencil, dtype)
        check_counts(degree=degree)
        if degree < 1 or not ratio > 1:
            raise InvalidArgument(
                f"degree={degree}, ratio={ratio}", "one smoothing step or more, and a ratio above 1"
            )
        steps = chebyshev_steps(degree, 2 / ratio, 2.0)
        with torch.no_grad():
            self.cycles = grouped(
                self.stencil.to(self.dtype),
                lambda stencils, transfers: [
                    Level(s, s.unknown / s.diagonal, steps, t)
                    for s, t in zip(stencils, transfers, strict=True)
                ],
            )

    @property
    def grids(self) -> list[list[tuple[int, ...]]]:
        """Return the cells per axis of every level, for every group that is coarsened alike."""
        return [[tuple(level.stencil.grid) for level in c.levels] for c in self.cycles]

    def _keep(self, places: slice) -> None:
        self.cycles = of_places(self.cycles, places, self.stencil.problems[0])

    def product(self, r: Tensor) -> Tensor:
        """Return one V-cycle from zero."""
        return v_cycles(self.cycles, self.stencil, r)


def chebyshev_steps(degree: int, least: float, most: float) -> list[float]:
    """Return the steps whose polynomial is smallest on an interval of eigenvalues."""
    centre, half = (most + least) / 2, (most - least) / 2
    roots = (math.cos(math.pi * (2 * k + 1) / (2 * degree)) for k in range(degree))
    return [1 / (centre + half * root) for root in roots]


def hierarchy(
    stencil: Stencil, waits: Sequence[int] | None = None
) -> tuple[list[Stencil], list[Transfer | None]]:
    """Return the matrices from fine to coarse, and between them the transfers.

    The last transfer is None. All problems of a batch are coarsened alike.

    Args:
        stencil: The finest matrices.
        waits: Per axis the levels on which it is not coarsened, see `alike`; none by default.
    """
    stencils, transfers = [stencil], []
    waits = tuple(waits or (0,) * stencil.ndim)
    while stencils[-1].grid.numel() > COARSEST:
        fine = stencils[-1]
        every = [a - fine.ndim for a in range(fine.ndim) if fine.grid[a] > 1]
        ready = [axis for axis in every if waits[axis] <= len(transfers)]
        coarse, transfer = coarsen(fine, ready or every)
        stencils.append(coarse)
        transfers.append(transfer)
    return stencils, [*transfers, None]


def alike(stencil: Stencil) -> list[tuple[tuple[int, ...], Tensor | None]]:
    """Return the groups of problems that are coarsened alike.

    A level that an axis waits makes its couplings four times as strong beside the others'.

    Returns:
        Per group how many levels every axis waits, and the places of its problems in the flattened
        batch; None where all are one group.
    """
    d, strengths = stencil.ndim, []
    for w in stencil.faces:
        open_faces = (w > 0).flatten(-d).sum(-1).clamp_min(1)
        strengths.append(w.flatten(-d).sum(-1) / open_faces)
    size = torch.stack(strengths, -1).reshape(-1, d)
    least = torch.finfo(size.dtype).tiny
    share = size.clamp_min(least) / size.amax(-1, keepdim=True).clamp_min(least)
    waits = (torch.log(WEAK / share) / math.log(4)).ceil().clamp_min(0).long()
    kinds, place = waits.unique(dim=0, return_inverse=True)
    found = [tuple(kind) for kind in kinds.tolist()]  # once per matrix: shapes depend on it
    if len(found) == 1:
        return [(found[0], None)]
    return [(kind, (place == k).nonzero()[:, 0]) for k, kind in enumerate(found)]


def coarsen(stencil: Stencil, axes: Sequence[int]) -> tuple[Stencil, Transfer]:
    """Return the matrices with pairs of cells joined along some axes, and the transfer."""
    faces, shift, unknown = list(stencil.faces), stencil.shift, stencil.unknown
    damp = surface_damping(stencil)
    shift = shift * damp
    sizes, below, above = [], [], []
    for axis in axes:
        sizes.append(shift.shape[axis])
        share_below, share_above, faces[axis] = _across(faces[axis], shift.shape[axis], axis)
        below.append(share_below)
        above.append(share_above)
        for b in range(-stencil.ndim, 0):
            if b != axis:  # a face lies between two cells of this axis' shares
                shares = ((low(t, b) + high(t, b)) / 2 for t in (share_below, share_above))
                # at a share of 1 round-off may leave less than nothing
                faces[b] = gathered(faces[b], *shares, axis).clamp_min(0)
        shift = gathered(shift, share_below, share_above, axis).clamp_min(0)
        one, two = halves(unknown, axis)
        unknown = one | two
    coarse = build_stencil(faces, shift, unknown)
    damp = torch.where(stencil.unknown, damp, 0.0)
    return coarse, Transfer(tuple(axes), tuple(sizes), tuple(below), tuple(above), damp)


def gathered(r: Tensor, below: Tensor, above: Tensor, axis: int) -> Tensor:
    """Return P^T r for one axis, see `Transfer`."""
    first, second = halves(r, axis)
    flow = above * low(second, axis) - below * high(first, axis)
    r = first + second
    high(r, axis).add_(flow)
    low(r, axis).sub_(flow)
    return r


def surface_damping(stencil: Stencil) -> Tensor:
    """Return q of the module's text, `(*P, *grid)`."""
    count = around([(w > 0).to(w.dtype) for w in stencil.faces])
    mean = around(stencil.faces) / count.clamp_min(1)
    # a cell that only a surface touches keeps its shift
    return torch.where(mean > 0, 2 * mean / (2 * mean + stencil.shift), 1.0)


def halves(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the first and the second cells of all pairs along an axis; an odd end gets a zero."""
    if x.shape[axis] % 2:
        x = pad(x, [*[0, 0] * (-axis - 1), 0, 1])
    place = x.dim() + axis
    pairs = x.unflatten(place, (x.shape[axis] // 2, 2))
    return pairs.select(place + 1, 0), pairs.select(place + 1, 1)


def _across(w: Tensor, cells: int, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shares of a transfer and the coarse faces, from the fine faces of one axis."""
    place = w.dim() + axis
    pairs = -(-cells // 2)
    wide = pad(w, [*[0, 0] * (-axis - 1), 0, 2 * pairs - (cells - 1)])
    wide = wide.unflatten(place, (pairs, 2))
    inner, outer = wide.select(place + 1, 0), low(wide.select(place + 1, 1), axis)
    closed = outer == 0
    between = 1 / outer.masked_fill(closed, 1.0)
    # a pair that is not joined inside counts as wide as the face between the pairs
    first, second = low(inner, axis), high(inner, axis)
    r_first = torch.where(first > 0, 1 / first.masked_fill(first == 0, 1.0), between) / 2
    r_second = torch.where(second > 0, 1 / second.masked_fill(second == 0, 1.0), between) / 2
    whole = r_first + between + r_second
    above = torch.where(closed, 0.0, r_first / whole)
    below = torch.where(closed, 0.0, r_second / whole)
    return below, above, torch.where(closed, 0.0, 1 / whole)


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
