"""The loop of walk on spheres: all walks of a chunk, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sciml.physics.geometry.domain import Domain, length
from sciml.physics.walks.green import (
    LARGEST_T,
    directions,
    harmonic_radius,
    screened_radius,
    survival,
)

# Finished walks are taken out when fewer than this share of the rows still move; until then they
# make steps of length zero. Compacting sooner copies more than it saves.
COMPACT = 0.6
# Steps between counts of the moving walks. On an accelerator a count waits for the device.
CHECK_CPU, CHECK_DEVICE = 1, 8
# A walk whose weight has fallen below this contributes nothing and ends.
SMALLEST_WEIGHT = 1e-8


@dataclass(frozen=True)
class Equation:
    """What a step needs to know.

    Attributes:
        domain: B domains.
        limit: `(B,)` distance from the boundary at which walks end.
        boundary: g.
        source: f or None.
        rate: `(B,)` sigma, or the bound of delta tracking; None without screening.
        reduced: sigma' for delta tracking; None for constant screening.
        diffusion: alpha or None.
    """

    domain: Domain
    limit: Tensor
    boundary: Callable
    source: Callable | None = None
    rate: Tensor | None = None
    reduced: Callable | None = None
    diffusion: Callable | None = None


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
    """

    x: Tensor
    i: Tensor
    total: Tensor
    steps: Tensor
    weight: Tensor | None = None
    slot: Tensor | None = None

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
                part = part[:1].expand(len(keep))
            elif part is not None:
                part = part.index_select(-1, keep)
            parts[field.name] = part
        if self.slot is None:
            parts["slot"] = keep
        return Walks(**parts)

    def store(self, rows: Walks) -> None:
        """Write `rows` to their slots."""
        for name in ("x", "total", "steps", "weight"):
            part = getattr(rows, name)
            if part is not None:
                getattr(self, name).index_copy_(-1, rows.slot, part)


def walk(
    equation: Equation,
    walks: Walks,
    max_steps: int,
    generator: torch.Generator,
    antithetic: bool = False,
    gradient: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """Follow every walk to the boundary.

    Args:
        equation: The problem.
        walks: N walks at their start; overwritten.
        max_steps: Where walks are stopped.
        generator: Source of randomness.
        antithetic: The second half of the walks starts opposite to the first.
        gradient: `(d, N)` for the control variate of the first step, or None.

    Returns:
        Values `(N,)`, steps `(N,)`, which walks were stopped `(N,)`, the largest weight, and the
        largest distance that any other walk had to its boundary point, in units of `limit`.
    """
    domain, ends = equation.domain, walks
    if equation.rate is not None:
        walks.weight = torch.ones_like(walks.total)
    if equation.diffusion is not None:
        walks.weight = equation.diffusion(walks.x, walks.i).rsqrt()
    peak = None if walks.weight is None else walks.weight.abs().max()
    check = CHECK_CPU if walks.x.device.type == "cpu" else CHECK_DEVICE
    stopped = torch.zeros_like(ends.steps, dtype=torch.bool)
    for k in range(max_steps + 1):
        r = domain.gap(walks.x, walks.i)
        moving = r > domain.pick(equation.limit, walks.x, walks.i)
        if walks.weight is not None:
            moving &= walks.weight.abs() > SMALLEST_WEIGHT
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
        _step(equation, walks, r, direction, generator, gradient if k == 0 else None)
        if equation.reduced is not None:
            peak = torch.maximum(peak, walks.weight.abs().max())
    if walks.slot is not None:
        ends.store(walks)
    value, farthest = _land(equation, ends, stopped)
    return value, ends.steps, stopped, 1.0 if peak is None else float(peak), farthest


def _directions(x: Tensor, generator: torch.Generator, antithetic: bool) -> Tensor:
    """Return a direction `(d, N)` for every walk."""
    dim, n = x.shape
    if antithetic:
        half = directions(n // 2, dim, generator, x.dtype)
        return torch.cat([half, -half], 1)
    return directions(n, dim, generator, x.dtype)


def _step(
    equation: Equation,
    walks: Walks,
    r: Tensor,
    direction: Tensor,
    generator: torch.Generator,
    gradient: Tensor | None,
) -> None:
    """Collect the source of one ball of radius `r (N,)` and move along `direction (d, N)`.

    The source point lies opposite to the direction of the jump. It need not be independent of the
    jump, since the walk's value is a sum of terms, each with the right law; a direction is saved,
    and the noise of source and boundary partly cancels (a fifth less variance than independent
    directions have with u = e^x cos y and a source of its size, two fifths with g = 0).
    """
    dim, source, n = equation.domain.dim, equation.source, r.shape[0]
    jump = None  # where the walk goes along `direction`, in units of r; None for 1
    if equation.rate is None:
        kept = None
        if source is not None:
            s = harmonic_radius(n, dim, generator, r.dtype)
            y = torch.addcmul(walks.x, direction, s.mul_(r), value=-1)
            walks.total.addcmul_(r * r, source(y, walks.i), value=1 / (2 * dim))
    else:
        rate = equation.domain.pick(equation.rate, walks.x, walks.i)
        r = torch.minimum(r, 2 * (LARGEST_T / rate).sqrt())
        t = r * r * rate / 4
        kept, integral = survival(t, dim)
        if source is not None or equation.reduced is not None:
            s = screened_radius(t, dim, generator)
            y = torch.addcmul(walks.x, direction, r * s, value=-1)
        if source is not None:
            value = source(y, walks.i)
            if equation.diffusion is not None:
                value = value * equation.diffusion(y, walks.i).rsqrt()
            walks.total += walks.weight * integral * r * r * value
        if equation.reduced is None:
            walks.weight *= kept
        else:
            u = torch.rand(n, generator=generator, device=r.device, dtype=r.dtype)
            born = u >= kept
            jump = torch.where(born, -s, 1.0)
            again = 1 - equation.reduced(y, walks.i) / rate
            walks.weight = torch.where(born, walks.weight * again, walks.weight)
            kept = ~born
    if gradient is not None:
        slope = r * (gradient * direction).sum(0)
        walks.total -= slope if kept is None else slope * kept
    walks.x.addcmul_(direction, r if jump is None else r * jump)


def _land(equation: Equation, ends: Walks, stopped: Tensor) -> tuple[Tensor, float]:
    """Return the walks' values, what they collected and g where they ended, and how far that is."""
    # a stopped walk may be far from the boundary, where the cheap projection is not enough
    project = equation.domain.nearest if bool(stopped.any()) else equation.domain.land
    on = project(ends.x, ends.i)
    value = equation.boundary(on, ends.i)
    if equation.diffusion is not None:
        value = value * equation.diffusion(on, ends.i).sqrt()
    away = length(ends.x - on) / equation.domain.pick(equation.limit, ends.x, ends.i)
    ended = ~stopped if ends.weight is None else ~stopped & (ends.weight.abs() > SMALLEST_WEIGHT)
    farthest = float(torch.where(ended, away, 0.0).max())
    return ends.total + (value if ends.weight is None else value * ends.weight), farthest
