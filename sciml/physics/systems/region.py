"""Domains of systems: a shape, an interval of time, ranges of parameters, and their products.

    Interval(-1, 1) * Time(0, 1)                     # x, t
    Time(0, 10)                                      # t: ordinary differential equations
    Rectangle((0, 0), (1, 1)) * Range("nu", 0.01, 0.1)    # x, y, nu: the solution for every nu

Points are rows `(N, D)` of all variables: space, then time, then parameters. A part of the shape's
boundary is extended over time and parameters; `initial` and `final` are the ends of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.systems.boundary_pieces import KIND, HasParts, Part, Piece
from sciml.physics.systems.named_shapes import Box, Shape
from sciml.typed_arguments import typed

ENDS = {"initial": 0, "final": 1}  # labels of the ends of time
MOST_DRAWS, EDGE = 64, 1e-9  # of a Sobol sequence; numbers between 0 and 1 keep off the ends
SLACK = 1e-6  # distance outside, relative to the size, at which a point still counts as inside


@typed
@dataclass(frozen=True)
class Range:
    """An interval of a variable that is neither space nor time.

    Attributes:
        name: Its name in equations.
        low: Least value.
        high: Greatest value.

    Example:
        >>> from sciml.physics.systems import Interval, Range, Time
        >>> region = Interval(0, 1) * Time(0, 1) * Range("nu", 0.01, 0.1)  # one network for all nu
        >>> region.variables
        ('x', 't', 'nu')
    """

    name: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check that it is an interval.

        Raises:
            InvalidArgument: If it is empty, or its name is none.
        """
        if not self.low < self.high:
            raise InvalidArgument(f"{self.name} from {self.low} to {self.high}", "low < high")
        if not self.name.isidentifier() or "_" in self.name:
            raise InvalidArgument(f"a variable called {self.name!r}", "letters and digits")

    def __mul__(self, other: Any) -> Region:
        """Return the product with a further range."""
        return Region.of(self) * other


