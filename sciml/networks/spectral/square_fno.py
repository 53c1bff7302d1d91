"""Fourier neural operators on square grids: what they share, and the explicit one.

With a the input field, g = P(a) (pointwise lift), sigma = GELU, Q a pointwise decoder, and A the
Fourier layer (`sciml.networks.spectral.fourier_layer`),

    FNO        z_0 = g,  z_{i+1} = z_i + sigma(A_i z_i),  i < blocks,        u = Q(z_blocks)
    tied       z_0 = g,  z_{i+1} = g + sigma(A z_i),      i < blocks,        u = Q(z_blocks)

The tied network is the iteration of the equilibrium in
`sciml.networks.spectral.fourier_equilibrium`, cut off.

Reference: Li et al. 2021, arXiv 2010.08895. Departure: residual connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.sizes import check_sizes
from sciml.networks.spectral.fourier_layer import FourierLayer
from sciml.typed_arguments import typed


class Pointwise(nn.Linear):
    """A linear layer over the channels of `(N, C, n1, n2)`, the same at every point.

    A convolution of kernel size one is four times slower on a processor for batches above 16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `(N, D, n1, n2)`."""
        # nn.Linear's own forward is what optimizers with curvature know how to follow
        out = super().forward(input.flatten(2).transpose(1, 2))
        return out.transpose(1, 2).reshape(len(input), self.out_features, *input.shape[2:])


class FieldOperator(nn.Module):
    """Normalisation, lift and decoder around what a subclass does with the state.

    Args:
        in_channels: Channels of the input field.
        width: Channels of the state, C.
        hidden: Hidden width of lift and decoder.
        positions: Whether the lift sees the coordinates: for squares that are not periodic.
        mean: Mean of the input per channel.
        std: Its standard deviation.
        out_mean: Mean of the output.
        out_std: Its standard deviation.

    Raises:
        InvalidArgument: If statistics do not fit the channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        hidden: int = 32,
        positions: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        out_mean: float = 0.0,
        out_std: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(in_channels=in_channels, width=width, hidden=hidden)
        self.in_channels, self.positions = in_channels, positions
        for name, value, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            value = [default] * in_channels if value is None else list(value)
            if len(value) != in_channels:
                raise InvalidArgument(
                    f"network.{name} with {len(value)} entries", f"one per channel, {in_channels}"
                )
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1))
        self.register_buffer("out_mean", torch.tensor(float(out_mean)))
        self.register_buffer("out_std", torch.tensor(float(out_std)))
        channels = in_channels + 2 * positions
        self.lift = nn.Sequential(Pointwise(channels, hidden), nn.GELU(), Pointwise(hidden, width))
        self.decode = nn.Sequential(Pointwise(width, hidden), nn.GELU(), Pointwise(hidden, 1))

    def lifted(self, field: Tensor) -> Tensor:
        """Return g = P(a) `(N, C, n1, n2)` of a field `(N, in_channels, n1, n2)`."""
        x = (field - self.mean) / self.std
        if self.positions:
            sides = [
                (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) * (2 / n) - 1
                for n in x.shape[-2:]
            ]
            place = torch.stack(torch.meshgrid(*sides, indexing="ij"))
            x = torch.cat([x, place.expand(len(x), -1, -1, -1)], 1)
        return self.lift(x)

    def decoded(self, z: Tensor) -> Tensor:
        """Return Q(z) `(N, 1, n1, n2)` in the units of the target."""
        return self.out_mean + self.out_std * self.decode(z)

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out; any grid that carries the modes."""
        real = {"unit": "1", "dtype": "float"}
        return {
            "inputs": {"field": {"shape": ["N", self.in_channels, "H", "W"], **real}},
            "outputs": {"value": {"shape": ["N", 1, "H", "W"], **real}},
        }

    def infer(self, field: Tensor) -> dict[str, Tensor]:
        """Return the solution as `value`."""
        return {"value": self(field)}


@typed
class FNO(FieldOperator):
    """Explicit Fourier neural operator; further arguments as in `FieldOperator`.

    Args:
        modes: Modes kept per direction, m.
        blocks: Fourier layers.
        tied: Whether all layers are one, with the input injected every time: the equilibrium's
            iteration, cut off.

    Raises:
        InvalidArgument: If there are no blocks.

    Example:
        >>> import torch
        >>> from sciml.networks import FNO
        >>> network = FNO(width=4, hidden=8, modes=4, blocks=2)
        >>> tuple(network(torch.rand(2, 1, 16, 16)).shape)
        (2, 1, 16, 16)
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        hidden: int = 32,
        modes: int = 8,
        blocks: int = 4,
        tied: bool = False,
        positions: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        out_mean: float = 0.0,
        out_std: float = 1.0,
    ) -> None:
        super().__init__(in_channels, width, hidden, positions, mean, std, out_mean, out_std)
        check_sizes(blocks=blocks, modes=modes)
        self.tied, self.blocks = tied, blocks
        layers = 1 if tied else blocks
        self.layers = nn.ModuleList(FourierLayer(width, modes) for _ in range(layers))

    def forward(self, field: Tensor) -> Tensor:
        """Return u `(N, 1, n1, n2)` from a `(N, in_channels, n1, n2)`."""
        g = z = self.lifted(field)
        if self.tied:
            kernel = self.layers[0].kernel()
            for _ in range(self.blocks):
                z = g + F.gelu(self.layers[0].product(z, *kernel))
        else:
            for layer in self.layers:
                z = z + F.gelu(layer(z))
        return self.decoded(z)
