"""Domains moved and scaled, for data in other units and with another origin."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.domain_rows import Numbers, batch, positive, rows_of
from sciml.shapes import check_kind


class Similar(Domain):
    """Domains in other coordinates, y = (x - center) / size.

    Distances are those of the domain itself over `size`. Coordinates far from the origin keep their
    digits: x is computed in float64, whatever the type of y.

    Args:
        domain: B domains.
        center: `(B, d)` or `(d,)`, what becomes the origin.
        size: `(B,)` or one number, positive, what becomes 1.

    Raises:
        InvalidArgument: For sizes that are not positive or shapes that do not fit.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Ball, Similar
        >>> far = Ball(radius=2.0, center=(100.0, 0.0))
        >>> near = Similar(far, center=(100.0, 0.0), size=2.0)  # a unit disk around the origin
        >>> [corner.tolist() for corner in near.bounds()]
        [[[-1.0, -1.0]], [[1.0, 1.0]]]
    """

    def __init__(self, domain: Domain, center: Numbers, size: Numbers) -> None:
        check_kind("domain", domain, Domain)
        kind = {"dtype": torch.float64, "device": domain.bounds()[0].device}
        self.domain = domain
        self.center, self.size, _ = batch(
            center=rows_of("center", center, (domain.dim,)),
            size=positive("size", rows_of("size", size, ())),
            domains=torch.zeros(domain.count, **kind),
        )
        super().__init__(domain.count, domain.dim)

    def original(self, y: Tensor, i: Tensor) -> Tensor:
        """Return x `(d, N)`, in float64, of `y (d, N)`."""
        y = y.double()
        return self.pick(self.center, y, i) + self.pick(self.size, y, i) * y

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's level over the size."""
        at = self.original(x, i)
        return (self.domain.level(at, i) / self.pick(self.size, at, i)).to(x.dtype)

    def gap(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's gap over the size."""
        at = self.original(x, i)
        return (self.domain.gap(at, i) / self.pick(self.size, at, i)).to(x.dtype)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's closest points in these coordinates."""
        return self._moved(self.domain.nearest(self.original(x, i), i), i).to(x.dtype)

    def land(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's closest points for points close to the boundary."""
        return self._moved(self.domain.land(self.original(x, i), i), i).to(x.dtype)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the domain's boxes in these coordinates."""
        low, high = ((c - self.center) / self.size[:, None] for c in self.domain.bounds())
        return low, high

    def sample_interior(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return the domain's own samples in these coordinates."""
        points = self.domain.sample_interior(n, generator, torch.float64)
        return self.to_local(points).to(dtype)

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return the domain's own samples in these coordinates."""
        own = self.domain.sample_boundary(n, generator, torch.float64)
        weight = own.weight / self.size[:, None] ** (self.dim - 1)
        return Boundary(
            self.to_local(own.points).to(dtype), own.normals.to(dtype), weight.to(dtype)
        )

    def to_local(self, points: Tensor) -> Tensor:
        """Return y `(B, P, d)`, in float64, of `points (B, P, d)` of the domain itself."""
        return (points.double() - self.center[:, None]) / self.size[:, None, None]

    def _moved(self, x: Tensor, i: Tensor) -> Tensor:
        return (x - self.pick(self.center, x, i)) / self.pick(self.size, x, i)
