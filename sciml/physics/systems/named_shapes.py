"""Shapes whose boundary has named parts: interval, rectangle, box, disk, ball, polygon, and CSG.

    plate = Rectangle((0, 0), (1, 1)) - Disk((0.5, 0.5), 0.2, name="hole")
    plate.left, plate.hole, plate.left | plate.right, plate.boundary, plate.rest

A shape wraps a domain of `sciml.physics.geometry`, which knows distances and the inside, and adds
pieces of the boundary with labels. What a combination keeps of the pieces of its parts is found by
looking at both sides of every point: one side inside, the other outside. So cuts need no rules of
their own, and pieces that coincide count once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, SciMLError, did_you_mean
from sciml.physics import geometry
from sciml.physics.geometry.domain import accepted

AXES = ("x", "y", "z")  # beyond three dimensions x1, x2, ...
PROBE = 1e-7  # distance to both sides of a boundary point, relative to the size of the shape
LOOKS = 2**16  # points by which the share of a cut piece is found
KIND = torch.float64


def axes_of(dim: int) -> tuple[str, ...]:
    """Return the names of the coordinates in so many dimensions."""
    return AXES[:dim] if dim <= len(AXES) else tuple(f"x{k + 1}" for k in range(dim))


class UnknownPart(SciMLError, AttributeError):
    """A part of a boundary that a shape does not have."""


@dataclass(frozen=True)
class Part:
    """A choice of labelled pieces of a boundary, as conditions name it.

    Attributes:
        labels: Labels of the pieces; "boundary" is all of it, "rest" what no other condition of
            the same system names; "initial" and "final" are the ends of time.
    """

    labels: frozenset[str]

    def __or__(self, other: Part) -> Part:
        """Return both parts together."""
        return Part(self.labels | other.labels)

    def __str__(self) -> str:
        """Return the labels."""
        return " | ".join(sorted(self.labels))


def part(*labels: str) -> Part:
    """Return the part with these labels."""
    return Part(frozenset(labels))


class HasParts:
    """Parts of a boundary as attributes."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the boundary's pieces."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Part:
        """Return the part of a label.

        Raises:
            UnknownPart: If there is none, with the nearest label.
        """
        if name.startswith("_"):
            raise AttributeError(name)
        known = (*self.labels, "boundary", "rest")
        if name not in known:
            raise UnknownPart(
                f"{type(self).__name__}.{name}", "a part of its boundary", did_you_mean(name, known)
            )
        return part(name)


class Piece:
    """A simple part of a boundary.

    Args:
        label: Its name.
        measure: Length or area; 1 for a point.

    Attributes:
        point: Whether it is a single point.
    """

    point = False

    def __init__(self, label: str, measure: float) -> None:
        self.label, self.measure = label, float(measure)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `n` uniform points and unit normals, outwards from the primitive, `(n, d)`."""
        raise NotImplementedError

    def corners(self) -> list[Tensor]:
        """Return where it ends in the plane, `(2,)` each; empty where it has no ends."""
        return []


class Face(Piece):
    """A side of a box; an end of an interval.

    Args:
        label: Its name.
        low: Lower corner `(d,)` of the box.
        high: Upper corner.
        axis: The axis it is perpendicular to.
        upper: Whether it is the side at `high`.
    """

    def __init__(self, label: str, low: Tensor, high: Tensor, axis: int, upper: bool) -> None:
        side = high - low
        super().__init__(label, float(side.prod() / side[axis]))
        self.low, self.side, self.axis, self.upper = low, side, axis, upper
        self.point = len(low) == 1

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points and normals."""
        u = torch.rand(n, len(self.low), generator=generator, dtype=KIND, device=generator.device)
        u[:, self.axis] = float(self.upper)
        normals = torch.zeros_like(u)
        normals[:, self.axis] = 1.0 if self.upper else -1.0
        return self.low.to(u.device) + u * self.side.to(u.device), normals

    def corners(self) -> list[Tensor]:
        """Return both ends of a side of a rectangle."""
        if len(self.low) != 2:
            return []
        start = self.low.clone()
        start[self.axis] += self.side[self.axis] * self.upper
        end = start.clone()
        end[1 - self.axis] += self.side[1 - self.axis]
        return [start, end]


