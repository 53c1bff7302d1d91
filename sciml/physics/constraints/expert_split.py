"""Splits of a grid into blocks, one per expert, and windows over them.

The grid is cut into counts[a] intervals along every axis a; an expert owns one product of
intervals. Its window is a product of one-dimensional windows, so that the mixture

    u(x) = sum_n b_n(x) sum_k phi_k(x) w_kn

costs one product per axis. Without overlap phi is 1 in the block and 0 elsewhere; with an overlap
of o points each border is replaced by a ramp cos^2 of o points to both sides, and the windows sum
to one everywhere (a partition of unity). One expert has the window 1: the mixture is then the
global constraint, bit for bit.

Source: Chalapathi, Du & Krishnapriyan 2024, arXiv 2402.13412 (blocks without overlap). Departures:
sizes that the counts do not divide, overlap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.arguments import counts, either, names, takes, text, whole
from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


@typed
class Split:
    """A grid cut into blocks, one per expert.

    Args:
        sizes: Points of the grid along every axis.
        counts: Intervals along every axis.
        overlap: Points to either side of a border over which windows fade, 0 for none.
        periodic: Which axes are periodic; there the ends are a border too. None for none.

    Attributes:
        experts: Number of blocks, K.
        edges: Of every axis, the first points of all intervals and the number of points.

    Raises:
        InvalidArgument: If a block were empty, or narrower than its two ramps.

    Example:
        >>> from sciml.physics.constraints import Split
        >>> Split((101, 1024), (1, 4)).experts
        4
    """

    def __init__(
        self,
        sizes: Sequence[int],
        counts: Sequence[int],
        overlap: int = 0,
        periodic: Sequence[bool] | None = None,
    ) -> None:
        self.sizes, self.counts = tuple(sizes), tuple(counts)
        self.overlap = overlap
        self.periodic = tuple(periodic or [False] * len(self.sizes))
        if len(self.counts) != len(self.sizes) or len(self.periodic) != len(self.sizes):
            raise InvalidArgument(
                f"split={list(self.counts)} of a grid with {len(self.sizes)} axes",
                "one count per axis",
                f"Type split=[{', '.join('1' * len(self.sizes))}] for a single expert",
            )
        if overlap < 0:
            raise InvalidArgument(f"overlap={overlap}", "zero or a positive number of points")
        for axis, (n, count) in enumerate(zip(self.sizes, self.counts, strict=True)):
            if not 1 <= count <= n:
                raise InvalidArgument(
                    f"{count} blocks along axis {axis} of {n} points",
                    f"1 to {n}, so that none is empty",
                )
            if count > 1 and 2 * overlap > n // count:
                raise InvalidArgument(
                    f"overlap={overlap} of blocks of {n // count} points along axis {axis}",
                    f"at most {n // count // 2}: ramps of two borders must not meet",
                )
        self.experts = math.prod(self.counts)
        self.edges = [
            [k * n // count for k in range(count + 1)]
            for n, count in zip(self.sizes, self.counts, strict=True)
        ]
        self._windows = [self._axis_windows(axis) for axis in range(len(self.sizes))]

    def windows(self, like: Tensor) -> list[Tensor]:
        """Return the windows of every axis, `(counts[a], sizes[a])` each."""
        return [w.to(like.device, like.dtype) for w in self._windows]

    def _axis_windows(self, axis: int) -> Tensor:
        n, count, edges = self.sizes[axis], self.counts[axis], self.edges[axis]
        out = torch.zeros(count, n, dtype=torch.float64)
        for k in range(count):
            length = edges[k + 1] - edges[k]
            reach = self.overlap if count > 1 else 0
            at = torch.arange(-reach, length + reach)
            centre = at.double() + 0.5
            value = _ramp(centre, reach) * _ramp(length - centre, reach)
            place = at + edges[k]
            if self.periodic[axis]:
                out[k].index_add_(0, place % n, value)
            else:
                # past the ends of the grid there is no neighbour to hand over to
                value = _ramp(centre, reach) if k == count - 1 else value
                value = _ramp(length - centre, reach) if k == 0 else value
                value = torch.ones_like(value) if count == 1 else value
                inside = (place >= 0) & (place < n)
                out[k, place[inside]] = value[inside]
        return out / out.sum(0)

    def members(self, *, core: bool = False) -> list[Tensor]:
        """Return the flat numbers of every expert's points, where its window is positive.

        Args:
            core: Only the points of the block itself, without overlap: every point once.
        """
        if core:
            spans = [
                [torch.arange(a, b) for a, b in itertools.pairwise(edges)] for edges in self.edges
            ]
        else:
            spans = [[w.nonzero()[:, 0] for w in windows] for windows in self._windows]
        return [self._flat(places) for places in itertools.product(*spans)]

    def halo(self) -> list[Tensor]:
        """Return the flat numbers of the points next to every block, which are its neighbours'.

        One line on either side along every axis that is split; empty for one expert.
        """
        out = []
        for blocks in itertools.product(*map(range, self.counts)):
            found = []
            for axis, k in enumerate(blocks):
                n, edges = self.sizes[axis], self.edges[axis]
                sides = [edges[k] - 1, edges[k + 1]] if self.counts[axis] > 1 else []
                if self.periodic[axis]:
                    sides = [s % n for s in sides]
                for side in {s for s in sides if 0 <= s < n}:
                    places = [
                        torch.tensor([side])
                        if a == axis
                        else torch.arange(*self.edges[a][j : j + 2])
                        for a, j in enumerate(blocks)
                    ]
                    found.append(self._flat(places))
            out.append(torch.cat(found) if found else torch.zeros(0, dtype=torch.long))
        return out

    def _flat(self, places: Sequence[Tensor]) -> Tensor:
        """Return the flat numbers of a product of places."""
        flat = torch.zeros(1, dtype=torch.long)
        for n, place in zip(self.sizes, places, strict=True):
            flat = (flat[:, None] * n + place).flatten()
        return flat

    def spread(self, weights: Tensor) -> Tensor:
        """Return sum_k phi_k w_k over the grid, `(B, N, *sizes)`, of weights `(B, K, N)`."""
        count, _, functions = weights.shape
        out = weights.mT.reshape(count, functions, *self.counts)
        for axis, window in enumerate(self.windows(weights)):
            if self.counts[axis] == 1:
                continue  # broadcast over the axis
            out = (out.movedim(2 + axis, -1) @ window).movedim(-1, 2 + axis)
        return out

    def assemble(self, columns: Tensor, weights: Tensor) -> Tensor:
        """Return the mixture `(B, *sizes)` of functions `(B, N, *sizes)`, weights `(B, K, N)`."""
        return (columns * self.spread(weights)).sum(1)

    def partition(self, field: Tensor) -> list[Tensor]:
        """Return the values `(..., n_k)` of a field `(..., *sizes)` in every block."""
        flat = field.flatten(-len(self.sizes))
        return [flat[..., m.to(field.device)] for m in self.members(core=True)]

    def unpartition(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the field whose blocks these are, the inverse of `partition`."""
        order = torch.cat(self.members(core=True)).to(parts[0].device)
        flat = torch.empty_like(torch.cat(list(parts), -1))
        flat[..., order] = torch.cat(list(parts), -1)
        return flat.unflatten(-1, self.sizes)

    def jump(self, columns: Tensor, weights: Tensor) -> Tensor:
        """Return the root mean square `(B,)` of the jumps at all borders.

        At the two lines of points beside a border both neighbours are evaluated; the jump is the
        difference of the two, whatever windows do afterwards. Zero for one expert.
        """
        count, _, functions = weights.shape
        blocks = weights.mT.reshape(count, functions, *self.counts)
        total, points = columns.new_zeros(count), 0
        windows = [self._indicators(axis).to(weights) for axis in range(len(self.sizes))]
        for axis, k in enumerate(self.counts):
            if k == 1:
                continue
            edges = self.edges[axis]
            after = list(range(1, k)) + ([0] if self.periodic[axis] and k > 1 else [])
            lines = torch.tensor([edges[a] for a in after], device=weights.device)
            own = blocks.index_select(2 + axis, torch.tensor(after, device=weights.device))
            before = [(a - 1) % k for a in after]
            gap = own - blocks.index_select(2 + axis, torch.tensor(before, device=weights.device))
            for other, window in enumerate(windows):
                if other != axis:
                    gap = (gap.movedim(2 + other, -1) @ window).movedim(-1, 2 + other)
            for shift in (0, -1):
                side = columns.index_select(2 + axis, (lines + shift) % self.sizes[axis])
                jump = (side * gap).sum(1)
                total = total + jump.square().flatten(1).sum(1)
                points += jump.shape[1:].numel()
        return (total / max(points, 1)).sqrt()

    def _indicators(self, axis: int) -> Tensor:
        """Return which points are in which interval, `(counts[a], sizes[a])`."""
        out = torch.zeros(self.counts[axis], self.sizes[axis], dtype=torch.float64)
        for k, (a, b) in enumerate(itertools.pairwise(self.edges[axis])):
            out[k, a:b] = 1.0
        return out


