"""Shapes whose boundary has named parts: interval, rectangle, box, disk, ball, polygon, and CSG.

    plate = Rectangle((0, 0), (1, 1)) - Disk((0.5, 0.5), 0.2, name="hole")
    plate.left, plate.hole, plate.left | plate.right, plate.boundary, plate.rest

A shape wraps a domain of `sciml.physics.geometry`, which knows distances and the inside, and adds
pieces of the boundary with labels. What a combination keeps of them is found by looking at both
sides of every point: one inside, one outside. Cuts need no rules; equal pieces count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import maybe, names, takes, text
from sciml.errors import InvalidArgument
from sciml.physics import geometry
from sciml.physics.geometry.domain_rows import accepted, floats
from sciml.physics.systems.boundary_pieces import KIND, Face, HasParts, Piece, Segment, Sphere
from sciml.physics.systems.shape_calls import corners_in_a_list, in_brackets
from sciml.typed_arguments import typed

AXES = ("x", "y", "z")  # beyond three dimensions x1, x2, ...
PROBE = 1e-7  # distance to both sides of a boundary point, relative to the size of the shape
LOOKS = 2**16  # points by which the share of a cut piece is found


def axes_of(dim: int) -> tuple[str, ...]:
    """Return the names of the coordinates in so many dimensions."""
    return AXES[:dim] if dim <= len(AXES) else tuple(f"x{k + 1}" for k in range(dim))


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


@typed
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

    Example:
        >>> import torch
        >>> from sciml.physics.systems import Disk, Rectangle
        >>> plate = Rectangle((0, 0), (2, 1)) - Disk((1.0, 0.5), 0.2, name="hole")
        >>> plate.labels
        ('left', 'right', 'bottom', 'top', 'hole')
        >>> plate.contains(torch.tensor([[0.1, 0.1], [1.0, 0.5]])).tolist()
        [True, False]
    """

    def __init__(
        self, domain: geometry.Domain, pieces: Sequence[Piece], leaves: Sequence[Shape] = ()
    ) -> None:
        if domain.count != 1:
            raise InvalidArgument(f"a shape of {domain.count} domains", "one domain")
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

    def __or__(self, other: Shape) -> Shape:
        """Return the union."""
        return _combined(self, other, "union")

    def __sub__(self, other: Shape) -> Shape:
        """Return this shape without the other."""
        return _combined(self, other, "difference")

    def __and__(self, other: Shape) -> Shape:
        """Return what lies in both."""
        return _combined(self, other, "intersection")

    def __mul__(self, other: Any) -> object:
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

    Example:
        >>> from sciml.physics.systems import Box
        >>> Box((0, 0, 0), (1, 2, 3)).labels
        ('left', 'right', 'bottom', 'top', 'back', 'front')
        >>> Box((0, 0), (1, 1), name="wall").labels
        ('wall',)
    """

    @in_brackets("corner")
    @takes(name=text)
    def __init__(self, low: Sequence[float], high: Sequence[float], name: str = "") -> None:
        domain = geometry.Box(floats("low", low), floats("high", high))
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


@typed
class Interval(Box):
    """`low < x < high`, with the ends left and right.

    Args:
        low: Left end.
        high: Right end.

    Example:
        >>> from sciml.physics.systems import Interval, Time
        >>> rod = Interval(0, 1)
        >>> rod.labels, (rod * Time(0, 2)).variables
        (('left', 'right'), ('x', 't'))
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__((low,), (high,))


class Rectangle(Box):
    """A box in the plane, with the sides left, right, bottom and top.

    Args:
        low: Lower left corner.
        high: Upper right corner.
        name: One label for all sides.

    Example:
        >>> import torch
        >>> from sciml.physics.systems import Rectangle
        >>> plate = Rectangle((0, 0), (2, 1))
        >>> plate.labels
        ('left', 'right', 'bottom', 'top')
        >>> tuple(plate.sample(4, torch.Generator().manual_seed(0)).shape)
        (4, 2)
    """


class Ball(Shape):
    """The points closer than `radius` to `center`, a disk in the plane.

    Args:
        center: d numbers.
        radius: Positive.
        name: Label of its surface.

    Example:
        >>> import torch
        >>> from sciml.physics.systems import Ball
        >>> ball = Ball((0.0, 0.0, 0.0), 2.0, name="surface")
        >>> ball.labels, ball.level(torch.zeros(1, 3)).tolist()
        (('surface',), [-2.0])
    """

    @in_brackets("radius")
    @takes(name=text)
    def __init__(self, center: Sequence[float], radius: float, name: str = "circle") -> None:
        radius = floats("radius", radius)
        domain = geometry.Ball(radius, floats("center", center))
        super().__init__(domain, [Sphere(name, domain.center[0].to(KIND), radius)])


class Disk(Ball):
    """A ball in the plane, whose edge is called circle unless it has a name.

    Example:
        >>> import torch
        >>> from sciml.physics.systems import Disk
        >>> disk = Disk((0.0, 0.0), 1.0)
        >>> disk.labels, disk.contains(torch.tensor([[0.5, 0.5], [0.8, 0.8]])).tolist()
        (('circle',), [True, False])
    """


class Polygon(Shape):
    """A simple polygon; its edges are edge0, edge1, ..., or as `labels` says.

    Args:
        corners: `(V, 2)`, either way round; edge k goes from corner k to the next.
        labels: One label per edge.

    Example:
        >>> from sciml.physics.systems import Polygon
        >>> wedge = Polygon([[0, 0], [1, 0], [0, 1]], labels=["floor", "slope", "wall"])
        >>> wedge.labels, wedge.size
        (('floor', 'slope', 'wall'), 1.0)
    """

    @corners_in_a_list
    @takes(labels=maybe(names))
    def __init__(
        self, corners: Sequence[Sequence[float]], labels: Sequence[str] | None = None
    ) -> None:
        points = torch.tensor(floats("corners", corners), dtype=KIND)
        domain = geometry.Polygon(points)
        called = [f"edge{k}" for k in range(len(points))] if labels is None else list(labels)
        if len(called) != len(points):
            raise InvalidArgument(f"{len(called)} labels of {len(points)} edges", "one per edge")
        ends = points.roll(-1, 0)
        area = (points[:, 0] * ends[:, 1] - points[:, 1] * ends[:, 0]).sum()
        pairs = zip(points, ends, called, strict=True)
        pieces = [Segment(n, *((a, b) if area > 0 else (b, a))) for a, b, n in pairs]
        super().__init__(domain, pieces)
