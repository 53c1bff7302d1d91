"""Simple polygons, among them the L-shape: exact distances to every edge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import Numbers, batch, positive, rows_of, uniform
from sciml.shapes import check_kind


class Polygon(Domain):
    """Simple polygons with V corners each, with holes or without.

    A query visits all edges; for more than about 50 put the polygons into a `Tabulated`.

    Args:
        vertices: `(B, V, 2)` or `(V, 2)`, in order along the boundary, either way round; edges
            must not cross (not checked). Polygons with fewer corners repeat one.
        holes: Polygons of the same kind that are cut out; each inside, none touching another (not
            checked).

    Attributes:
        vertices: `(B, V, 2)` corners of the outer boundary, counter-clockwise.
        starts: `(B, E, 2)` where the edges begin: those of the outer boundary, then those of the
            holes, which run clockwise. The domain lies to the left of every edge.
        ends: `(B, E, 2)` where they end.

    Raises:
        InvalidArgument: For fewer than three corners or an empty polygon.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Polygon
        >>> corner = Polygon([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]])  # an L
        >>> corner.inside(torch.tensor([[[0.5, 1.5], [1.5, 1.5]]])).tolist()
        [[True, False]]
    """

    def __init__(self, vertices: Numbers, holes: Sequence = ()) -> None:
        check_kind("holes", holes, (Sequence, Tensor), "Write holes=[corners]")
        loops = [_loop(vertices, 1.0), *(_loop(hole, -1.0) for hole in holes)]
        loops = batch(**{f"loop {k}": corners for k, corners in enumerate(loops)})
        self.vertices = loops[0]
        self.sizes = tuple(corners.shape[1] for corners in loops)
        self.starts = torch.cat(loops, 1)
        self.ends = torch.cat([corners.roll(-1, 1) for corners in loops], 1)
        super().__init__(len(self.vertices), 2)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the signed distance."""
        square, _, inside = self._scan(x, i, sign=True)
        distance = square.sqrt()
        return torch.where(inside, -distance, distance)

    def gap(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the distance to the closest edge."""
        return self._scan(x, i)[0].sqrt_()

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closest points of the edges."""
        return self._scan(x, i, point=True)[1]

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the boxes that touch each polygon."""
        return self.vertices.amin(1), self.vertices.amax(1)

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points uniform in arc length."""
        edges = self.ends - self.starts
        lengths = torch.linalg.vector_norm(edges, dim=2)
        k = torch.multinomial(lengths, max(n, 1), replacement=True, generator=generator)[:, :n]
        index = k[..., None].expand(-1, -1, 2)
        edge = edges.gather(1, index)
        share = uniform((self.count, n, 1), generator, torch.float64)
        normals = torch.stack([edge[..., 1], -edge[..., 0]], 2) / lengths.gather(1, k)[..., None]
        weight = (lengths.sum(1, keepdim=True) / max(n, 1)).expand(-1, n)
        points = self.starts.gather(1, index) + share * edge
        return Boundary(points.to(dtype), normals.to(dtype), weight.to(dtype))

    def _scan(self, x: Tensor, i: Tensor, point: bool = False, sign: bool = False) -> tuple:
        """Return squared distance `(N,)`, closest point `(2, N)` or None, inside `(N,)` or None."""
        first = self.pick(self.starts.flatten(1), x, i).unflatten(0, (-1, 2))
        if len(self.sizes) == 1:
            last = first.roll(-1, 0)
        else:
            last = self.pick(self.ends.flatten(1), x, i).unflatten(0, (-1, 2))
        best, on = torch.full_like(x[0], torch.inf), x if point else None
        inside = torch.zeros_like(x[0], dtype=torch.bool) if sign else None
        # one edge at a time keeps the working set in cache
        for a, b in zip(first, last, strict=True):
            (eu, ev), (pu, pv) = b - a, x - a
            length = (eu * eu + ev * ev).clamp_min(torch.finfo(x.dtype).tiny)
            t = ((pu * eu + pv * ev) / length).clamp_(0, 1)
            du, dv = torch.addcmul(pu, t, eu, value=-1), torch.addcmul(pv, t, ev, value=-1)
            square = torch.addcmul(du * du, dv, dv)
            if point:
                on = torch.where(square < best, x - torch.stack([du, dv]), on)
            if sign:
                # does a ray to the right cross this edge?
                above, below = x[1] >= a[1], x[1] >= b[1]
                left = pu * ev - pv * eu < 0
                inside = inside ^ ((above != below) & (left == (b[1] > a[1])))
            best = torch.minimum(best, square)
        return best, on, inside


def _loop(vertices: Numbers, sign: float) -> Tensor:
    """Return corners `(B, V, 2)`, counter-clockwise for sign 1, clockwise for -1."""
    vertices = rows_of("vertices", vertices, (None, 2))
    if vertices.shape[1] < 3:
        raise InvalidArgument(f"{vertices.shape[1]} vertices", "at least 3")
    following = vertices.roll(-1, 1)
    area = (vertices[..., 0] * following[..., 1] - vertices[..., 1] * following[..., 0]).sum(1)
    positive("area", area.abs())
    return torch.where(sign * area[:, None, None] > 0, vertices, vertices.flip(1))


def l_shape(side: Numbers = 1.0, notch: Numbers = 0.5, center: Numbers = (0.0, 0.0)) -> Polygon:
    """Return squares `|x|, |y| < side` without their corner `x, y > side (1 - 2 notch)`.

    The re-entrant corner of the usual L-shape, `notch` 0.5, lies at the centre.

    Args:
        side: Half the side of the square, `(B,)` or one number.
        notch: Share of the side that is cut away, `(B,)` or one number, between 0 and 1.
        center: `(B, 2)` or `(2,)`.

    Raises:
        InvalidArgument: For a notch outside (0, 1) or a side that is not positive.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import l_shape
        >>> l_shape().inside(torch.tensor([[[-0.5, 0.5], [0.5, 0.5]]])).tolist()
        [[True, False]]
    """
    side, notch = positive("side", rows_of("side", side, ())), rows_of("notch", notch, ())
    positive("notch", notch), positive("1 - notch", 1 - notch)
    one = torch.ones_like(side * notch)
    corner = 1 - 2 * notch * one
    u = torch.stack([-one, one, one, corner, corner, -one], 1)
    v = torch.stack([-one, -one, corner, corner, one, one], 1)
    shape = side[:, None, None] * torch.stack([u, v], 2)
    return Polygon(shape + rows_of("center", center, (2,))[:, None])
