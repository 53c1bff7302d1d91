"""The network of the deep conjugate direction method, in 2-D and 3-D.

With R_k a residual pair x -> x + relu(conv(relu(conv(x)))) of 3^d kernels, all of `channels` width,

    c = conv(r / |r|)                               one channel to `channels`, no activation
    x = c;  every second of `full` convolutions with ReLU adds the feature before the pair
    y = R_1 ... R_pooled (average pooling of x)     one level of half the resolution
    x = x + nearest-neighbour upsampling of y
    q = linear 1^d map of R_1 ... R_fine x          `channels` to one channel

It sees no geometry: obstacles enter through A in the solver alone. With full = 4, pooled = 3 and
fine = 2 it has 97,457 weights in 3-D and 32,657 in 2-D (the model for 64^d); with 6, 5 and 3 it has
152,881 and 51,217 (the model for 128^d).

Layers start as the authors' do, Keras' default: Glorot's uniform weights and biases of zero.

Reference: Kaneda et al. 2023, arXiv 2205.10763. Departures: grids of odd length are padded by one
cell instead of refused, and |r| is the root mean square, not the 2-norm. In a vector of 2-norm 1
entries are a sixty-fourth on 64^2 cells, half of that on 128^2: biases, which soon are larger, make
a network treat the same field differently on every size of grid, so that what is learned at one
size does not carry over. With the root mean square a field looks alike on all.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.preconditioners.learned_preconditioner import PreconditionerNetwork
from sciml.solvers.linear import Stencil
from sciml.typed_arguments import typed


@typed
class DCDM(PreconditionerNetwork):
    """Directions from the residual image; to be used by `ConjugateDirections`.

    Args:
        dim: Axes of the grid, 2 or 3.
        channels: Width of all layers.
        full: Convolutions at full resolution before pooling, an even number.
        pooled: Residual pairs at half resolution, between pooling and upsampling.
        fine: Residual pairs at full resolution after upsampling.

    Raises:
        InvalidArgument: For counts that cannot be.

    Example:
        >>> import torch
        >>> from sciml.networks import DCDM
        >>> network = DCDM(dim=2, channels=4, full=2, pooled=1, fine=1)
        >>> tuple(network.directions(None, torch.rand(3, 8, 8)).shape)
        (3, 8, 8)
    """

    def __init__(
        self, dim: int = 2, channels: int = 16, full: int = 4, pooled: int = 3, fine: int = 2
    ) -> None:
        super().__init__(dim)
        if channels < 1 or full < 2 or full % 2 or pooled < 1 or fine < 1:
            raise InvalidArgument(
                f"network.channels={channels}, full={full}, pooled={pooled}, fine={fine}",
                "positive counts, and an even number of convolutions at full resolution",
            )
        conv = nn.Conv2d if dim == 2 else nn.Conv3d

        def pairs(count: int) -> nn.ModuleList:
            return nn.ModuleList(conv(channels, channels, 3, padding=1) for _ in range(2 * count))

        self.enter = conv(1, channels, 3, padding=1)
        self.full, self.pooled, self.fine = pairs(full // 2), pairs(pooled), pairs(fine)
        self.leave = conv(channels, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.pool = F.avg_pool2d if dim == 2 else F.avg_pool3d
        # in which convolutions of 16 channels take two thirds of the time, on a CPU in 2-D
        self.order = torch.channels_last if dim == 2 else torch.channels_last_3d

    def prepare(self, stencil: Stencil) -> None:
        """Return nothing: the geometry is not seen."""

    def directions(self, prepared: None, residual: Tensor) -> Tensor:
        """Return q `(..., *grid)`, the same for a residual of any positive size."""
        grid = residual.shape[-self.dim :]
        r = residual.reshape(-1, 1, *grid)
        norm = torch.linalg.vector_norm(r.flatten(1), dim=1).reshape(-1, *(1,) * (self.dim + 1))
        r = r / norm.masked_fill(norm == 0, 1.0) * math.sqrt(grid.numel())
        width = [n % 2 for n in reversed(grid) for n in (0, n)]
        x = self.enter(F.pad(r, width)).contiguous(memory_format=self.order)
        x = _residual_pairs(self.full, x)
        y = _residual_pairs(self.pooled, self.pool(x, 2))
        x = _residual_pairs(self.fine, x + F.interpolate(y, scale_factor=2, mode="nearest"))
        q = self.leave(x)[(slice(None), 0, *(slice(n) for n in grid))]
        return q.reshape(residual.shape)


def _residual_pairs(layers: nn.ModuleList, x: Tensor) -> Tensor:
    """Return x after convolutions with ReLU, every second of which adds what came before both."""
    for one, two in zip(layers[::2], layers[1::2], strict=True):
        x = x + two(one(x).relu()).relu()
    return x
