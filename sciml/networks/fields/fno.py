"""Fourier neural operator in one, two or three directions, with real weights.

    z_0 = P(a),   z_{i+1} = z_i + M_i gelu(W_i z_i + F^-1(R_i . F z_i)),   u = Q(z_layers)

P, Q and M_i are pointwise perceptrons. Modes are pairs of real numbers, so every optimizer,
precision and number of processes treats them like all other weights.

Reference: Li et al. 2021, arXiv 2010.08895. Departures: residual connections, and a pointwise
layer M behind the activation, as in Kossaifi et al., arXiv 2412.10354.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.networks.fields.field_network import FieldNetwork
from sciml.networks.spectral.spectral_convolution import SpectralMix
from sciml.networks.spectral.square_fno import Pointwise
from sciml.typed_arguments import typed


@typed
class GridFNO(FieldNetwork):
    """Fourier neural operator between fields.

    Args:
        fields: The data module's description.
        width: Channels of the state.
        modes: Modes kept per direction, of both signs; None for 12, or half the points where there
            are fewer than 24.
        layers: Fourier layers.
        hidden: Hidden channels of P and Q.
        padding: Zeros behind every direction, as a share of its points.
        resolution: As in `FieldNetwork`.
        views: As in `FieldNetwork`.
        coarse_solver: As in `FieldNetwork`.

    Raises:
        InvalidArgument: For sizes that cannot be, or more modes than the grid carries.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.networks.fields import GridFNO
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz")
        >>> network = GridFNO(data.sizes["fields"], width=4, modes=4, layers=1, hidden=4)
        >>> tuple(network.infer(x=torch.rand(3, 8, 8))["y"].shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        width: int = 32,
        modes: int | None = None,
        layers: int = 4,
        hidden: int = 64,
        padding: float = 0.0,
        resolution: Literal["free", "trained"] = "free",
        views: bool = False,
        coarse_solver: Any = None,
    ) -> None:
        super().__init__(fields, resolution, views, coarse_solver)
        for name, value in (("width", width), ("layers", layers), ("hidden", hidden)):
            if value < 1:
                raise InvalidArgument(f"network.{name}={value}", "a positive integer")
        if not 0 <= padding < 2:
            raise InvalidArgument(f"network.padding={padding}", "a share between 0 and 2")
        self.padding = padding
        most = min(n + round(padding * n) for n in self.fields.size) // 2
        modes = min(12, most) if modes is None else modes
        if not 1 <= modes <= most:
            raise InvalidArgument(
                f"network.modes={modes} on a grid of {' x '.join(map(str, self.fields.size))}",
                f"1 to {most}: two points per mode",
            )
        dim = self.fields.dim
        self.lift = perceptron(self.seen_channels, hidden, width)
        self.spectral = nn.ModuleList(SpectralMix(width, modes, dim) for _ in range(layers))
        self.local = nn.ModuleList(Pointwise(width, width) for _ in range(layers))
        self.mix = nn.ModuleList(Pointwise(width, width) for _ in range(layers))
        self.decode = perceptron(width, hidden, self.fields.out_channels)

    def body(self, z: Tensor) -> Tensor:
        """Return normalised outputs `(B, C_out, *space)`."""
        z, space = self.lift(z), z.shape[2:]
        if self.padding:
            pads = [p for n in reversed(space) for p in (0, round(self.padding * n))]
            z = F.pad(z, pads)
        for spectral, local, mix in zip(self.spectral, self.local, self.mix, strict=True):
            z = z + mix(F.gelu(local(z) + spectral(z)))
        if self.padding:
            z = z[(..., *(slice(n) for n in space))]
        return self.decode(z)


def perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Return two pointwise layers around an activation."""
    return nn.Sequential(Pointwise(channels, hidden), nn.GELU(), Pointwise(hidden, out))
