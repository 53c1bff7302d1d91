"""A faster distance for a domain given otherwise, whose boundary it keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.geometry.grid import BLOCK, SDFGrid
from sciml.shapes import check_kind
from sciml.typed_arguments import typed

# The table's overestimate is measured at the cell centres and multiplied by this.
SLACK = 1.5
# Nodes along every axis, by dimension: a table of more takes long to fill.
NODES = {2: 129, 3: 65}


@typed
class Tabulated(Domain):
    """A domain whose `gap` is looked up in a table; everything else is the domain's own.

    Worth it where distances are bounds or slow: star-shaped domains, polygons with many corners.
    The table overestimates where the boundary curves inward; what it overestimates by at the cell
    centres is measured once and, with half as much again, subtracted. Keep the walks' `eps` well
    above `slack`; a step that still leaves the domain ends there and is projected back.

    Args:
        domain: B domains.
        nodes: Nodes of the table along every axis: by default 129 in the plane, 65 in space. More
            only make the walks' steps a little longer: `slack` is what they are shorter by.

    Attributes:
        slack: `(B,)` what is subtracted from the interpolated distance.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import Star, Tabulated
        >>> table = Tabulated(Star(cosine=(0.2, 0.0)), nodes=33)
        >>> bool(table.slack < 0.05), table.inside(torch.tensor([[[1.1, 0.0]]])).tolist()
        (True, [[True]])
    """

    def __init__(self, domain: Domain, nodes: int | None = None) -> None:
        check_kind("domain", domain, Domain)
        super().__init__(domain.count, domain.dim)
        nodes = NODES.get(domain.dim, min(NODES.values())) if nodes is None else nodes
        self.domain, self.grid = domain, SDFGrid.of(domain, nodes)
        low, high = self.grid.bounds()
        axis = torch.arange(nodes - 1, dtype=torch.float64, device=low.device)
        axis = (axis + 0.5) / (nodes - 1)
        unit = torch.stack(torch.meshgrid([axis] * self.dim, indexing="ij"), -1)
        unit = unit.view(-1, self.dim)
        # a cell without a node inside underestimates what is inside of it
        unit = unit[self.grid.cells_inside().any(0)]
        self.slack = low.new_zeros(self.count)
        for part in unit.split(max(1, BLOCK // self.count)):
            points = low[:, None] + part * (high - low)[:, None]
            exact = -domain.signed_distance(points)
            excess = -self.grid.interpolate(*self.columns(points)).view_as(exact) - exact
            excess = torch.where(exact > 0, excess, 0.0).amax(1)
            self.slack = torch.maximum(self.slack, SLACK * excess)

    def gap(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the interpolated distance less the slack."""
        return -(self.grid.interpolate(x, i) + self.pick(self.slack, x, i))

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's own level."""
        return self.domain.level(x, i)

    def nearest(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's own projection."""
        return self.domain.nearest(x, i)

    def land(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the domain's own projection of points near the boundary."""
        return self.domain.land(x, i)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the domain's own boxes."""
        return self.domain.bounds()

    def sample_interior(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return the domain's own samples."""
        return self.domain.sample_interior(n, generator, dtype)

    def sample_boundary(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Boundary:
        """Return the domain's own samples."""
        return self.domain.sample_boundary(n, generator, dtype)
