"""Balls, boxes and shells in any dimension: distances in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics import samplers
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import Numbers, batch, length, positive, rows_of, uniform


class Annulus(Domain):
    """`inner < |x - center| < outer` in d dimensions.

    Args:
        inner: Radii `(B,)` or one number, positive.
        outer: Radii `(B,)` or one number, above `inner`.
        center: Centres `(B, d)` or `(d,)`; d is read from here.

    Raises:
        InvalidArgument: For empty shells or shapes that do not fit.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Annulus
        >>> ring = Annulus(inner=0.5, outer=1.0)
        >>> ring.signed_distance(torch.tensor([[[0.75, 0.0], [0.0, 0.0]]])).tolist()
        [[-0.25, 0.5]]
    """

    def __init__(self, inner: Numbers, outer: Numbers, center: Numbers = (0.0, 0.0)) -> None:
        self.inner, self.outer, self.center = batch(
            inner=positive("inner", rows_of("inner", inner, ())),
            outer=rows_of("outer", outer, ()),
            center=rows_of("center", center, (None,)),
        )
        positive("outer - inner", self.outer - self.inner)
        super().__init__(*self.center.shape)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance."""
        r = length(x - self.pick(self.center, x, i))
        return torch.maximum(r - self.pick(self.outer, x, i), self.pick(self.inner, x, i) - r)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the radial projection to the closer sphere."""
        inner, outer = self.pick(self.inner, x, i), self.pick(self.outer, x, i)
        center = self.pick(self.center, x, i)
        out, r = radial(x - center)
        return center + out * torch.where(2 * r < inner + outer, inner, outer)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the cube around the outer sphere."""
        return self.center - self.outer[:, None], self.center + self.outer[:, None]

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points of both spheres, in proportion to their areas."""
        share = 1 / (1 + (self.inner / self.outer) ** (self.dim - 1))
        on_outer = uniform((self.count, n), generator, dtype) < share[:, None]
        radius = torch.where(on_outer, self.outer[:, None], self.inner[:, None]).to(dtype)
        out = unit_vectors(self.count, n, self.dim, generator, dtype)
        area = sphere_area(self.dim) * self.outer ** (self.dim - 1) / share
        return Boundary(
            self.center.to(dtype)[:, None] + radius[..., None] * out,
            torch.where(on_outer[..., None], out, -out),
            (area / n).to(dtype)[:, None].expand(-1, n),
        )


class Ball(Domain):
    """`|x - center| < radius` in d dimensions.

    Args:
        radius: Radii `(B,)` or one number, positive.
        center: Centres `(B, d)` or `(d,)`; d is read from here.

    Raises:
        InvalidArgument: For radii that are not positive or shapes that do not fit.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball
        >>> balls = Ball(radius=torch.tensor([1.0, 2.0]), center=(0.0, 0.0, 0.0))
        >>> balls.count, balls.dim
        (2, 3)
        >>> balls.signed_distance(torch.zeros(2, 1, 3)).tolist()  # one point in each
        [[-1.0], [-2.0]]
    """

    def __init__(self, radius: Numbers = 1.0, center: Numbers = (0.0, 0.0)) -> None:
        self.radius, self.center = batch(
            radius=positive("radius", rows_of("radius", radius, ())),
            center=rows_of("center", center, (None,)),
        )
        super().__init__(*self.center.shape)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance."""
        r = length(x - self.pick(self.center, x, i))
        return r.sub_(self.pick(self.radius, x, i))

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the radial projection."""
        center = self.pick(self.center, x, i)
        return center + radial(x - center)[0] * self.pick(self.radius, x, i)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the cube around each ball."""
        return self.center - self.radius[:, None], self.center + self.radius[:, None]

    def sample_interior(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return points uniform in each ball, without rejection: cubes are empty in high d."""
        out = unit_vectors(self.count, n, self.dim, generator, dtype)
        r = uniform((self.count, n, 1), generator, dtype) ** (1 / self.dim)
        return self.center.to(dtype)[:, None] + out * r * self.radius.to(dtype)[:, None, None]

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points uniform on each sphere."""
        out = unit_vectors(self.count, n, self.dim, generator, dtype)
        points = self.center.to(dtype)[:, None] + out * self.radius.to(dtype)[:, None, None]
        area = sphere_area(self.dim) * self.radius ** (self.dim - 1)
        return Boundary(points, out, (area / n).to(dtype)[:, None].expand(-1, n))


class Box(Domain):
    """`low < x < high` in every coordinate.

    Args:
        low: Lower corners `(B, d)` or `(d,)`.
        high: Upper corners `(B, d)` or `(d,)`.

    Raises:
        InvalidArgument: For empty boxes or shapes that do not fit.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Box
        >>> box = Box(low=(0.0, 0.0), high=(2.0, 1.0))
        >>> box.project(torch.tensor([[[1.0, 0.8]]])).tolist()  # to the closest side
        [[[1.0, 1.0]]]
    """

    def __init__(self, low: Numbers = (-1.0, -1.0), high: Numbers = (1.0, 1.0)) -> None:
        low, high = rows_of("low", low, (None,)), rows_of("high", high, (None,))
        if low.shape[1] != high.shape[1]:
            raise InvalidArgument(
                f"corners of {low.shape[1]} and {high.shape[1]} coordinates", "as many in both"
            )
        self.low, self.high = batch(low=low, high=high)
        positive("high - low", self.high - self.low)
        super().__init__(*self.low.shape)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance."""
        beyond = torch.maximum(self.pick(self.low, x, i) - x, x - self.pick(self.high, x, i))
        outside = length(beyond.clamp_min(0))
        return outside + beyond.amax(0).clamp_max(0)

    def gap(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the distance to the closest face."""
        low, high = self.pick(self.low, x, i), self.pick(self.high, x, i)
        return torch.minimum(x - low, high - x).amin(0)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the point itself clamped to the box, moved to the closest face from inside."""
        low, high = self.pick(self.low, x, i), self.pick(self.high, x, i)
        p = torch.minimum(torch.maximum(x, low), high)
        depth = torch.minimum(p - low, high - p)
        axis = depth.argmin(0, keepdim=True)
        face = torch.where(p - low < high - p, low, high).expand_as(p).gather(0, axis)
        # a point from outside has depth 0 along some axis and stays where it is
        return p.scatter(0, axis, face)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners."""
        return self.low, self.high

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points of all faces, in proportion to their areas."""
        side = self.high - self.low
        areas = side.prod(1, keepdim=True) / side
        face = torch.multinomial(areas, max(n, 1), replacement=True, generator=generator)
        face = face[:, :n, None]
        upper = uniform((self.count, n, 1), generator, dtype) < 0.5
        low, high = self.low.to(dtype)[:, None], self.high.to(dtype)[:, None]
        points = low + uniform((self.count, n, self.dim), generator, dtype) * (high - low)
        ends = torch.where(upper, high.expand_as(points).gather(2, face),
                           low.expand_as(points).gather(2, face))  # fmt: skip
        normals = torch.zeros_like(points).scatter(2, face, torch.where(upper, 1.0, -1.0).to(dtype))
        weight = (2 * areas.sum(1) / max(n, 1)).to(dtype)[:, None].expand(-1, n)
        return Boundary(points.scatter(2, face, ends), normals, weight)


def radial(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors along `x (d, N)` and lengths `(N,)`; the origin points along axis 0."""
    r = length(x)
    axis = torch.zeros_like(x)
    axis[0] = 1
    return torch.where(r > 0, x / r.clamp_min(torch.finfo(x.dtype).tiny), axis), r


def unit_vectors(
    count: int, n: int, dim: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Return `(count, n, dim)` vectors uniform on the unit sphere."""
    return samplers.sphere(count * n, dim, generator, dtype=dtype).view(count, n, dim)


def sphere_area(dim: int) -> float:
    """Return the area of the unit sphere in `dim` dimensions: 2 pi, 4 pi, ..."""
    return 2 * math.exp(dim / 2 * math.log(math.pi) - math.lgamma(dim / 2))