@typed
class Region(HasParts):
    """A product of a shape, an interval of time and ranges of parameters, each of them optional.

    Args:
        shape: The shape in space.
        time: The interval of time.
        parameters: Further ranges.

    Attributes:
        variables: Names of the columns of points.
        low, high: Corners `(D,)` of the box around it.

    Example:
        >>> import torch
        >>> from sciml.physics.systems import Disk, Time
        >>> region = Disk((0.0, 0.0), 1.0) * Time(0, 2)
        >>> region.variables, region.low.tolist(), region.high.tolist()
        (('x', 'y', 't'), [-1.0, -1.0, 0.0], [1.0, 1.0, 2.0])
        >>> region.labels
        ('circle', 'initial', 'final')
        >>> tuple(region.sample(10, torch.Generator().manual_seed(0)).shape)
        (10, 3)
    """

    def __init__(
        self,
        shape: Shape | None = None,
        time: Range | None = None,
        parameters: Sequence[Range] = (),
    ) -> None:
        self.shape, self.time, self.parameters = shape, time, tuple(parameters)
        self.ranges = (*([time] if time else []), *self.parameters)
        self.space = shape.axes if shape else ()
        self.variables = (*self.space, *(r.name for r in self.ranges))
        if len(set(self.variables)) < len(self.variables):
            raise InvalidArgument(f"variables {list(self.variables)}", "each name once")
        ends = torch.tensor([[r.low, r.high] for r in self.ranges], dtype=KIND).reshape(-1, 2)
        none = torch.zeros(0, dtype=KIND)
        self.low = torch.cat([shape.low if shape else none, ends[:, 0]])
        self.high = torch.cat([shape.high if shape else none, ends[:, 1]])

    @staticmethod
    def of(factor: object) -> Region:
        """Return a region with one factor.

        Raises:
            InvalidType: For what is no factor.
        """
        if isinstance(factor, Region):
            return factor
        if isinstance(factor, Shape):
            return Region(factor)
        if isinstance(factor, Range):
            return Region(parameters=[factor])
        raise InvalidType(
            f"a {type(factor).__name__} as domain",
            "a shape, Time(start, end), Range(name, low, high), or a product of them",
            "Write for instance Interval(-1, 1) * Time(0, 1)",
        )

    def __mul__(self, other: Any) -> Region:
        """Return the product with a further factor."""
        other = Region.of(other)
        for name in ("shape", "time"):
            if getattr(self, name) is not None and getattr(other, name) is not None:
                raise InvalidArgument(f"a product of two factors of kind {name}", "one of them")
        return Region(
            self.shape or other.shape,
            self.time or other.time,
            (*self.parameters, *other.parameters),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the boundary's pieces and of the ends of time."""
        return (*(self.shape.labels if self.shape else ()), *(ENDS if self.time else ()))

    # --- points -----------------------------------------------------------------------------
    def contains(self, points: Tensor) -> Tensor:
        """Return whether points `(N, D)` lie inside or on the boundary, up to rounding, `(N,)`."""
        slack = SLACK * (self.high - self.low).to(points)
        inside = (points >= self.low.to(points) - slack) & (points <= self.high.to(points) + slack)
        inside = inside.all(1)
        if self.shape is not None:
            level = self.shape.level(points[:, : self.shape.dim])
            inside &= level <= SLACK * self.shape.size
        return inside

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` uniform points `(n, D)`, float64."""
        space = [self.shape.sample(n, generator)] if self.shape else []
        return torch.cat([*space, self._sample_ranges(n, generator)], 1)

    def sample_evenly(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` points `(n, D)`, float64, that leave no gaps and no clusters.

        They are a scrambled Sobol sequence in the box around the region, those inside it. Sums over
        them are closer to integrals than over independent points.
        """
        seed = torch.randint(2**31, (1,), generator=generator, device=generator.device)
        engine = torch.quasirandom.SobolEngine(len(self.low), scramble=True, seed=int(seed))
        found, count = [], 0
        for _ in range(MOST_DRAWS):
            u = engine.draw(max(n - count, 64), dtype=KIND).clamp(EDGE, 1 - EDGE)
            points = self.low + u * (self.high - self.low)
            if self.shape is not None and not isinstance(self.shape, Box):
                points = points[self.shape.contains(points[:, : self.shape.dim])]
            found.append(points)
            count += len(points)
            if count >= n:
                return torch.cat(found)[:n].to(generator.device)
        rest = self.sample(n - count, generator)  # a shape that fills next to nothing of its box
        return torch.cat([*(f.to(rest) for f in found), rest])

    def _sample_ranges(self, n: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(
            n, len(self.ranges), generator=generator, dtype=KIND, device=generator.device
        )
        d = len(self.space)
        low, high = self.low[d:].to(u.device), self.high[d:].to(u.device)
        return low + u * (high - low)

    def pieces(self, part: Part, named: frozenset[str] = frozenset()) -> list[Piece]:
        """Return the pieces of the shape's boundary that a part means.

        Args:
            part: The part.
            named: Labels that other conditions use, which "rest" leaves out.
        """
        every = self.shape.pieces if self.shape else ()
        if "boundary" in part.labels:
            return list(every)
        rest = "rest" in part.labels
        return [p for p in every if p.label in part.labels or (rest and p.label not in named)]

    def sample_part(
        self, pieces: Sequence[Piece], n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return points `(m, D)` of pieces of the boundary and unit normals `(m, d)`.

        Args:
            pieces: Each gets a share of the points in proportion to its length or area.
            n: Number of points; where the pieces are a few points, these.
            generator: Source of random numbers.
        """
        if not self.ranges and all(piece.point for piece in pieces):
            found = [piece.sample(1, generator) for piece in pieces]
        else:
            found = [
                piece.sample(m, generator)
                for piece, m in zip(pieces, shares([p.measure for p in pieces], n), strict=True)
            ]
        points = torch.cat([p for p, _ in found])
        normals = torch.cat([m for _, m in found])
        return torch.cat([points, self._sample_ranges(len(points), generator)], 1), normals

    def sample_end(self, which: str, n: int, generator: torch.Generator) -> Tensor:
        """Return points `(m, D)` at the initial or final time; one where nothing else varies."""
        free = self.shape is not None or self.parameters
        points = self.sample(n if free else 1, generator)
        points[:, len(self.space)] = self.time.high if ENDS[which] else self.time.low
        return points


@typed
def Time(start: float, end: float) -> Region:
    """Return an interval of time, whose variable is t.

    Args:
        start: Where initial conditions hold.
        end: Greater than start.

    Example:
        >>> from sciml.physics.systems import Interval, Time
        >>> (Interval(0, 1) * Time(0, 2)).variables
        ('x', 't')
    """
    return Region(time=Range("t", float(start), float(end)))


def shares(measures: Sequence[float], n: int) -> list[int]:
    """Return whole numbers in proportion to the measures, n in all where n is large enough.

    Every piece gets one at least: a short one is part of the boundary, too.
    """
    total = sum(measures)
    exact = [n * m / total for m in measures]
    counts = [int(e) for e in exact]
    order = sorted(range(len(exact)), key=lambda k: counts[k] - exact[k])
    for k in order[: n - sum(counts)]:
        counts[k] += 1
    return [max(1, count) for count in counts]
