"""Unions, intersections and differences: the smaller or larger of two levels."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import accepted, length
from sciml.shapes import check_kind
from sciml.typed_arguments import typed

# Alternating projections towards an edge where two boundaries meet.
ALTERNATIONS = 8


@typed
class Boolean(Domain):
    """Two batches of domains, combined one by one.

    `level`, and `signed_distance` with it, is a lower bound of the distance in size and right in
    sign: exact where the closest boundary point belongs to the nearer part. `nearest` is exact
    near the boundary, where walks end, except within the distance of a re-entrant edge, where it
    is a boundary point about as close.

    Args:
        first: B domains, or one.
        second: B domains of the same dimension, or one.
        kind: "union", "intersection", or "difference" (first without second).

    Raises:
        InvalidArgument: If numbers or dimensions differ, or `kind` is unknown.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball, Boolean, Box
        >>> plate = Boolean(Box(), Ball(radius=0.5), "difference")  # a square with a hole
        >>> plate.inside(torch.tensor([[[0.0, 0.0], [0.8, 0.8]]])).tolist()
        [[False, True]]
    """

    def __init__(self, first: Domain, second: Domain, kind: str) -> None:
        check_kind("first", first, Domain)
        check_kind("second", second, Domain)
        first, second = _repeat(first, second.count), _repeat(second, first.count)
        if (first.count, first.dim) != (second.count, second.dim):
            raise InvalidArgument(
                f"{first.count} domains in {first.dim}D and {second.count} in {second.dim}D",
                "as many domains, or one, of one dimension",
            )
        if kind not in ("union", "intersection", "difference"):
            raise InvalidArgument(f"kind={kind!r}", "'union', 'intersection' or 'difference'")
        super().__init__(first.count, first.dim)
        self.first, self.second, self.kind = first, second, kind
        # every combination is an intersection of A or its complement with B or its complement,
        # or the complement of one: signs turn the levels
        self.outer = -1.0 if kind == "union" else 1.0
        self.flip = -1.0 if kind == "difference" else 1.0

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the smaller or larger of the two levels."""
        first, second = self.first.level(x, i), self.flip * self.second.level(x, i)
        return torch.minimum(first, second) if self.outer < 0 else torch.maximum(first, second)

    def signed_distance(self, points: Tensor) -> Tensor:
        """Return `level` at `points (B, P, d)`: right in sign, a lower bound in size."""
        return self.level(*self.columns(points)).view(self.count, -1)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the closer of the two projections that lie on the common boundary."""
        on_first, on_second = self.first.nearest(x, i), self.second.nearest(x, i)
        tolerance = 1e-5 * self.pick(self.scale(), x, i)
        valid = [
            self.outer * self.flip * self.second.level(on_first, i) <= tolerance,
            self.outer * self.first.level(on_second, i) <= tolerance,
        ]
        gaps = [
            torch.where(ok, length(on - x), torch.inf)
            for ok, on in zip(valid, (on_first, on_second), strict=True)
        ]
        found = torch.where(gaps[0] <= gaps[1], on_first, on_second)
        lost = ~(valid[0] | valid[1])
        if not bool(lost.any()):
            return found
        edge, of = x[:, lost], i.expand(x.shape[1])[lost]
        for _ in range(ALTERNATIONS):
            edge = self.second.nearest(self.first.nearest(edge, of), of)
        return found.index_copy(1, lost.nonzero()[:, 0], edge)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return boxes around the first domain, the overlap, or both."""
        low, high = self.first.bounds()
        if self.kind == "difference":
            return low, high
        low2, high2 = self.second.bounds()
        if self.kind == "union":
            return torch.minimum(low, low2), torch.maximum(high, high2)
        return torch.maximum(low, low2), torch.minimum(high, high2)

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return points of both boundaries that lie on the common one, uniform in area.

        `weight` carries the sampling error of the share of each boundary that is kept.
        """
        d, total = self.dim, None

        def draw(m: int) -> tuple[Tensor, Tensor]:
            nonlocal total
            parts = [
                part.sample_boundary(m, generator, dtype) for part in (self.first, self.second)
            ]
            areas = torch.stack([part.weight.sum(1) for part in parts], 1)
            total = areas.sum(1)
            u = torch.rand(self.count, m, 1, generator=generator, device=generator.device)
            take = u < (areas[:, :1] / total[:, None])[..., None]
            points = torch.where(take, parts[0].points, parts[1].points)
            normals = torch.where(take, parts[0].normals, self.flip * parts[1].normals)
            x, i = self.columns(points)
            other = torch.where(
                take.reshape(-1), self.flip * self.second.level(x, i), self.first.level(x, i)
            )
            keep = (self.outer * other <= 0).view(self.count, m)
            return torch.cat([points, normals], 2), keep

        rows, share = accepted(n, draw)
        weight = (total * share / n)[:, None].expand(-1, n)
        return Boundary(rows[..., :d], rows[..., d:], weight.to(dtype))


def union(first: Domain, second: Domain) -> Boolean:
    """Return the points in `first` or `second`, domain by domain.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball, Box, union
        >>> both = union(Ball(), Box((0.0, 0.0), (2.0, 2.0)))
        >>> both.signed_distance(torch.tensor([[[1.5, 1.5], [-1.5, 0.0]]])).tolist()  # in, out
        [[-0.5, 0.5]]
    """
    return Boolean(first, second, "union")


def intersection(first: Domain, second: Domain) -> Boolean:
    """Return the points in `first` and `second`, domain by domain.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball, Box, intersection
        >>> half = intersection(Ball(), Box((0.0, -1.0), (1.0, 1.0)))
        >>> half.signed_distance(torch.tensor([[[0.5, 0.0], [-0.5, 0.0]]])).tolist()  # in, out
        [[-0.5, 0.5]]
    """
    return Boolean(first, second, "intersection")


def difference(first: Domain, second: Domain) -> Boolean:
    """Return the points in `first` but not in `second`, domain by domain.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball, Box, difference
        >>> plate = difference(Box(), Ball(radius=0.5))
        >>> plate.inside(torch.tensor([[[0.0, 0.0], [0.8, 0.8]]])).tolist()
        [[False, True]]
    """
    return Boolean(first, second, "difference")


def _repeat(domain: Domain, count: int) -> Domain:
    """Return one domain `count` times; others as they are."""
    if domain.count != 1 or count == 1:
        return domain
    return domain.select(torch.zeros(count, dtype=torch.int64, device=domain.bounds()[0].device))