class Segment(Piece):
    """An edge of a polygon that lies to its left.

    Args:
        label: Its name.
        start: Where it begins, `(2,)`.
        end: Where it ends.
    """

    def __init__(self, label: str, start: Tensor, end: Tensor) -> None:
        self.start, self.edge = start, end - start
        super().__init__(label, float(self.edge.norm()))
        self.normal = torch.stack([self.edge[1], -self.edge[0]]) / self.measure

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points and normals."""
        u = torch.rand(n, 1, generator=generator, dtype=KIND, device=generator.device)
        points = self.start.to(u.device) + u * self.edge.to(u.device)
        return points, self.normal.to(u.device).expand(n, 2)

    def corners(self) -> list[Tensor]:
        """Return both ends."""
        return [self.start, self.start + self.edge]


class Sphere(Piece):
    """The surface of a ball or the edge of a disk.

    Args:
        label: Its name.
        center: `(d,)`.
        radius: Positive.
    """

    def __init__(self, label: str, center: Tensor, radius: float) -> None:
        d = len(center)
        area = 2 * math.pi ** (d / 2) / math.gamma(d / 2) * radius ** (d - 1)
        super().__init__(label, area)
        self.center, self.radius = center, radius

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points and normals."""
        shape = (n, len(self.center))
        out = torch.randn(shape, generator=generator, dtype=KIND, device=generator.device)
        out = out / out.norm(dim=1, keepdim=True)
        return self.center.to(out.device) + self.radius * out, out


class Cut(Piece):
    """What a combined shape keeps of a piece.

    Args:
        piece: The piece of a primitive.
        shape: The combined shape.
        earlier: Pieces of other primitives that count where they coincide with this one.
    """

    def __init__(self, piece: Piece, shape: Shape, earlier: Sequence[tuple[Shape, Piece]]) -> None:
        self.piece, self.shape, self.earlier = piece, shape, tuple(earlier)
        self.point = piece.point
        _, _, keep = self._kept(LOOKS, torch.Generator().manual_seed(0))
        self.share = float(keep.double().mean())
        super().__init__(piece.label, piece.measure * self.share)

    def _kept(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return points, normals out of the combined shape, and which belong to its boundary."""
        points, normals = self.piece.sample(n, generator)
        step = PROBE * self.shape.size * normals
        behind, ahead = self.shape.contains(points - step), self.shape.contains(points + step)
        keep = behind ^ ahead
        for primitive in {id(s): s for s, _ in self.earlier}.values():
            keep &= primitive.level(points).abs() > PROBE * self.shape.size
        return points, torch.where(behind[:, None], normals, -normals), keep

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points and normals."""
        d = self.shape.dim

        def draw(m: int) -> tuple[Tensor, Tensor]:
            points, normals, keep = self._kept(int(m / max(self.share, 1e-3)) + 8, generator)
            return torch.cat([points, normals], 1)[None], keep[None]

        rows = accepted(n, draw)[0][0]
        return rows[:, :d], rows[:, d:]

    def corners(self) -> list[Tensor]:
        """Return those ends of the whole piece that lie on the combined boundary."""
        near = PROBE * self.shape.size
        return [c for c in self.piece.corners() if abs(float(self.shape.level(c[None]))) < near]


class Shape(HasParts):
    """A bounded domain in d dimensions whose boundary has named parts.

    Args:
        domain: One domain of `sciml.physics.geometry`.
        pieces: Its boundary.
        leaves: The primitives it is made of; itself by default.

    Attributes:
        dim: d.
        axes: Names of the coordinates.
        size: Longest side of the box around it.
    """

    def __init__(
        self, domain: geometry.Domain, pieces: Sequence[Piece], leaves: Sequence[Shape] = ()
    ) -> None:
        self.domain, self.pieces = domain, tuple(pieces)
        self.dim, self.axes = domain.dim, axes_of(domain.dim)
        low, high = domain.bounds()
        self.low, self.high = low[0].to(KIND), high[0].to(KIND)
        self.size = float((self.high - self.low).max())
        self.leaves = tuple(leaves) or (self,)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the boundary's pieces."""
        return tuple(dict.fromkeys(piece.label for piece in self.pieces))

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """What a combined shape keeps of the boundaries of its primitives.

        Raises:
            InvalidArgument: If that is nothing.
        """
        seen: list[tuple[Shape, Piece]] = []
        pieces = []
        for leaf in self.leaves:
            found = [Cut(piece, self, seen) for piece in leaf.pieces]
            pieces += [cut for cut in found if cut.share > 0]
            seen += [(leaf, piece) for piece in leaf.pieces]
        if not pieces:
            raise InvalidArgument(f"a {self.kind} without boundary", "shapes that overlap")
        return tuple(pieces)

    def level(self, points: Tensor) -> Tensor:
        """Return a signed distance `(N,)` of points `(N, d)`, negative inside."""
        where = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        return self.domain.level(points.T.contiguous(), where)

    def contains(self, points: Tensor) -> Tensor:
        """Return whether points `(N, d)` lie inside, `(N,)`."""
        return self.level(points) < 0

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return `n` uniform points `(n, d)`, float64."""
        return self.domain.sample_interior(n, generator, KIND)[0]

    # --- combinations -----------------------------------------------------------------------
    def __or__(self, other: Shape) -> Shape:
        """Return the union."""
        return _combined(self, other, "union")

    def __sub__(self, other: Shape) -> Shape:
        """Return this shape without the other."""
        return _combined(self, other, "difference")

    def __and__(self, other: Shape) -> Shape:
        """Return what lies in both."""
        return _combined(self, other, "intersection")

    def __mul__(self, other) -> object:
        """Return the product with a time interval or a range of a parameter."""
        from sciml.physics.systems.region import Region

        return Region.of(self) * other


def _combined(first: Shape, second: Shape, kind: str) -> Shape:
    whole = Shape(geometry.Boolean(first.domain, second.domain, kind), ())
    whole.leaves = (*first.leaves, *second.leaves)
    del whole.pieces  # found when they are asked for: many steps of a combination never are
    whole.kind = kind
    return whole


# --- primitives -----------------------------------------------------------------------------
SIDES = (("left", "right"), ("bottom", "top"), ("back", "front"))


class Box(Shape):
    """`low < x < high` in any dimension.

    The sides are left, right (x), bottom, top (y), back, front (z), or all called `name`; beyond
    three dimensions x1_low, x1_high, x2_low, ...

    Args:
        low: Lower corner.
        high: Upper corner.
        name: One label for all sides.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], name: str = "") -> None:
        domain = geometry.Box(tuple(map(float, low)), tuple(map(float, high)))
        a, b = domain.low[0].to(KIND), domain.high[0].to(KIND)
        sides = SIDES
        if domain.dim > len(AXES):
            sides = tuple((f"{v}_low", f"{v}_high") for v in axes_of(domain.dim))
        pieces = [
            Face(name or sides[axis][upper], a, b, axis, bool(upper))
            for axis in range(domain.dim)
            for upper in (0, 1)
        ]
        super().__init__(domain, pieces)


