"""Coarser grids of stencil matrices, and the transfers between grids, on any domain.

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
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.solvers.linear.built_stencil import build_stencil
from sciml.solvers.linear.grid_graph import around, high, low
from sciml.solvers.linear.stencil import Stencil

WEAK = 0.3  # share of the strongest coupling below which an axis waits
COARSEST = 64  # cells of a grid that is solved directly


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
            r = restrict_axis(r, below, above, axis)
        return r


def hierarchy(
    stencil: Stencil, waits: Sequence[int] | None = None
) -> tuple[list[Stencil], list[Transfer | None]]:
    """Return the matrices from fine to coarse, and between them the transfers.

    The last transfer is None. All problems of a batch are coarsened alike.

    Args:
        stencil: The finest matrices.
        waits: Per axis the levels on which it is not coarsened, see `coarsening_groups`; none by
            default.
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


def coarsening_groups(stencil: Stencil) -> list[tuple[tuple[int, ...], Tensor | None]]:
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
                faces[b] = restrict_axis(faces[b], *shares, axis).clamp_min(0)
        shift = restrict_axis(shift, share_below, share_above, axis).clamp_min(0)
        one, two = cell_pairs(unknown, axis)
        unknown = one | two
    coarse = build_stencil(faces, shift, unknown)
    damp = torch.where(stencil.unknown, damp, 0.0)
    return coarse, Transfer(tuple(axes), tuple(sizes), tuple(below), tuple(above), damp)


def restrict_axis(r: Tensor, below: Tensor, above: Tensor, axis: int) -> Tensor:
    """Return P^T r for one axis, see `Transfer`."""
    first, second = cell_pairs(r, axis)
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


def cell_pairs(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
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
