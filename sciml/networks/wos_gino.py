"""A geometry-informed neural operator for clouds of points in the plane: in, latent grid, out.

    v(y) = mean over points x near y of w(|x - y|) k_in(x - y, features(x))         on a grid y
    v  <-  v + gelu(W v + F^-1(R . F v))                                             layer by layer
    u(x) = decode(mean over grid nodes y near x of w(|x - y|) k_out(x - y) . v(y))

Features of a point: g at the closest boundary point, signed distance, f. Neighbours of a point on a
regular grid are a fixed pattern of offsets, so there is no search, and sums over neighbours are one
`index_add`. The weight `(1 - (r / radius)^2)^3` is smooth, so u can be differentiated twice in x.

Li et al., arXiv 2309.00583 (GINO), in the form of arXiv 2603.01193. Departures: the weight, the
pattern, g of the closest boundary point is normalised by its mean and size and these are put back
at the end, so that scales and constants of u need not be learned.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.spectral import SpectralMix


class WosGINO(nn.Module):
    """The operator; see the top of this file.

    Args:
        half: Half the side of the box of the latent grid.
        nodes: Nodes of the latent grid per axis.
        radius: Reach of the kernels, in units of the grid's spacing.
        width: Channels of v.
        modes: Fourier modes kept per axis.
        layers: Fourier layers.
        hidden: Hidden width of the kernels.

    Raises:
        InvalidArgument: For a reach below one cell.
    """

    def __init__(
        self,
        half: float = 1.5,
        nodes: int = 32,
        radius: float = 2.0,
        width: int = 24,
        modes: int = 10,
        layers: int = 4,
        hidden: int = 48,
    ) -> None:
        super().__init__()
        if radius < 1:
            raise InvalidArgument(f"network.radius={radius}", "at least 1 cell")
        self.half, self.nodes, self.width = float(half), nodes, width
        self.spacing = 2 * self.half / (nodes - 1)
        self.radius = radius * self.spacing
        reach = math.ceil(radius)
        steps = torch.arange(-reach + 1, reach + 1)
        pattern = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        self.register_buffer("pattern", pattern, persistent=False)
        self.read = nn.Sequential(nn.Linear(5, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.lift = nn.Linear(width + 1, width)
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.spectral = nn.ModuleList(SpectralMix(width, modes) for _ in range(layers))
        self.write = nn.Sequential(nn.Linear(2, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.decode = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(
        self,
        points: Tensor,
        boundary: Tensor,
        distance: Tensor,
        source: Tensor,
        query: Tensor | None = None,
    ) -> Tensor:
        """Return u `(N, Q)` at the query points, or `(N, P)` at the points themselves.

        Args:
            points: `(N, P, 2)` in the domain and on its boundary.
            boundary: `(N, P)` g at the closest boundary point.
            distance: `(N, P)` signed distance, negative inside.
            source: `(N, P)` f.
            query: `(N, Q, 2)`.
        """
        mean = boundary.mean(1, keepdim=True)
        size = (
            boundary.var(1, keepdim=True) + source.square().mean(1, keepdim=True) / 16 + 1e-6
        ).sqrt()
        features = torch.stack([(boundary - mean) / size, distance, source / size / 4], 2)
        v = self._latent(points, features)
        offset, weight, index = self._edges(points if query is None else query)
        found = v.movedim(1, -1).reshape(-1, self.width)[index] * self.write(offset)
        found = (found * weight[..., None]).sum(2) / weight.sum(2, keepdim=True).clamp_min(1e-6)
        return mean + size * self.decode(found)[..., 0]

    def _latent(self, points: Tensor, features: Tensor) -> Tensor:
        """Return v `(N, C, n, n)` after all layers."""
        offset, weight, index = self._edges(points)
        edges = torch.cat([offset, features[:, :, None].expand(*offset.shape[:3], -1)], 3)
        value = torch.cat([self.read(edges), torch.ones_like(weight)[..., None]], 3)
        value = (value * weight[..., None]).flatten(0, 2)
        total = value.new_zeros(len(points) * self.nodes**2, self.width + 1)
        total = total.index_add(0, index.flatten(), value)
        amount = total[:, -1:]
        v = self.lift(torch.cat([total[:, :-1] / amount.clamp_min(1e-3), amount.log1p()], 1))
        v = v.view(len(points), self.nodes, self.nodes, -1).movedim(-1, 1).contiguous()
        for mix, spectral in zip(self.mix, self.spectral, strict=True):
            v = v + F.gelu(mix(v) + spectral(v))
        return v

    def _edges(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return offsets `(N, P, K, 2)`, weights and node numbers `(N, P, K)` of neighbours."""
        cell = (points.detach() + self.half) / self.spacing
        nodes = cell.floor().long()[:, :, None] + self.pattern
        inside = ((nodes >= 0) & (nodes < self.nodes)).all(3)
        place = nodes.to(points) * self.spacing - self.half
        offset = (points[:, :, None] - place) / self.radius
        weight = (1 - offset.square().sum(3)).clamp_min(0) ** 3 * inside
        nodes = nodes.clamp(0, self.nodes - 1)
        first = torch.arange(len(points), device=points.device)[:, None, None] * self.nodes**2
        return offset, weight, first + nodes[..., 0] * self.nodes + nodes[..., 1]

    def schema(self) -> dict:
        """Return names, shapes and units of inputs and outputs."""
        row = {"shape": ["N", "P"], "unit": "1", "dtype": "float"}
        return {
            "inputs": {
                "points": {"shape": ["N", "P", 2], "unit": "length", "dtype": "float"},
                "boundary": row,
                "distance": {**row, "unit": "length"},
                "source": row,
            },
            "outputs": {"value": {"shape": ["N", "P"], "unit": "1"}},
        }

    def infer(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return the solution at the points."""
        return {"value": self(**inputs)}
