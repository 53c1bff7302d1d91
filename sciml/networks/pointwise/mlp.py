"""Multilayer perceptrons for high-dimensional PDEs: plain, residual, gated, with Fourier features.

All are ordinary modules with an ordinary `forward`; derivatives come from calling them with jets.
Common arguments: `dim`, `time`, `features` say which inputs the network has (see `InputLayer`);
`depth` counts linear layers, `width` their size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.pointwise.layers import InputLayer, activation_function
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


@typed
class MLP(nn.Module):
    """Multilayer perceptron with `depth` linear layers of size `width`.

    Args:
        dim: Number of coordinates, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features.
        outputs: Number of outputs K.
        width: Hidden width h.
        depth: Linear layers L, at least 2.
        activation: tanh, sin, gelu or silu.
        input_scale: Factor on the coordinates' part of the first layer.
        share: Block length of a shared first-layer kernel, 1 for none.

    Shapes: x `(N, d)`, t `(N, 1)`, f `(N, m)` to `(N, K)`.

    Example:
        >>> import torch
        >>> from sciml.networks import MLP
        >>> network = MLP(dim=3, time=True, width=16, depth=3)
        >>> tuple(network(torch.rand(5, 3), torch.rand(5, 1)).shape)
        (5, 1)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        width: int = 128,
        depth: int = 4,
        activation: str = "tanh",
        input_scale: float = 1.0,
        share: int = 1,
    ) -> None:
        super().__init__()
        check_sizes(width=width, depth=depth, outputs=outputs)
        self.input = InputLayer(
            dim=dim, time=time, features=features, width=width, input_scale=input_scale, share=share
        )
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 2))
        self.output = nn.Linear(width, outputs)
        self.activation = activation_function(activation)

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        z = self.activation(self.input(x, t, f))
        for layer in self.hidden:
            z = self.activation(layer(z))
        return self.output(z)


@typed
class ResidualMLP(nn.Module):
    """Residual blocks `z + W_2 phi(W_1 z + b_1) + b_2` after the input layer.

    Args:
        dim: Number of coordinates, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features.
        outputs: Number of outputs K.
        width: Hidden width.
        blocks: Number of residual blocks.
        activation: tanh, sin, gelu or silu.
        input_scale: Factor on the coordinates' part of the first layer.
        share: Block length of a shared first-layer kernel, 1 for none.

    Example:
        >>> import torch
        >>> from sciml.networks import ResidualMLP
        >>> network = ResidualMLP(dim=3, outputs=2, width=16, blocks=2)
        >>> tuple(network(torch.rand(5, 3)).shape)
        (5, 2)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        width: int = 128,
        blocks: int = 2,
        activation: str = "tanh",
        input_scale: float = 1.0,
        share: int = 1,
    ) -> None:
        super().__init__()
        check_sizes(width=width, blocks=blocks, outputs=outputs)
        self.input = InputLayer(
            dim=dim, time=time, features=features, width=width, input_scale=input_scale, share=share
        )
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.output = nn.Linear(width, outputs)
        self.activation = activation_function(activation)

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        z = self.activation(self.input(x, t, f))
        for first, second in zip(self.first, self.second, strict=True):
            z = z + second(self.activation(first(z)))
        return self.output(z)


@typed
class ModifiedMLP(nn.Module):
    """Gated perceptron: two encoders of the input mix every hidden layer.

    `z <- (1 - h) U + h V` with `h = phi(W z + b)`.

    Args:
        dim: Number of coordinates, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features.
        outputs: Number of outputs K.
        width: Hidden width.
        depth: Linear layers besides the encoders, at least 2.
        activation: tanh, sin, gelu or silu.
        input_scale: Factor on the coordinates' part of the first layer.

    Reference: Wang, Teng, Perdikaris, SIAM J. Sci. Comput. 43 (2021), arXiv 2001.04536,
    eq. (42)-(46).

    Example:
        >>> import torch
        >>> from sciml.networks import ModifiedMLP
        >>> network = ModifiedMLP(dim=3, width=16, depth=3)
        >>> tuple(network(torch.rand(5, 3)).shape)
        (5, 1)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        width: int = 128,
        depth: int = 4,
        activation: str = "tanh",
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(width=width, depth=depth, outputs=outputs)
        # One product with x for the two encoders and the first layer together.
        self.input = InputLayer(
            dim=dim, time=time, features=features, width=3 * width, input_scale=input_scale
        )
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 2))
        self.output = nn.Linear(width, outputs)
        self.activation = activation_function(activation)
        self.width = width

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        w = self.width
        all_three = self.activation(self.input(x, t, f))
        z, u, v = all_three[..., :w], all_three[..., w : 2 * w], all_three[..., 2 * w :]
        difference = v - u
        z = u + z * difference
        for layer in self.hidden:
            z = u + self.activation(layer(z)) * difference
        return self.output(z)


@typed
class FourierMLP(nn.Module):
    """Perceptron on random Fourier features `sin(B x + c), cos(B x + c)` with fixed Gaussian B.

    Args:
        dim: Number of coordinates, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features.
        outputs: Number of outputs K.
        width: Hidden width.
        depth: Linear layers after the features, at least 2.
        frequencies: Number of rows of B.
        scale: Standard deviation of the entries of B, one or one for each feature.
        activation: tanh, sin, gelu or silu.

    Reference: Tancik et al., NeurIPS 2020, arXiv 2006.10739, section 2.

    Example:
        >>> import torch
        >>> from sciml.networks import FourierMLP
        >>> network = FourierMLP(dim=3, width=16, depth=2, frequencies=8, scale=2.0)
        >>> tuple(network(torch.rand(5, 3)).shape)
        (5, 1)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        width: int = 128,
        depth: int = 4,
        frequencies: int = 64,
        scale: float | list[float] = 1.0,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        check_sizes(width=width, depth=depth, frequencies=frequencies, outputs=outputs)
        self.input = InputLayer(dim=dim, time=time, features=features, width=frequencies)
        several = isinstance(scale, list | tuple)
        if any(value < 0 for value in (scale if several else [scale])):
            raise InvalidArgument(f"network.scale={scale}", "zero or more")
        if several and (len(scale) != features or dim or time):
            raise InvalidArgument(
                f"network.scale of {len(scale)} numbers for {features} features",
                "one number, or one for each feature of a network that sees features alone",
            )
        for parameter in self.input.parameters():
            nn.init.normal_(parameter, std=1.0 if several else scale)
            parameter.requires_grad_(False)
        if several:
            self.input.f.weight.mul_(torch.tensor(scale))
        for layer in (self.input.x, self.input.f):
            if layer is not None and layer.bias is not None:
                nn.init.uniform_(layer.bias, 0, 2 * math.pi)
        self.mlp = MLP(
            dim=0,
            features=2 * frequencies,
            outputs=outputs,
            width=width,
            depth=depth,
            activation=activation,
        )

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        phase = self.input(x, t, f)
        return self.mlp(None, None, torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1))
