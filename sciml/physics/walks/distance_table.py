"""Distances and landings of walks from one table per domain: for batches of small problems.

A training step of an operator walks in many domains, from few points each. What costs is the
number of tensor operations per step of the walks, and a table has the fewest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.geometry import Domain, Tabulated


class WalkTable(Tabulated):
    """A `Tabulated` domain that also lands along the gradient of the table.

    A landing is off the boundary by about `slack`, like the end of the walk before it, which is a
    bias of the same order as that of the walks' `eps`.

    Args:
        domain: B domains.
        nodes: Nodes of the table along every axis.
    """

    def __init__(self, domain: Domain, nodes: int = 96) -> None:
        super().__init__(domain, nodes)

    def land(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the points where the table's gradient leads, for points near the boundary."""
        slope = self.grid.interpolate(x, i, gradient=True)
        square = slope.square().sum(0).clamp_min(0.1)
        return x - slope * (self.grid.interpolate(x, i) / square)

    def level(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the interpolated distance plus the slack: wrong in sign within it."""
        return self.grid.interpolate(x, i) + self.pick(self.slack, x, i)


def inside_points(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the true entries of every row of `mask (B, n)` are, padded to equal numbers.

    Returns:
        Columns `(B, m)`, repeated where a row has fewer than the longest one, and whether each is
        one of the row's own `(B, m)`.
    """
    count = mask.sum(1)
    most = int(count.max())
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    own = torch.arange(most, device=mask.device) < count[:, None]
    return torch.where(own, order, order[:, :1]), own
