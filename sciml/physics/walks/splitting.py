"""Walks from close to the absorbing part of a boundary with walls: they split as they get away.

From a distance delta nearly all walks end nearby, and what the rare ones find that get away decides
the mean: a hundred walks may all agree and be wrong by any number of their standard errors. Where
no wall is near, a first step out of a ball that touches the boundary helps (`tangent`); beside
walls there is no such ball. Here a walk becomes two, of half the share each, whenever it gets twice
as far from the absorbing part as it or its ancestors ever were: about half of the walks that are at
a distance get to twice of it, so their number stays about the same up to the distance that plain
walks start from. The mean is that of plain walks whatever the shape; the deviations are of size
delta, as those of the solution from the data at the closest point are, and all of them are seen.

Splitting: Kahn and Harris, "Estimation of particle transmission by random sampling", National
Bureau of Standards Applied Mathematics Series 12 (1951); levels by doubling distances:
Garvels, "The splitting method in rare event simulation", thesis, Twente (2000).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.physics.walks.loop import Walks, follow

if TYPE_CHECKING:
    from sciml.physics.walks.stars import StarRule

# Walks end at this share of the distance that they started from, if that is closer than usual.
FINER = 0.03
# Walks split when they are so many times as far as before, into that many, and this times more:
# among many levels few would survive otherwise.
APART, GROWTH = 2.0, 1.3
# Walks per start: where more than half get away, as in blunt corners, they split less often.
MOST = 8


def walk_apart(
    rule: StarRule, x: Tensor, i: Tensor, most: Tensor, max_steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """Return what `loop.walk` does, for walks that split.

    Args:
        rule: How walks step, in float64.
        x: Starts `(d, N)`, in float64; overwritten.
        i: Their domains `(N,)`.
        most: `(N,)` distances from which on walks do not split.
        max_steps: Where walks are stopped, counted from each split.
        generator: Source of randomness.
    """
    count, row = x.shape[1], torch.arange(x.shape[1], device=x.device)
    total, steps = x.new_zeros(count), torch.zeros(count, dtype=torch.int32, device=x.device)
    stopped = torch.zeros(count, dtype=torch.bool, device=x.device)
    away, _ = rule.domain.absorbed(x, i)
    least = torch.minimum(FINER * away, rule.domain.pick(rule.limit, x, i))
    walks, peak, farthest = Walks.start(x, i, rule.domain.count), 1.0, 0.0
    rule.begin(walks)
    share = torch.ones_like(away)
    while len(row):
        before, waits = away, APART * away
        waits = torch.where(waits < most[row], waits, torch.inf)
        part = replace(rule, span=torch.stack([least[row], waits]))
        walks, halted, top = follow(part, walks, max_steps, generator)
        away, _ = rule.domain.absorbed(walks.x, walks.i)
        apart = (away >= waits) & (away > before) & ~halted
        value, far = part.land(walks, halted | apart)
        found = torch.where(apart, walks.total, value)  # those that go on have no end yet
        total.index_add_(0, row, share * found)
        steps.index_add_(0, row, walks.steps)
        stopped.index_put_((row[halted],), halted.new_ones(()))
        peak, farthest = max(peak, top), max(farthest, far)
        own = apart.nonzero()[:, 0]
        u = torch.rand(len(own), generator=generator, device=x.device, dtype=x.dtype)
        copies = (GROWTH * away[own] / before[own] + u).long()
        if int(copies.sum()) > MOST * count:
            copies = torch.ones_like(copies)
        share[own] /= copies
        own = own.repeat_interleave(copies)
        away, row, share, walks = away[own], row[own], share[own], walks.take(own)
        walks.total, walks.steps = torch.zeros_like(walks.total), torch.zeros_like(walks.steps)
        walks.slot = None
    return total, steps, stopped, peak, farthest