class Interval(Box):
    """`low < x < high`, with the ends left and right.

    Args:
        low: Left end.
        high: Right end.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__((low,), (high,))


class Rectangle(Box):
    """A box in the plane, with the sides left, right, bottom and top.

    Args:
        low: Lower left corner.
        high: Upper right corner.
        name: One label for all sides.
    """


class Ball(Shape):
    """The points closer than `radius` to `center`, a disk in the plane.

    Args:
        center: d numbers.
        radius: Positive.
        name: Label of its surface.
    """

    def __init__(self, center: Sequence[float], radius: float, name: str = "circle") -> None:
        domain = geometry.Ball(float(radius), tuple(map(float, center)))
        super().__init__(domain, [Sphere(name, domain.center[0].to(KIND), float(radius))])


class Disk(Ball):
    """A ball in the plane, whose edge is called circle unless it has a name."""


class Polygon(Shape):
    """A simple polygon; its edges are edge0, edge1, ..., or as `labels` says.

    Args:
        corners: `(V, 2)`, either way round; edge k goes from corner k to the next.
        labels: One label per edge.
    """

    def __init__(
        self, corners: Sequence[Sequence[float]], labels: Sequence[str] | None = None
    ) -> None:
        points = torch.tensor(corners, dtype=KIND)
        domain = geometry.Polygon(points)
        names = [f"edge{k}" for k in range(len(points))] if labels is None else list(labels)
        if len(names) != len(points):
            raise InvalidArgument(f"{len(names)} labels of {len(points)} edges", "one per edge")
        ends = points.roll(-1, 0)
        area = (points[:, 0] * ends[:, 1] - points[:, 1] * ends[:, 0]).sum()
        pairs = zip(points, ends, names, strict=True)
        pieces = [Segment(n, *((a, b) if area > 0 else (b, a))) for a, b, n in pairs]
        super().__init__(domain, pieces)
