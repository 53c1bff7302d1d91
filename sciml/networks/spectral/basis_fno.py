"""Fourier neural operators in any dimension that return a basis of functions over the grid.

With a the input fields, their lift g = P(a, positions), sigma = GELU, and Q a pointwise decoder,

    z_0 = g,   z_{i+1} = z_i + sigma(W_i z_i + c_i + F^-1(R_i . F z_i)),   b = Q(z_blocks).

Axes that are not periodic are lengthened by zeros behind the grid, so that the Fourier series meets
no jump. The first of them may be time: there the length is that of the longest horizon the
operator knows, whatever part of it the grid covers, so a wave has the same period in training and
beyond.

Reference: Li et al. 2021, arXiv 2010.08895. Departures: residual connections; smooth start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.arguments import flag, maybe, number, some, takes, whole
from sciml.errors import InvalidArgument
from sciml.networks.sizes import check_sizes
from sciml.networks.spectral.spectral_convolution import SpectralMix
from sciml.networks.spectral.square_fno import Pointwise
from sciml.typed_arguments import typed


@typed
class BasisFNO(nn.Module):
    """N functions on a grid of d axes, from C fields on it.

    Args:
        sizes: Points of the grid that the operator is made for, along every axis.
        in_channels: C.
        functions: N.
        width: Channels of the state.
        hidden: Hidden width of lift and decoder.
        modes: Modes kept per axis.
        blocks: Fourier layers.
        periodic: Which axes are periodic; none by default.
        time: Whether the first axis is time.
        padding: Length of the zeros behind an axis that is not periodic, relative to it.
        mean: Mean of every input channel.
        std: Its standard deviation.

    Raises:
        InvalidArgument: For numbers that cannot be, and statistics that do not fit the channels.

    Example:
        >>> import torch
        >>> from sciml.networks import BasisFNO
        >>> network = BasisFNO((16, 32), functions=4, modes=4, time=True)
        >>> tuple(network(torch.rand(2, 1, 16, 32)).shape)
        (2, 4, 16, 32)
    """

    @takes(
        in_channels=whole,
        functions=whole,
        width=whole,
        hidden=whole,
        modes=whole,
        blocks=whole,
        time=flag,
        padding=number,
        mean=maybe(some),
        std=maybe(some),
    )
    def __init__(
        self,
        sizes: Sequence[int],
        in_channels: int = 1,
        functions: int = 16,
        width: int = 16,
        hidden: int = 32,
        modes: int = 8,
        blocks: int = 4,
        periodic: Sequence[bool] | None = None,
        time: bool = False,
        padding: float = 0.25,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise InvalidArgument(f"sizes={list(sizes)}", "positive integers, one per axis")
        self.sizes, self.in_channels, self.functions = tuple(sizes), in_channels, functions
        self.periodic = tuple(periodic or [False] * len(self.sizes))
        self.time, self.padding = time, padding
        check_sizes(blocks=blocks, functions=functions, modes=modes, in_channels=in_channels)
        check_sizes(width=width, hidden=hidden)
        if not 0 <= padding < math.inf:
            raise InvalidArgument(f"network.padding={padding}", "zero or more")
        if len(self.periodic) != len(self.sizes):
            raise InvalidArgument(
                f"periodic={list(self.periodic)} for {len(self.sizes)} axes", "one entry per axis"
            )
        dim = len(self.sizes)
        for name, value, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            value = [default] * in_channels if value is None else list(value)
            if len(value) != in_channels:
                raise InvalidArgument(
                    f"network.{name} with {len(value)} entries", f"one per channel, {in_channels}"
                )
            if not all(map(math.isfinite, value)) or (name == "std" and min(value) <= 0):
                what = "positive numbers" if name == "std" else "finite numbers"
                raise InvalidArgument(f"network.{name}={value}", what)
            self.register_buffer(name, torch.tensor(value).reshape(-1, *[1] * dim))
        channels = in_channels + self.periodic.count(False)
        self.lift = nn.Sequential(Pointwise(channels, hidden), nn.GELU(), Pointwise(hidden, width))
        self.waves = nn.ModuleList(SpectralMix(width, modes, dim) for _ in range(blocks))
        self.mixes = nn.ModuleList(Pointwise(width, width) for _ in range(blocks))
        self.decode = nn.Sequential(
            Pointwise(width, hidden), nn.GELU(), Pointwise(hidden, functions)
        )

    def forward(self, fields: Tensor) -> Tensor:
        """Return b `(B, N, *grid)` from fields `(B, C, *grid)`."""
        grid = fields.shape[2:]
        x = (fields - self.mean) / self.std
        z = self.lift(torch.cat([x, *self._positions(x)], 1))
        longer = [self._length(a, n) - n for a, n in enumerate(grid)]
        z = F.pad(z, [part for extra in reversed(longer) for part in (0, extra)])
        for wave, mix in zip(self.waves, self.mixes, strict=True):
            z = z + F.gelu(mix(z) + wave(z))
        for axis, n in enumerate(grid):
            z = z.narrow(2 + axis, 0, n)
        return self.decode(z)

    def _positions(self, x: Tensor) -> list[Tensor]:
        """Return the coordinates of axes that are not periodic, `(B, 1, *grid)`, 0 to 1."""
        out = []
        for axis, n in enumerate(x.shape[2:]):
            if self.periodic[axis]:
                continue
            known = self.sizes[axis] if self._is_time(axis) else n
            line = (torch.arange(n, dtype=x.dtype, device=x.device) + 0.5) / known
            line = line.reshape(-1, *[1] * (x.dim() - 3 - axis))
            out.append(line.expand(len(x), 1, *x.shape[2:]))
        return out

    def _is_time(self, axis: int) -> bool:
        return self.time and axis == 0

    def _length(self, axis: int, n: int) -> int:
        """Return the points of an axis with its zeros."""
        if self.periodic[axis]:
            return n
        known = self.sizes[axis] if self._is_time(axis) else n
        return max(n, known + math.ceil(self.padding * known))
