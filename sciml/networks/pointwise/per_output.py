"""One perceptron for each output of a system, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.pointwise.mlp import MLP
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


@typed
class PerOutput(nn.Module):
    """K perceptrons with one output each: fields of different kinds do not share layers.

    Args:
        dim: Number of coordinates, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features.
        outputs: Number of outputs K.
        width: Hidden width of each.
        depth: Linear layers of each, at least 2.
        activation: tanh, sin, gelu or silu.

    Shapes: x `(N, d)`, t `(N, 1)`, f `(N, m)` to `(N, K)`.

    Raises:
        InvalidArgument: Without an output.

    Example:
        >>> import torch
        >>> from sciml.networks import PerOutput
        >>> network = PerOutput(dim=2, outputs=3, width=8)
        >>> tuple(network(torch.rand(5, 2)).shape)
        (5, 3)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        width: int = 32,
        depth: int = 4,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if outputs < 1:
            raise InvalidArgument(f"network.outputs={outputs}", "one output or more")
        sizes = {"dim": dim, "time": time, "features": features, "width": width, "depth": depth}
        self.parts = nn.ModuleList(MLP(**sizes, activation=activation) for _ in range(outputs))

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        return torch.cat([part(x, t, f) for part in self.parts], -1)
