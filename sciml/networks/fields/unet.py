"""A U-Net between fields: convolutions on halved grids and back, in one to three directions.

On small grids it beats Fourier layers, since it sees what lies between few points. It knows one
spacing: on other grids it is evaluated on its own, between which and the others fields are
interpolated.

Reference: Ronneberger et al. 2015, arXiv 1505.04597; residual blocks with group norms and GELU as
in Gupta and Brandstetter 2022, arXiv 2209.15616. Departure: kernels of three points, padded by the
values of the other end where the domain is periodic, and with zeros elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.fields.field_network import FieldNetwork
from sciml.typed_arguments import typed

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@typed
class UNet(FieldNetwork):
    """U-Net between fields.

    Args:
        fields: The data module's description.
        width: Channels on the finest grid; twice as many on every coarser one, up to `widest`.
        levels: Grids, each half as fine as the one before; None for as many as leave four points.
        blocks: Residual blocks on every grid, on the way down and on the way up.
        widest: Channels of the coarsest grid at most, in widths.
        resolution: As in `FieldNetwork`.
        views: As in `FieldNetwork`.
        coarse_solver: As in `FieldNetwork`.

    Raises:
        InvalidArgument: For sizes that cannot be, or a grid too small for the levels.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.networks.fields import UNet
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz")
        >>> network = UNet(data.sizes["fields"], width=4, levels=2)
        >>> tuple(network.infer(x=torch.rand(3, 8, 8))["y"].shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        width: int = 24,
        levels: int | None = None,
        blocks: int = 1,
        widest: int = 2,
        resolution: Literal["free", "trained"] = "trained",
        views: bool = False,
        coarse_solver: Any = None,
    ) -> None:
        super().__init__(fields, resolution, views, coarse_solver)
        least, dim = min(self.fields.size), self.fields.dim
        most = max(1, least.bit_length() - 2)
        levels = min(most, 4) if levels is None else levels
        if min(width, blocks, widest) < 1 or not 1 <= levels <= most:
            raise InvalidArgument(
                f"network.width={width}, network.levels={levels}, network.blocks={blocks} on "
                f"{least} points",
                f"positive numbers, at most {most} levels",
            )
        sizes = [width * min(2**k, widest) for k in range(levels)]
        layers = u_layers(dim, self.seen_channels, sizes, blocks, self.fields.periodic)
        self.enter, self.down, self.up = layers
        self.leave = CONVOLUTIONS[dim](width, self.fields.out_channels, 1)

    def body(self, z: Tensor) -> Tensor:
        """Return normalised outputs `(B, C_out, *space)`."""
        return self.leave(u_pass(z, self.enter, self.down, self.up))


def u_layers(
    dim: int, seen: int, sizes: Sequence[int], blocks: int, wraps: bool
) -> tuple[nn.Module, nn.ModuleList, nn.ModuleList]:
    """Return the layers of a U: what enters, rows of blocks on the way down and on the way up.

    Args:
        dim: Directions of space.
        seen: Channels that come in.
        sizes: Channels of every grid, the finest first, which are those that come out.
        blocks: Of each row.
        wraps: Whether the domain is periodic.
    """
    enter = _convolution(dim, seen, sizes[0], wraps)
    down, up, before = nn.ModuleList(), nn.ModuleList(), sizes[0]
    for size in sizes:
        row = [_Block(dim, before if k == 0 else size, size, wraps) for k in range(blocks)]
        down.append(nn.Sequential(*row))
        before = size
    for size in reversed(sizes[:-1]):
        row = [_Block(dim, before + size if k == 0 else size, size, wraps) for k in range(blocks)]
        up.append(nn.Sequential(*row))
        before = size
    return enter, down, up


def u_pass(z: Tensor, enter: nn.Module, down: nn.ModuleList, up: nn.ModuleList) -> Tensor:
    """Return the channels of the finest grid `(B, sizes[0], *space)` of what comes in."""
    kept = []
    z = enter(z)
    for k, block in enumerate(down):
        if k:
            z = POOLS[z.dim() - 2](z, 2, ceil_mode=True)
        z = block(z)
        kept.append(z)
    for block, beside in zip(up, reversed(kept[:-1]), strict=True):
        for axis in range(2, z.dim()):
            z = z.repeat_interleave(2, axis).narrow(axis, 0, beside.shape[axis])
        z = block(torch.cat([z, beside], 1))
    return z


class _Block(nn.Module):
    """Two convolutions around a group norm, beside a shortcut."""

    def __init__(self, dim: int, before: int, after: int, wraps: bool) -> None:
        super().__init__()
        groups = next(g for g in (8, 6, 4, 3, 2, 1) if after % g == 0)
        self.first = _convolution(dim, before, after, wraps)
        self.norm = nn.GroupNorm(groups, after)
        self.second = _convolution(dim, after, after, wraps)
        self.short = nn.Identity() if before == after else CONVOLUTIONS[dim](before, after, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Return `(B, after, *space)`."""
        return self.short(z) + self.second(F.gelu(self.norm(self.first(z))))


def _convolution(dim: int, before: int, after: int, wraps: bool) -> nn.Module:
    mode = "circular" if wraps else "zeros"
    return CONVOLUTIONS[dim](before, after, 3, padding=1, padding_mode=mode)
