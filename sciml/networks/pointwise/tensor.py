"""Tensor neural network: a sum of products of one-dimensional networks.

    u(x) = sum_{k=1..r} prod_{i=1..d} w(x_i) phi_{i,k}(x_i),      w(x) = 4 (x - a)(b - x)/(b - a)^2

with one small network per coordinate, 1 - width - ... - r, and a factor w that vanishes at the
ends of the interval [a, b]. d-dimensional integrals of u and of its derivatives are products of
one-dimensional ones, so a Rayleigh quotient needs no sampling
(`sciml.physics.problems.schrodinger`).

Reference: Wang, Jin, Xie 2022, "Tensor neural network and its numerical integration",
arXiv 2207.02754, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sciml.autodiff import Jet, linear_map
from sciml.errors import InvalidArgument
from sciml.networks.pointwise.layers import activation_function
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


def _linear(z: Differentiable, function: Callable[[Tensor], Tensor]) -> Differentiable:
    """Apply a linear function `(*, h) -> (*, m)` to a tensor or a jet."""
    return z.map_linear(function) if isinstance(z, Jet) else function(z)


@typed
class TensorNetwork(nn.Module):
    """Tensor neural network of rank r on the box [low, high]^d.

    Cost and memory grow with `dim * width`, every coordinate having its own network; jets carry
    all of them, so the network suits moderate dimensions (up to some hundreds).

    Args:
        dim: Number of coordinates d.
        time: Has to be False; there for the signature all networks share.
        features: Has to be 0; likewise.
        rank: Number of products r.
        width: Hidden width of each one-dimensional network.
        depth: Linear layers of each one-dimensional network, at least 2.
        activation: Name of the activation; the paper uses sin.
        low: Left end a of the interval.
        high: Right end b of the interval.
        shared: Whether all coordinates use the same one-dimensional network.

    Shapes: x `(N, d)` to `(N, 1)`.

    Raises:
        InvalidArgument: For an empty interval, no coordinates, time or features.

    Example:
        >>> import torch
        >>> from sciml.networks import TensorNetwork
        >>> network = TensorNetwork(dim=4, rank=2, width=8, depth=2, low=0.0, high=1.0)
        >>> tuple(network(torch.rand(5, 4)).shape)
        (5, 1)
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        rank: int = 1,
        width: int = 100,
        depth: int = 4,
        activation: str = "sin",
        low: float = -5.0,
        high: float = 5.0,
        shared: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(rank=rank, width=width, depth=depth)
        if time or features or dim < 1:
            raise InvalidArgument(
                f"a tensor network with dim={dim}, time={time}, features={features}",
                "x alone",
                "Set model.inputs=[x]",
            )
        if not low < high:
            raise InvalidArgument(f"network.low={low}, network.high={high}", "low < high")
        self.dim, self.rank, self.shared = dim, rank, shared
        self.low, self.high = float(low), float(high)
        self.activation = activation_function(activation)
        sizes = [1] + [width] * (depth - 1) + [rank]
        nets = 1 if shared else dim
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = fan_in**-0.5
            weight = torch.empty(nets, fan_in, fan_out).uniform_(-bound, bound)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.empty(nets, fan_out).uniform_(-bound, bound)))
        # start near w itself: products of random factors would be of size 0.1^d and of any sign
        with torch.no_grad():
            self.biases[-1].add_(1.0)

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return u `(N, 1)`."""
        z = self._factors(x)
        count = self.dim
        while count > 1:
            half = count // 2
            head, tail = half * self.rank, 2 * half * self.rank
            product = z[..., :head] * z[..., head:tail]
            if count % 2:
                product = torch.cat([product, z[..., tail:]], dim=-1)
            z, count = product, count - half
        return z.sum(-1, keepdim=True)

    def _factors(self, x: Differentiable) -> Differentiable:
        """Return all w(x_i) phi_{i,k}(x_i), `(N, d r)`, coordinate by coordinate."""
        z = self._first(x) + self._bias(0)
        for i in range(1, len(self.weights)):
            z = _linear(self.activation(z), self._block(self.weights[i])) + self._bias(i)
        inside = (x - self.low) * (self.high - x) * (4.0 / (self.high - self.low) ** 2)
        return z * linear_map(inside, self._repeat, self._repeat_columns)

    def _first(self, x: Differentiable) -> Differentiable:
        rows = self.weights[0].expand(self.dim, 1, -1)[:, 0]  # (d, h)

        def forward(y: Tensor) -> Tensor:
            return (y[:, :, None] * rows).flatten(1)

        def columns(index: Tensor) -> Tensor:
            block = torch.zeros(*index.shape, *rows.shape, dtype=rows.dtype, device=rows.device)
            place = index[..., None, None].expand(*index.shape, 1, rows.shape[1])
            return block.scatter(-2, place, rows[index][..., None, :]).flatten(-2)

        return linear_map(x, forward, columns)

    def _block(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the map that applies one matrix per coordinate, `(*, d h) -> (*, d m)`."""
        weight = weight.expand(self.dim, -1, -1)

        def function(z: Tensor) -> Tensor:
            z = z.unflatten(-1, (self.dim, -1))
            return torch.einsum("...dh,dhm->...dm", z, weight).flatten(-2)

        return function

    def _bias(self, i: int) -> Tensor:
        return self.biases[i].expand(self.dim, -1).flatten()

    def _repeat(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.rank, dim=-1)

    def _repeat_columns(self, index: Tensor) -> Tensor:
        hot = nn.functional.one_hot(index, self.dim).to(self.weights[0].dtype)
        return self._repeat(hot)

    def factors(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the one-dimensional functions and their derivatives at the same nodes.

        Args:
            nodes: `(M,)`.

        Returns:
            Values and derivatives, `(M, d, r)` each, differentiable in the parameters.
        """
        x = nodes[:, None].expand(-1, self.dim).contiguous()
        value, slope = torch.func.jvp(self._factors, (x,), (torch.ones_like(x),))
        shape = (len(nodes), self.dim, self.rank)
        return value.reshape(shape), slope.reshape(shape)
