"""Directions in which a function of (x, t) is differentiated.

A part knows how to contract its vectors with what depends on x: with a linear map of x (the first
layer of a network) and with coordinate-wise functions. One-hot directions never build a vector:
they gather columns. A list of parts is one set of directions, rows in the order of the list.

Shapes: K directions of a part, N points, d space dimensions, h outputs of a linear map. Rows come
first: `(K, N, h)`, or `(K, 1, h)` where all points share the same tangent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.arguments import integers
from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


def squared_length(x: Tensor) -> Tensor:
    """Return |x|^2 `(N,)` for x `(N, d)`, without a temporary of the size of x where possible."""
    if x.requires_grad:  # the norm has no second derivative at zero
        return (x * x).sum(-1)
    return torch.linalg.vector_norm(x, dim=-1).square()


class SparseDirections:
    """Directions with few non-zero entries: `v_k = sum_m coefficient[k, m] e_{index[k, m]}`.

    Args:
        index: Coordinates, `(K,)` one-hot and shared by all points, `(K, m)` shared, or
            `(N, K, 1)` one-hot with its own draw for every point. A coordinate may be named twice
            in one direction: its entries add up.
        coefficient: Entries at those coordinates, broadcastable to `index`; None means 1.
        time: Component of all the directions along t.

    Example:
        >>> import torch
        >>> from sciml.autodiff import SparseDirections
        >>> pair = SparseDirections(torch.tensor([[0, 2]]), torch.tensor([[1.0, -1.0]]))
        >>> pair.dense(torch.zeros(1, 4))[0, 0].tolist()
        [1.0, 0.0, -1.0, 0.0]
    """

    def __init__(self, index: Tensor, coefficient: Tensor | None = None, time: float = 0.0) -> None:
        if index.dim() == 1:
            index = index[:, None]
        if index.dim() == 2:
            index = index[None]
        if index.dim() != 3:
            raise InvalidArgument(
                f"a direction index of shape {tuple(index.shape)}", "(K,), (K, m) or (N, K, 1)"
            )
        if index.shape[2] > 1:
            coefficient = _merged(index, coefficient)
        self.index = index  # (P, K, m), P = 1 or N
        self.coefficient = coefficient  # broadcastable to index, or None
        self.num = index.shape[1]
        self.time = time

    @property
    def is_shared_one_hot(self) -> bool:
        """Whether these are plain coordinate directions, the same for all points."""
        return self.index.shape[0] == self.index.shape[2] == 1 and self.coefficient is None

    def linear(self, x: Tensor, forward: Callable, columns: Callable, value: Tensor) -> Tensor:
        """Return the tangents `(K, 1 or N, h)` of a linear map with the given columns."""
        if self.index.shape[2] == 1 and self.coefficient is None:
            return columns(self.index[:, :, 0]).transpose(0, 1)
        return (columns(self.index) * self._coefficient(1, x)[..., None]).sum(2).transpose(0, 1)

    def power_sum(self, x: Tensor, g: Tensor, m: int) -> Tensor:
        """Return `sum_i g_i v_i^m` `(K, N)` for `g` `(N, d)`."""
        picked = self._pick(g, x)
        if self.coefficient is None and self.index.shape[2] == 1:
            return picked[:, :, 0].t()
        return (picked * self._coefficient(m, x)).sum(2).t()

    def power_linear(self, x: Tensor, g: Tensor, m: int, columns: Callable) -> Tensor:
        """Return `sum_i g_i v_i^m w_i` `(K, N, h)` for the columns w of a linear map."""
        picked = self._pick(g, x)
        if self.coefficient is not None:
            picked = picked * self._coefficient(m, x)
        return (picked[..., None] * columns(self.index)).sum(2).transpose(0, 1)

    def squared_length(self, x: Tensor) -> Tensor:
        """Return |v|^2 `(K, 1 or N)`."""
        if self.coefficient is None and self.index.shape[2] == 1:
            return x.new_ones(self.num, 1)
        return self._coefficient(2, x).expand(self.index.shape).sum(2).t().to(x)

    def dense(self, x: Tensor) -> Tensor:
        """Return the vectors written out, `(K, 1 or N, d)`: for checks and fallbacks."""
        entries = self._coefficient(1, x).expand(self.index.shape).to(x)
        out = x.new_zeros(*self.index.shape[:2], x.shape[1])
        return out.scatter_add(2, self.index, entries).transpose(0, 1)

    def _pick(self, g: Tensor, x: Tensor) -> Tensor:
        """Gather `(N, K, m)` from `(N, d)`."""
        n, (p, k, m) = g.shape[0], self.index.shape
        if p == 1:
            return g[:, self.index.reshape(-1)].reshape(n, k, m)
        return g.gather(1, self.index.reshape(p, k * m)).reshape(n, k, m)

    def _coefficient(self, m: int, x: Tensor) -> Tensor:
        if self.coefficient is None:
            return x.new_ones(())
        return self.coefficient.to(x.dtype) ** m


class DenseDirections:
    """Directions given as vectors: random probes, columns of a diffusion matrix, gradients.

    Args:
        vectors: `(K, d)` shared by all points, or `(K, N, d)`.

    Example:
        >>> import torch
        >>> from sciml.autodiff import DenseDirections, push
        >>> x, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
        >>> jet = push(lambda x: (x * x).sum(-1, keepdim=True), x, None, [DenseDirections(v)])
        >>> jet.first[0].tolist(), jet.top[0].tolist()  # 2 x . v and 2 |v|^2
        ([[22.0]], [[50.0]])
    """

    time = 0.0

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors[:, None] if vectors.dim() == 2 else vectors
        self.num = vectors.shape[0]

    def linear(self, x: Tensor, forward: Callable, columns: Callable, value: Tensor) -> Tensor:
        """Return the tangents `(K, 1 or N, h)` of a linear map."""
        k, p, d = self.vectors.shape
        out = forward(self.vectors.reshape(k * p, d))
        return out.reshape(k, p, out.shape[1])

    def power_sum(self, x: Tensor, g: Tensor, m: int) -> Tensor:
        """Return `sum_i g_i v_i^m` `(K, N)` for `g` `(N, d)`."""
        if self.vectors.shape[1] == 1:
            return self.vectors[:, 0] ** m @ g.t()
        return torch.einsum("knd,nd->kn", self.vectors**m, g)

    def power_linear(self, x: Tensor, g: Tensor, m: int, columns: Callable) -> Tensor:
        """Return `sum_i g_i v_i^m w_i` `(K, N, h)`; costs K products with the linear map."""
        every = torch.arange(x.shape[1], device=x.device)
        return (self.vectors**m * g) @ columns(every)

    def squared_length(self, x: Tensor) -> Tensor:
        """Return |v|^2 `(K, 1 or N)`."""
        return self.vectors.square().sum(-1)

    def dense(self, x: Tensor) -> Tensor:
        """Return the vectors, `(K, 1 or N, d)`."""
        return self.vectors


class RadialDirection:
    """The single direction v = x, free of charge: its tangent is the value without bias.

    Example:
        >>> import torch
        >>> from sciml.autodiff import RadialDirection, push
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> jet = push(lambda x: (x * x).sum(-1, keepdim=True), x, None, [RadialDirection()])
        >>> jet.first[0].tolist()  # x . grad |x|^2 = 2 |x|^2
        [[10.0]]
    """

    time = 0.0
    num = 1

    def linear(self, x: Tensor, forward: Callable, columns: Callable, value: Tensor) -> Tensor:
        """Return the tangent `(1, N, h)`."""
        return value[None]

    def power_sum(self, x: Tensor, g: Tensor, m: int) -> Tensor:
        """Return `sum_i g_i x_i^m` `(1, N)`."""
        return (g * x**m).sum(1)[None]

    def power_linear(self, x: Tensor, g: Tensor, m: int, columns: Callable) -> Tensor:
        """Return `sum_i g_i x_i^m w_i` `(1, N, h)`."""
        return ((g * x**m) @ columns(torch.arange(x.shape[1], device=x.device)))[None]

    def squared_length(self, x: Tensor) -> Tensor:
        """Return |x|^2 `(1, N)`."""
        return squared_length(x)[None]

    def dense(self, x: Tensor) -> Tensor:
        """Return x as `(1, N, d)`."""
        return x[None]


class TimeDirection:
    """The single direction of time.

    Example:
        >>> import torch
        >>> from sciml.autodiff import TimeDirection, push
        >>> x, t = torch.zeros(1, 2), torch.tensor([[2.0]])
        >>> jet = push(lambda x, t: t * t, x, t, [TimeDirection()])
        >>> jet.first[0].tolist(), jet.top[0].tolist()  # 2 t and 2
        ([[4.0]], [[2.0]])
    """

    time = 1.0
    num = 1

    def linear(self, x: Tensor, forward: Callable, columns: Callable, value: Tensor) -> Tensor:
        """Return zero `(1, 1, h)`: x does not move."""
        return value.new_zeros(1, 1, value.shape[-1])

    def power_sum(self, x: Tensor, g: Tensor, m: int) -> Tensor:
        """Return zero `(1, N)`."""
        return g.new_zeros(1, g.shape[0])

    def power_linear(self, x: Tensor, g: Tensor, m: int, columns: Callable) -> Tensor:
        """Return zero `(1, 1, h)`."""
        return g.new_zeros(1, 1, columns(torch.zeros_like(g[:1, 0], dtype=torch.long)).shape[-1])

    def squared_length(self, x: Tensor) -> Tensor:
        """Return zero `(1, 1)`."""
        return x.new_zeros(1, 1)

    def dense(self, x: Tensor) -> Tensor:
        """Return zero `(1, 1, d)`."""
        return x.new_zeros(1, 1, x.shape[1])


Directions = SparseDirections | DenseDirections | RadialDirection | TimeDirection


def _merged(index: Tensor, coefficient: Tensor | None) -> Tensor:
    """Return coefficients `(P, K, m)` that name every coordinate once, the later entries zero.

    Powers of entries are summed over m, so `e_i + e_i` must be the one entry 2.
    """
    if coefficient is None:
        coefficient = torch.ones(index.shape, device=index.device)
    same = index[..., :, None] == index[..., None, :]
    total = (same * coefficient.expand(index.shape)[..., None, :]).sum(-1)
    repeated = same.tril(-1).any(-1)
    return total.masked_fill(repeated, 0)


@typed(index=integers)
def one_hot(index: Tensor) -> SparseDirections:
    """Return coordinate directions: `index` `(K,)` shared, or `(N, K)` one set per point.

    Example:
        >>> import torch
        >>> from sciml.autodiff import one_hot
        >>> type(one_hot(torch.tensor([0, 2]))).__name__
        'SparseDirections'
    """
    return SparseDirections(index if index.dim() == 1 else index[..., None])
