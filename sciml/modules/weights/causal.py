"""Causal weights: what happens later counts once what happens earlier is right.

Time is cut into M parts with the mean squares L_k of the residuals in each; part i weighs

    w_i = exp(-eps sum_{k < i} L_k) .

eps climbs a ladder: when the smallest weight is above 0.99, the next larger value takes over, so
that at the end all times count again, each of them having waited for those before.

Reference: Wang, Sankaranarayanan and Perdikaris 2024, "Respecting causality for training
physics-informed neural networks", arXiv 2203.07404, algorithm 1. Departures: L_k are those of the
step before, and the initial condition keeps its weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.modules.weights.row_weights import RowWeights, summed
from sciml.physics.systems import PointSet, System

LADDER = (1e-2, 1e-1, 1.0, 1e1, 1e2)  # of the paper
REACHED = 0.99  # smallest weight at which the next eps takes over


class CausalWeights(RowWeights):
    """Weights of parts of time.

    Args:
        system: Has a time.
        ladder: Values of eps, one or several that rise; true for those of the paper.
        chunks: M, parts of time.

    Raises:
        InvalidArgument: For a system without time, or a ladder that does not rise.
    """

    def __init__(
        self, system: System, ladder: bool | float | Sequence[float], chunks: int = 32
    ) -> None:
        super().__init__()
        ladder = LADDER if ladder is True else ladder
        ladder = [ladder] if isinstance(ladder, int | float) else list(ladder)
        if system.region.time is None:
            raise InvalidArgument(
                f"module.causal={ladder} for {type(system).__name__}, which has no time",
                "a domain with Time(start, end)",
                "Type module.causal=null",
            )
        rising = all(a < b for a, b in zip(ladder, ladder[1:], strict=False))
        if not ladder or not rising or not all(math.isfinite(e) and e > 0 for e in ladder):
            raise InvalidArgument(f"module.causal={ladder}", "positive numbers that rise")
        if not isinstance(chunks, int) or chunks < 2:
            raise InvalidArgument(f"module.causal_chunks={chunks}", "an integer of at least 2")
        self.column = len(system.region.space)
        self.start = system.region.time.low
        self.length = system.region.time.high - self.start
        self.chunks = chunks
        self.register_buffer("ladder", torch.tensor(ladder, dtype=torch.float64))
        self.register_buffer("stage", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(chunks))  # L_k of the last step
        self.register_buffer("known", torch.zeros(()))  # 1 after the first
        self.register_buffer("weights", torch.ones(chunks))

    def begin(self, p: PointSet, streams: Streams) -> None:
        """Weigh the parts of time, and climb the ladder where all weights are near one."""
        before = torch.cumsum(self.seen, 0) - self.seen
        self.weights = torch.exp(-self._eps().to(before) * before)
        climbs = (self.weights[-1] > REACHED) & (self.known > 0)
        self.stage = (self.stage + climbs).clamp_max(len(self.ladder) - 1)

    def factor(self, name: str, p: PointSet) -> Tensor:
        """Return the square roots of the weights."""
        return self.weights.sqrt()[self._part(p)]

    def update(self, p: PointSet, residuals: Mapping[str, Tensor], streams: Streams) -> None:
        """Average the squares of all equations over every part of time; empty parts stay."""
        part = self._part(p)
        size = sum(r.square() for r in residuals.values()).to(self.seen)
        sums = torch.zeros(2, self.chunks, dtype=self.seen.dtype, device=self.seen.device)
        sums[0].index_add_(0, part, size)
        sums[1].index_add_(0, part, torch.ones_like(size))
        total, count = summed(sums)
        self.seen = torch.where(count > 0, total / count.clamp_min(1), self.seen)
        self.known = torch.ones_like(self.known)

    def numbers(self) -> dict[str, Tensor]:
        """Return eps and the smallest weight."""
        return {"causal/eps": self._eps(), "causal/least": self.weights[-1]}

    def _eps(self) -> Tensor:
        return self.ladder.take(self.stage)  # an index would make the host wait

    def _part(self, p: PointSet) -> Tensor:
        if "part of time" not in p.cache:
            share = (p.x[:, self.column] - self.start) / self.length * self.chunks
            p.cache["part of time"] = share.long().clamp(0, self.chunks - 1)
        return p.cache["part of time"]