def _ramp(distance: Tensor, reach: int) -> Tensor:
    """Return a ramp from 0 at -reach to 1 at +reach, of the distance from a border."""
    if reach == 0:
        return torch.ones_like(distance)
    s = ((distance + reach) / (2 * reach)).clamp(0, 1)
    return torch.sin(math.pi / 2 * s).square()


@typed
@takes(experts=whole, split=either(text, counts), axes=names, sizes=counts)
def counts_of(
    experts: int, split: str | Sequence[int], axes: Sequence[str], sizes: Sequence[int]
) -> tuple[int, ...]:
    """Return the counts along every axis of a split by name.

    Args:
        experts: Number of blocks, K.
        split: `space`, `time` or `space_time`: over which axes the prime factors of K are dealt
            out, each to the axis whose blocks are longest; or the counts themselves.
        axes: Names of the axes, "t" for time.
        sizes: Points along them.

    Raises:
        InvalidArgument: For another name, a name without such axes, or counts whose product is not
            `experts`.

    Example:
        >>> from sciml.physics.constraints.expert_split import counts_of
        >>> counts_of(4, "space", ("t", "x", "y"), (10, 64, 64))
        (1, 2, 2)
    """
    if not isinstance(split, str):
        counts = tuple(int(c) for c in split)
        if math.prod(counts) != experts:
            raise InvalidArgument(
                f"experts={experts} with split={list(counts)}, {math.prod(counts)} blocks",
                "one number of both",
                f"Type experts={math.prod(counts)}",
            )
        return counts
    known = {
        "space": [a for a, name in enumerate(axes) if name != "t"],
        "time": [a for a, name in enumerate(axes) if name == "t"],
        "space_time": list(range(len(axes))),
    }
    if split not in known or not known[split]:
        raise InvalidArgument(
            f"split={split!r} of the axes {', '.join(axes)}",
            "space, time, space_time, or a list of counts per axis",
        )
    if experts < 1:
        raise InvalidArgument(f"experts={experts}", "a positive number")
    counts = [1] * len(axes)
    for prime in sorted(_primes(experts), reverse=True):
        longest = max(known[split], key=lambda a: (sizes[a] / counts[a], a))
        counts[longest] *= prime
    return tuple(counts)


def _primes(number: int) -> list[int]:
    """Return the prime factors of a number."""
    out, prime = [], 2
    while number > 1:
        while number % prime == 0:
            out.append(prime)
            number //= prime
        prime += 1
    return out
