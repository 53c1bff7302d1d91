"""The loop of random walks: all walks of a chunk, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from sciml.physics.elliptic.elliptic_problem import ScalarField
from sciml.physics.geometry.domain import Domain
from sciml.physics.walks.green import directions

if TYPE_CHECKING:
    from sciml.physics.walks.tangent import Tangent

# Finished walks are taken out when fewer than this share of the rows still move; until then they
# make steps of length zero. Compacting sooner copies more than it saves.
COMPACT = 0.6
# Steps between counts of the moving walks. On an accelerator a count waits for the device.
CHECK_CPU, CHECK_DEVICE = 1, 8


@dataclass
class Walks:
    """State of N walks, one tensor per quantity.

    Attributes:
        x: `(d, N)` positions.
        i: `(N,)` domains; an expanded zero where there is one domain.
        total: `(N,)` collected source.
        steps: `(N,)` steps made.
        weight: `(N,)`, or None where it stays 1.
        slot: `(N,)` rows of the results they belong to, or None for their own.
        normal: `(d, N)` outward normals of the reflecting walls they stand at, zero for walks that
            stand at none; None where nothing reflects.
    """

    x: Tensor
    i: Tensor
    total: Tensor
    steps: Tensor
    weight: Tensor | None = None
    slot: Tensor | None = None
    normal: Tensor | None = None

    @classmethod
    def start(cls, x: Tensor, i: Tensor, count: int) -> Walks:
        """Return walks at their start; `x` is overwritten as they move."""
        if count == 1:
            i = i.new_zeros(1).expand(x.shape[1])
        steps = torch.zeros(x.shape[1], dtype=torch.int32, device=x.device)
        return cls(x, i, torch.zeros_like(x[0]), steps)

    def take(self, keep: Tensor) -> Walks:
        """Return the rows `keep`."""
        parts = {}
        for field in fields(self):
            part = getattr(self, field.name)
            if part is not None and part.stride(-1) == 0:
                part = part[..., :1].expand(*part.shape[:-1], len(keep))
            elif part is not None:
                part = part.index_select(-1, keep)
            parts[field.name] = part
        if self.slot is None:
            parts["slot"] = keep
        return Walks(**parts)

    def store(self, rows: Walks) -> None:
        """Write `rows` to their slots."""
        for name in ("x", "total", "steps", "weight", "normal"):
            part = getattr(rows, name)
            if part is not None:
                getattr(self, name).index_copy_(-1, rows.slot, part)


class WalkRule(Protocol):
    """How walks of one kind step: `balls.Balls`, `stars.StarRule`.

    Attributes:
        domain: B domains.
        limit: `(B,)` distance from the boundary at which walks end.
        boundary: g, read there.
        source: f or None.
        rate: `(B,)` constant screening or the bound of a field; None without.
        reduced: The field that `rate` bounds, or None.
        diffusion: alpha or None.
        grows: Whether weights may grow, so that the largest is worth knowing.
    """

    domain: Domain
    limit: Tensor
    boundary: ScalarField
    source: ScalarField | None
    rate: Tensor | None
    reduced: ScalarField | None
    diffusion: ScalarField | None
    grows: bool

    def touches(self, balls: Tangent, size: Tensor) -> Tensor:
        """Return which balls that touch the boundary `(N,)` walks may start out of.

        `size (N,)` is the distance from the boundary up to which points are close to it.
        """

    def begin(self, walks: Walks) -> None:
        """Give walks at their start what the rule needs: weights, normals."""

    def reach(self, walks: Walks) -> tuple[Tensor, Tensor]:
        """Return the radius of every walk's step `(N,)`, and whether it still moves `(N,)`."""

    def step(
        self,
        walks: Walks,
        r: Tensor,
        direction: Tensor,
        generator: torch.Generator,
        gradient: Tensor | None,
    ) -> None:
        """Collect the source of one step of radius `r` (0 for walks that have ended) and move."""

    def land(self, ends: Walks, stopped: Tensor) -> tuple[Tensor, float]:
        """Return the walks' values, and how far from the boundary the farthest one ended."""


def walk(
    rule: WalkRule,
    walks: Walks,
    max_steps: int,
    generator: torch.Generator,
    antithetic: bool = False,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """Follow every walk to the boundary.

    Args:
        rule: How they step.
        walks: N walks at their start; overwritten.
        max_steps: Where walks are stopped.
        generator: Source of randomness.
        antithetic: The second half of the walks starts opposite to the first.
        gradient: `(d, N)` for the control variate of the first step, or None.

    Returns:
        Values `(N,)`, steps `(N,)`, which walks were stopped `(N,)`, the largest weight, and the
        largest distance that any other walk had to its boundary point, in units of the rule's
        limit.
    """
    rule.begin(walks)
    ends, stopped, peak = follow(rule, walks, max_steps, generator, antithetic, gradient)
    value, farthest = rule.land(ends, stopped)
    return value, ends.steps, stopped, peak, farthest


def follow(
    rule: WalkRule,
    walks: Walks,
    max_steps: int,
    generator: torch.Generator,
    antithetic: bool = False,
    gradient: Tensor | None = None,
) -> tuple[Walks, Tensor, float]:
    """Take walks that have begun to where they stop moving.

    Returns:
        The walks there, which of them were stopped `(N,)`, and the largest weight.
    """
    ends = walks
    peak = None if walks.weight is None else walks.weight.abs().max()
    check = CHECK_CPU if walks.x.device.type == "cpu" else CHECK_DEVICE
    stopped = torch.zeros_like(ends.steps, dtype=torch.bool)
    for k in range(max_steps + 1):
        r, moving = rule.reach(walks)
        if k == max_steps:
            stopped[walks.slot if walks.slot is not None else slice(None)] = moving
            break
        # the first step is made by all: the gradient has as many columns
        if k > 0 and k % check == 0:
            alive = int(moving.sum())
            if alive == 0:
                break
            if alive < COMPACT * len(r):
                if walks.slot is not None:
                    ends.store(walks.take((~moving).nonzero()[:, 0]))
                keep = moving.nonzero()[:, 0]
                walks, r = walks.take(keep), r.index_select(0, keep)
                moving = torch.ones_like(keep, dtype=torch.bool)
        r = r.mul_(moving)
        walks.steps += moving
        direction = _directions(walks.x, generator, antithetic and k == 0)
        rule.step(walks, r, direction, generator, gradient if k == 0 else None)
        if rule.grows:
            peak = torch.maximum(peak, walks.weight.abs().max())
    if walks.slot is not None:
        ends.store(walks)
    return ends, stopped, 1.0 if peak is None else float(peak)


def _directions(x: Tensor, generator: torch.Generator, antithetic: bool) -> Tensor:
    """Return a direction `(d, N)` for every walk."""
    dim, n = x.shape
    if antithetic:
        half = directions(n // 2, dim, generator, x.dtype)
        return torch.cat([half, -half], 1)
    return directions(n, dim, generator, x.dtype)
