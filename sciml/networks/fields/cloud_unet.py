"""A U-Net on a grid that point clouds are put on and read off: our own network for clouds.

    grid     every node takes the mean over nearby points, weighted by the grid's hat functions,
             how many there are, and the features of the closest point and the way to it
    U-Net    on that grid (`sciml.networks.fields.unet`)
    points   the grid's channels between nodes, beside the features and places of the points, go
             through a small network point by point

Cost is linear in points but for the search of the closest ones, and whole batches run at once. The
grid reaches one cell beyond the box of the training clouds; points farther out take its edge.

Reference: Ronneberger et al. 2015, arXiv 1505.04597 (U-Net). Multilinear weights as in
particle-in-cell methods (Hockney and Eastwood 1988, section 5-2, cloud in cell).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.fields.cloud_network import CloudNetwork
from sciml.networks.fields.unet import u_layers, u_pass
from sciml.typed_arguments import typed

AT_ONCE = 2**24  # distances of nodes and points that are held at once
NODES = {1: 128, 2: 32, 3: 16}
FLOOR = 1e-2  # weight below which a node knows little of its mean


@typed
class CloudUNet(CloudNetwork):
    """U-Net on point clouds.

    Args:
        clouds: As in `CloudNetwork`.
        nodes: Nodes of the grid per axis; None for 32 in the plane and 16 in space.
        width: Channels on the finest grid; twice as many on every coarser one, up to `widest`.
        levels: Grids, each half as fine as the one before.
        blocks: Residual blocks on every grid, on the way down and on the way up.
        widest: Channels of the coarsest grid at most, in widths.
        hidden: Channels of the network at the points.

    Raises:
        InvalidArgument: For sizes that cannot be.

    Example:
        >>> import torch
        >>> from sciml.networks.fields import CloudUNet
        >>> clouds = {
        ...     "points": "x", "features": [], "widths": [], "output": "y", "dim": 2, "channels": 0,
        ...     "out_channels": 1, "low": [0.0, 0.0], "high": [1.0, 1.0], "mean": [], "std": [],
        ...     "out_mean": [0.0], "out_std": [1.0],
        ... }
        >>> network = CloudUNet(clouds, nodes=8, width=4, levels=2)
        >>> tuple(network.infer(x=torch.rand(2, 30, 2))["y"].shape)
        (2, 30, 1)
    """

    def __init__(
        self,
        clouds: Mapping[str, Any],
        nodes: int | None = None,
        width: int = 24,
        levels: int = 3,
        blocks: int = 1,
        widest: int = 2,
        hidden: int = 64,
    ) -> None:
        super().__init__(clouds)
        dim, seen = self.dim, self.seen_channels
        nodes = NODES[dim] if nodes is None else nodes
        if min(width, levels, blocks, widest, hidden) < 1 or nodes < 2**levels or nodes < 4:
            raise InvalidArgument(
                f"network.nodes={nodes}, width={width}, levels={levels}, blocks={blocks}, "
                f"widest={widest}, hidden={hidden}",
                "positive integers, and 4 nodes or more, at least two on the coarsest grid",
            )
        self.nodes = nodes
        axis = torch.arange(nodes)
        grid = torch.stack(torch.meshgrid(*[axis] * dim, indexing="ij"), -1).flatten(0, -2)
        corners = torch.tensor(list(itertools.product((0, 1), repeat=dim)))
        strides = torch.tensor([nodes ** (dim - 1 - k) for k in range(dim)])
        self.register_buffer("grid", grid.float(), persistent=False)
        self.register_buffer("corners", corners, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        sizes = [width * min(2**k, widest) for k in range(levels)]
        on_nodes = 2 * seen + 2 * dim + 2
        self.enter, self.down, self.up = u_layers(dim, on_nodes, sizes, blocks, wraps=False)
        self.leave = nn.Sequential(
            nn.Linear(width + seen + 2 * dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, int(clouds["out_channels"])),
        )

    def body(self, place: Tensor, features: Tensor) -> Tensor:
        """Return normalised outputs `(B, P, C)`."""
        count, dim = len(place), self.dim
        at = (1 + place * (self.nodes - 3)).clamp(0, self.nodes - 1)  # in cells of the grid
        cell = at.detach().floor().clamp(max=self.nodes - 2)
        inside = at - cell
        weight = torch.where(self.corners.bool(), inside[:, :, None], 1 - inside[:, :, None])
        weight = weight.prod(-1)  # (B, P, 2^d)
        index = ((cell.long()[:, :, None] + self.corners) * self.strides).sum(-1)
        index = index + len(self.grid) * torch.arange(count, device=index.device)[:, None, None]
        on_nodes = self._on_nodes(at, features, weight, index.flatten())
        z = on_nodes.transpose(1, 2).unflatten(2, [self.nodes] * dim)
        z = u_pass(z, self.enter, self.down, self.up).flatten(2).transpose(1, 2).flatten(0, 1)
        found = (z[index] * weight[..., None]).sum(2)
        return self.leave(torch.cat([found, features, 2 * place - 1, 2 * inside - 1], -1))

    def _on_nodes(self, at: Tensor, features: Tensor, weight: Tensor, index: Tensor) -> Tensor:
        """Return what nodes know of points and features `(B, nodes^d, channels)`.

        Args:
            at: Points in cells of the grid `(B, P, d)`.
            features: At the points `(B, P, C)`.
            weight: Of the corners of their cells `(B, P, 2^d)`.
            index: Nodes of these corners in the whole batch `(B P 2^d,)`.
        """
        count, points = at.shape[:2]
        values = torch.cat([features, torch.ones_like(at[..., :1])], -1)
        spread = (weight[..., None] * values[:, :, None]).flatten(0, 2)
        sums = spread.new_zeros(count * len(self.grid), spread.shape[1])
        sums = sums.index_add(0, index, spread).unflatten(0, (count, -1))
        mass = sums[..., -1:]
        mean = sums[..., :-1] / (mass + FLOOR)
        share = (mass * (len(self.grid) / points)).log1p()  # of a cloud of any density
        near = self._closest(at)
        way = self._taken(at, near) - self.grid
        gap = (way.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        centre = (2 * self.grid / (self.nodes - 1) - 1).expand(count, -1, -1)
        return torch.cat([mean, share, centre, self._taken(features, near), gap / 4, way / 4], -1)

    @torch.no_grad()
    def _closest(self, at: Tensor) -> Tensor:
        """Return the number of the point that is closest to each node `(B, nodes^d)`."""
        rows = max(1, AT_ONCE // max(at.shape[0] * at.shape[1], 1))
        parts = [part.expand(len(at), -1, -1) for part in self.grid.split(rows)]
        return torch.cat([torch.cdist(part, at).argmin(-1) for part in parts], 1)

    @staticmethod
    def _taken(values: Tensor, index: Tensor) -> Tensor:
        """Return the rows of numbers `(B, k)` from `(B, P, C)`."""
        return torch.gather(values, 1, index[..., None].expand(-1, -1, values.shape[-1]))
