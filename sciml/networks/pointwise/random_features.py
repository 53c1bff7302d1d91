"""Random features: one hidden layer that is drawn and stays, of which the outputs are trained.

    u(z) = sum_k  c_k phi(w_k . (z - z_k)),      w_k normal, z_k uniform in [-1, 1]^m

Where the equations are linear, too, the loss is quadratic, and one step of `optimizer=lm` without
damping takes the place of hundreds through the bent valleys of a deep network. What is finer than
1 / |w_k|, which has to be given, finds no place.

References: Dwivedi and Srinivasan 2020, "Physics informed extreme learning machine", arXiv
1907.03507; Dong and Li 2021, "Local extreme learning machines and domain decomposition", arXiv
2012.02895 (with windows of time). Departure: each unit bends at a point inside the domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from sciml.errors import InvalidArgument
from sciml.networks.pointwise.layers import activation_function
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

REMEMBERED = 2  # sets of points whose functions are kept


@typed
class RandomFeatures(nn.Module):
    """A linear layer on fixed random functions of the inputs.

    Args:
        dim: Has to be 0; there for the signature all networks share.
        time: Has to be False; likewise.
        features: Number of inputs m, about in [-1, 1].
        outputs: Number of outputs K.
        width: Number of random functions.
        scale: Standard deviation of the entries of w, one or one for each input.
        activation: tanh, sin, gelu or silu.

    Shapes: f `(N, m)` to `(N, K)`; x and t are None.

    Raises:
        InvalidArgument: For other inputs, or numbers out of range.

    Example:
        >>> import torch
        >>> from sciml.networks import RandomFeatures
        >>> network = RandomFeatures(features=2, width=50, scale=[3.0, 1.0])
        >>> tuple(network(None, None, torch.rand(5, 2)).shape)
        (5, 1)
        >>> [name for name, _ in network.named_parameters()]  # nothing else is trained
        ['output.weight', 'output.bias']
    """

    def __init__(
        self,
        *,
        dim: int = 0,
        time: bool = False,
        features: int = 0,
        outputs: int = 1,
        width: int = 1000,
        scale: float | list[float] = 2.0,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        check_sizes(width=width, outputs=outputs)
        if dim or time or not features:
            raise InvalidArgument(
                "network=random_features on coordinates and time",
                "a system of equations (model=pinn_system)",
            )
        scales = list(scale) if isinstance(scale, list | tuple) else [scale] * features
        if len(scales) != features or not all(value > 0 for value in scales):
            raise InvalidArgument(
                f"network.scale={scale} for {features} inputs", "one positive number, or one each"
            )
        weight = torch.randn(width, features) * torch.tensor(scales)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", -(weight * (2 * torch.rand(width, features) - 1)).sum(1))
        self.output = nn.Linear(width, outputs)
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)
        self.activation = activation_function(activation)
        self._known: list[tuple[Any, Any]] = []  # inputs with derivatives, and functions of them

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, K)`."""
        for seen, values in self._known:
            if seen is f:
                return self.output(values)
        keep = self.training and self.output.weight.requires_grad and hasattr(f, "packed")
        # the oldest goes first: jets of thousands of functions are hundreds of megabytes
        self._known = self._known[: REMEMBERED - 1] if keep else []
        values = self.activation(F.linear(f, self.weight, self.bias))
        if keep:
            self._known.insert(0, (f, values))
        return self.output(values)
