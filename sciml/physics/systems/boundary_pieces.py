"""Labelled pieces of the boundary of a shape, and choices of them by name.

A shape has pieces: faces, segments, spheres, and what a combination of shapes keeps of them. Users
name a choice of pieces by their labels, as in `domain.left | domain.top`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import SciMLError, did_you_mean

KIND = torch.float64


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
