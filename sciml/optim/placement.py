"""Which rank decomposes, keeps and applies the curvature of which layer.

Each layer has one owner, who decomposes its factors; large layers are dealt out first, each to the
rank with the least work so far. `grad_worker_fraction` f decides who else keeps the result:

    comm    f = 1            every rank gets every basis; no messages on ordinary steps
    mem     f = 0 (or 1/R)   only the owner keeps it, and sends the preconditioned gradient
    hybrid  between          ranks form columns of about f R; a column keeps the bases of its
                             owners' layers, and sends preconditioned gradients along the rows

All ranks enter all messages in the same order. Without `torch.distributed` nothing is sent.

Reference: Pauloski et al. 2021, KAISA, arXiv 2107.01739, section 3. Departure: the number of ranks
need not be a multiple of the column height; the last column may be shorter, its ranks then serve
several rows.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from sciml.errors import InvalidArgument

FRACTIONS = {"comm": 1.0, "hybrid": 0.5, "mem": 0.0}


def fraction_of(placement: str | float) -> float:
    """Return `grad_worker_fraction` for a name or a number.

    Raises:
        InvalidArgument: For an unknown name or a number outside [0, 1].
    """
    value = FRACTIONS.get(placement, placement) if isinstance(placement, str) else placement
    plain = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not plain or not 0 <= value <= 1:
        raise InvalidArgument(
            f"optimizer.grad_worker_fraction={placement}", "comm, hybrid, mem or a number in [0, 1]"
        )
    return float(value)


class Placement:
    """Assignment of layers to ranks, and the messages that follow from it.

    Args:
        costs: Cost of decomposing each layer, `d_A^3 + d_G^3`.
        fraction: Share of the ranks that keep a layer's basis.
        rank: This process.
        world: Number of processes.

    Attributes:
        owner: Rank that decomposes a layer.
        columns: Ranks that keep the same bases.
        traffic: Numbers sent or received in messages so far.
    """

    def __init__(
        self, costs: Mapping[str, float], fraction: float = 1.0, rank: int = 0, world: int = 1
    ) -> None:
        self.rank, self.world, self.traffic = rank, world, 0
        height = min(world, max(1, math.ceil(fraction * world - 1e-9)))
        self.columns = [list(range(i, min(i + height, world))) for i in range(0, world, height)]
        self.rows = [
            sorted({column[i % len(column)] for column in self.columns}) for i in range(height)
        ]
        load = [0.0] * world
        self.owner: dict[str, int] = {}
        for name in sorted(costs, key=lambda n: -costs[n]):
            rank_ = min(range(world), key=load.__getitem__)
            self.owner[name] = rank_
            load[rank_] += costs[name]
        self.owner = {name: self.owner[name] for name in costs}
        self._groups: dict[tuple[int, ...], dist.ProcessGroup] = {}
        for ranks in [*self.columns, *self.rows]:
            if 1 < len(ranks) < world and tuple(ranks) not in self._groups:
                self._groups[tuple(ranks)] = dist.new_group(ranks)

    def column_of(self, name: str) -> list[int]:
        """Return the ranks that keep a layer's basis."""
        return next(c for c in self.columns if self.owner[name] in c)

    def holds(self, name: str) -> bool:
        """Return whether this rank keeps a layer's basis."""
        return self.rank in self.column_of(name)

    def owned(self) -> list[str]:
        """Return the layers this rank decomposes."""
        return [name for name, rank in self.owner.items() if rank == self.rank]

    def share_bases(self, bases: Mapping[str, Sequence[Tensor]]) -> None:
        """Send every owner's tensors to its column; receivers give tensors to fill in.

        Args:
            bases: Tensors of every layer that this rank holds.
        """
        for column in self.columns:
            if self.rank in column:
                for source in column:
                    names = [n for n, r in self.owner.items() if r == source]
                    self._send([t for n in names for t in bases[n]], source, column)

    def share_directions(self, directions: Mapping[str, Tensor]) -> None:
        """Send preconditioned gradients from those who hold the basis to all others.

        Args:
            directions: One tensor per layer; those of layers not held are filled in.
        """
        if len(self.columns) == 1:
            return
        for i, row in enumerate(self.rows):
            if self.rank not in row:
                continue
            mine = next(c for c in self.columns if self.rank in c).index(self.rank) == i
            for column in self.columns:
                source = column[i % len(column)]
                chosen = [d for n, d in directions.items() if self.owner[n] in column]
                if not mine and source != self.rank:  # serves this row, is served by another
                    chosen = [torch.empty_like(d) for d in chosen]
                self._send(chosen, source, row)

    def collect(self, bases: Mapping[str, Sequence[Tensor]]) -> None:
        """Send every owner's tensors to all ranks."""
        everyone = list(range(self.world))
        for source in everyone:
            names = [n for n, r in self.owner.items() if r == source]
            self._send([t for n in names for t in bases[n]], source, everyone)

    def _send(self, tensors: list[Tensor], source: int, ranks: list[int]) -> None:
        """Broadcast tensors, one message per dtype, in place."""
        if len(ranks) == 1:
            return
        group = None if len(ranks) == self.world else self._groups[tuple(ranks)]
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            chosen = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.reshape(-1) for t in chosen])
            dist.broadcast(flat, source, group=group)
            self.traffic += flat.numel()
            if source != self.rank:
                for t, piece in zip(chosen, flat.split([t.numel() for t in chosen]), strict=True):
                    t.copy_(piece.view_as(t))
