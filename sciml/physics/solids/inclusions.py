"""Elliptic inclusions in a periodic cell: distances, and random positions without overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_number, check_positive, check_seed
from sciml.physics.solids.block_cells import check_count
from sciml.typed_arguments import typed

SAMPLES = 720  # points on an ellipse for distances between two
TRIES = 20_000  # positions per inclusion before a cell counts as full


@typed
@dataclass(frozen=True)
class EllipticInclusion:
    """An inclusion; it repeats with period 1 along x and y.

    Args:
        x: Centre.
        y: Centre.
        a: First semi-axis, below 0.5.
        b: Second semi-axis; None makes a circle.
        angle: Direction of the first semi-axis from x, in degrees.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import EllipticInclusion
        >>> fibre = EllipticInclusion(0.5, 0.5, a=0.3, b=0.2, angle=30.0)
        >>> round(fibre.area, 4), fibre.contains(np.array([[0.5, 0.5], [0.0, 0.0]])).tolist()
        (0.1885, [True, False])
    """

    x: float
    y: float
    a: float
    b: float | None = None
    angle: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("x", "y", "angle"):
            check_number(name, getattr(self, name))
        object.__setattr__(self, "b", self.a if self.b is None else self.b)
        for name in ("a", "b"):
            if check_positive(name, getattr(self, name)) >= 0.5:
                raise InvalidArgument(
                    f"{name}={getattr(self, name)}",
                    "a semi-axis below 0.5: the inclusion would touch its own periodic copy",
                )

    @property
    def area(self) -> float:
        """Return pi a b."""
        return math.pi * self.a * self.b

    @property
    def rotation(self) -> np.ndarray:
        """Return the matrix `(2, 2)` whose columns are the axes."""
        c, s = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return np.array([[c, -s], [s, c]])

    def curve(self, t: np.ndarray) -> np.ndarray:
        """Return the points `(..., 2)` at parameters t `(...)`, one turn per 2 pi."""
        local = np.stack([self.a * np.cos(t), self.b * np.sin(t)], -1)
        return np.array([self.x, self.y]) + local @ self.rotation.T

    def spaced(self, size: float) -> np.ndarray:
        """Return parameters `(m,)` of at least 12 points, equally far apart and `size` at most."""
        fine = np.linspace(0, 2 * math.pi, 4001)
        arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(self.curve(fine), axis=0).T))])
        count = max(12, math.ceil(arc[-1] / size))
        return np.interp(np.arange(count) * arc[-1] / count, arc, fine)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return whether points `(..., 2)` lie in the inclusion or a periodic copy of it."""
        away = points - np.array([self.x, self.y])
        local = (away - np.round(away)) @ self.rotation
        return (local[..., 0] / self.a) ** 2 + (local[..., 1] / self.b) ** 2 < 1


Ellipse = EllipticInclusion  # its name in version 0.1


@typed
def gap(one: EllipticInclusion, other: EllipticInclusion) -> float:
    """Return the distance between two inclusions over all periodic copies; 0 if they overlap.

    `gap(e, e)` is the distance of an inclusion from its own copies. Circles are exact, ellipses
    are sampled at 720 points.

    Example:
        >>> from sciml.physics.solids import EllipticInclusion, gap
        >>> one, other = EllipticInclusion(-0.25, 0.0, 0.1), EllipticInclusion(0.25, 0.0, 0.1)
        >>> round(gap(one, other), 12)
        0.3
    """
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2)
    if one is other:
        shifts = shifts[(shifts != 0).any(1)]
    between = np.array([other.x - one.x, other.y - one.y])
    if one is not other:
        between -= np.round(between)
    if one.a == one.b and other.a == other.b:
        return max(0.0, float(np.hypot(*(between + shifts).T).min()) - one.a - other.a)
    t = np.arange(SAMPLES) * (2 * math.pi / SAMPLES)
    here = one.curve(t) - (one.x, one.y)
    there = (other.curve(t) - (other.x, other.y) + between)[None] + shifts[:, None]
    home, away = (replace(e, x=0.0, y=0.0) for e in (one, other))
    within = _inside(home, there) | _inside(away, here - (between + shifts)[:, None])
    if within.any():
        return 0.0
    return float(cKDTree(here).query(there.reshape(-1, 2))[0].min())


def _inside(ellipse: EllipticInclusion, points: np.ndarray) -> np.ndarray:
    """Return whether points lie in this one copy of an ellipse around the origin."""
    local = points @ ellipse.rotation
    return (local[..., 0] / ellipse.a) ** 2 + (local[..., 1] / ellipse.b) ** 2 < 1


def check_gaps(inclusions: Sequence[EllipticInclusion], least: float) -> None:
    """Refuse inclusions that touch, or come closer than `least`.

    Raises:
        InvalidArgument: Naming the pair.
    """
    for i, one in enumerate(inclusions):
        for j in range(i + 1):
            distance = gap(one, inclusions[j])
            if distance >= least:
                continue
            pair = f"inclusions {j} and {i}" if i != j else f"inclusion {i} and its periodic copy"
            if distance <= 0:
                raise InvalidArgument(
                    f"{pair} touch or overlap",
                    "inclusions apart from each other",
                    "Move one of them",
                )
            raise InvalidArgument(
                f"{pair} are {distance:.4g} apart",
                f"at least {least:.4g} between them: elements must fit in",
                f"Type size={distance:.3g} or move one of them",
            )


@typed
def random_inclusions(
    fraction: float, count: int = 8, *, apart: float = 0.04, seed: int = 0
) -> tuple[EllipticInclusion, ...]:
    """Return equal circles at random positions, `apart` or more from each other.

    Positions are drawn one after the other and kept where they fit (random sequential addition,
    which jams near an area fraction of 0.55 for the circles grown by apart / 2).

    Args:
        fraction: Area fraction of all circles.
        count: How many.
        apart: Least distance between two circles, periodic copies included.
        seed: The same seed gives the same circles.

    Raises:
        InvalidArgument: If the circles do not fit.

    Example:
        >>> from sciml.physics.solids import random_inclusions
        >>> disks = random_inclusions(0.3, count=5, seed=1)
        >>> len(disks), round(sum(disk.area for disk in disks), 3)
        (5, 0.3)
    """
    if not 0 < fraction < 1:
        raise InvalidArgument(f"fraction={fraction}", "a number between 0 and 1, both left out")
    check_count("count", count)
    check_positive("apart", apart)
    draw = np.random.default_rng(check_seed("seed", seed))
    radius = math.sqrt(fraction / (count * math.pi))
    least = 2 * radius + apart
    centres = np.empty((0, 2))
    while len(centres) < count and least < 1:
        offered = draw.uniform(-0.5, 0.5, (TRIES, 2))
        away = offered[:, None] - centres
        free = np.hypot(*np.moveaxis(away - np.round(away), -1, 0)).min(1, initial=1.0) >= least
        if not free.any():
            break
        centres = np.vstack([centres, offered[free.argmax()]])
    if len(centres) < count:
        raise InvalidArgument(
            f"fraction={fraction} in {count} circles {apart} apart: {len(centres)} of them fit",
            "circles that fit beside each other in the cell",
            "Lower fraction or apart, raise count, or try another seed",
        )
    return tuple(EllipticInclusion(float(x), float(y), radius) for x, y in centres)
