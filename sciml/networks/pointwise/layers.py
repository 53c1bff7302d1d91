"""First layers: where coordinates, time and known features enter a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml.autodiff import linear_map
from sciml.errors import InvalidArgument, did_you_mean
from sciml.networks.sizes import check_sizes

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

ACTIVATIONS = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
}


def activation_function(name: str) -> Callable[..., Any]:
    """Return a smooth activation by name.

    Raises:
        InvalidArgument: For an unknown name; relu is refused because its second derivative is 0.
    """
    if name not in ACTIVATIONS:
        raise InvalidArgument(
            f"network.activation={name}",
            "a smooth activation with a Taylor rule",
            did_you_mean(name, ACTIVATIONS),
        )
    return ACTIVATIONS[name]


class InputLayer(nn.Module):
    """`z = s (W_x x + b) + W_t t + W_f f`, each product only where the network has that input.

    Args:
        dim: Number of coordinates d, 0 if the network does not see x.
        time: Whether the network sees t.
        features: Number of known features m.
        width: Number of outputs h.
        input_scale: Factor s on the coordinates' part, its bias included.
        share: Block length B of a shared kernel: coordinates are first reduced to `ceil(d/B)`
            numbers by one kernel of length B (a stride-B convolution); 1 for none. Divides the
            number of first-layer parameters by B.

    Shapes: x `(N, d)`, t `(N, 1)`, f `(N, m)` to `(N, h)`; tensors or jets.

    Reference: weight sharing, Shi et al., arXiv 2412.00088, appendix on first-layer memory.
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool,
        features: int,
        width: int,
        input_scale: float = 1.0,
        share: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("features", features)):
            if value < 0:
                raise InvalidArgument(f"network.{name}={value}", "zero or more")
        if dim + time + features == 0:
            raise InvalidArgument("a network without inputs", "x, t or a feature")
        check_sizes(width=width, share=share)
        self.input_scale, self.share = float(input_scale), share
        blocks = math.ceil(dim / share)
        self.x = nn.Linear(blocks, width) if dim else None
        self.kernel = nn.Parameter(torch.ones(share) / share**0.5) if dim and share > 1 else None
        self.t = nn.Linear(1, width, bias=dim == 0) if time else None
        self.f = nn.Linear(features, width, bias=dim == 0 and not time) if features else None

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return pre-activations `(N, h)`."""
        terms = []
        if self.x is not None:
            terms.append(self.x(x) if self.kernel is None else self._shared(x))
            if self.input_scale != 1.0:
                terms[0] = self.input_scale * terms[0]
        if self.t is not None:
            terms.append(self.t(t))
        if self.f is not None:
            terms.append(self.f(f))
        return sum(terms[1:], terms[0])

    def _shared(self, x: Differentiable) -> Differentiable:
        size, b = self.x.in_features * self.share, self.share

        def forward(y: Tensor) -> Tensor:
            y = nn.functional.pad(y, (0, size - y.shape[1]))
            return (y.reshape(len(y), size // b, b) @ self.kernel) @ self.x.weight.t()

        def columns(i: Tensor) -> Tensor:
            return self.x.weight.t()[i // b] * self.kernel[i % b][..., None]

        return linear_map(x, forward, columns) + self.x.bias
