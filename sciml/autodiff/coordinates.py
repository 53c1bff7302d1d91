"""The seeded input of a network: coordinates that have not been expanded into K tangents.

`Coordinates` holds x `(N, d)` (or a coordinate-wise function of it) and the directions. Linear
maps gather the columns they need; sums over coordinates contract. A tangent of shape `(K, N, d)`
is built only if an operation leaves no other way, and then says so once in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.autodiff import elementwise
from sciml.autodiff.directions import Directions, SparseDirections
from sciml.autodiff.gather import linear_with_columns
from sciml.autodiff.jet import Jet
from sciml.autodiff.linear_jet import LinearJet
from sciml.autodiff.pushforward import announce
from sciml.autodiff.taylor import Frame, compose, product
from sciml.errors import InvalidArgument


class Coordinates:
    """A coordinate-wise function y_i = f(x_i) of the seeded input.

    Attributes:
        x: The input `(N, d)`.
        parts: Directions.
        frame: Order, number of directions, collapse weights.
        derivatives: f, f', f'', ... up to the order; tensors `(N, d)` or plain numbers.

    Example:
        >>> import torch
        >>> from sciml.autodiff import Coordinates, one_hot, seed, squared_norm
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> point, _ = seed(x, None, [one_hot(torch.tensor([0, 1]))])
        >>> isinstance(point, Coordinates), point.is_identity
        (True, True)
        >>> squared_norm(point).first[:, 0, 0].tolist()  # d_i |x|^2 = 2 x_i
        [2.0, 4.0]
    """

    __slots__ = ("derivatives", "frame", "parts", "x")

    def __init__(self, x: Tensor, parts: list[Directions], frame: Frame, derivatives: list) -> None:
        self.x, self.parts, self.frame, self.derivatives = x, parts, frame, derivatives

    @property
    def is_identity(self) -> bool:
        """Whether this is x itself."""
        return self.derivatives[0] is self.x

    @property
    def shape(self) -> torch.Size:
        """Shape of x."""
        return self.x.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of x."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Device of x."""
        return self.x.device

    def _tensor(self, m: int) -> Tensor:
        """Return the m-th derivative written out as `(N, d)`."""
        f = self.derivatives[m]
        return f.expand(self.x.shape) if isinstance(f, Tensor) else torch.full_like(self.x, f)

    def _rows(
        self, contract: Callable[[Directions, Tensor, int], Tensor], width: int
    ) -> list[Tensor]:
        """Contract every order with every part and collapse the top one."""
        n, out = self.x.shape[0], []
        for m in range(1, self.frame.order + 1):
            f = self.derivatives[m]
            if not isinstance(f, Tensor) and f == 0:
                z = self.x.new_zeros(self.frame.num, 1, width)
            else:
                g = self._tensor(m)
                rows = [contract(p, g, m) for p in self.parts]
                rows = [r.expand(-1, n, -1) for r in rows] if len(rows) > 1 else rows
                z = torch.cat(rows) if len(rows) > 1 else rows[0]
            if m == self.frame.order and self.frame.weights is not None:
                z = self.frame.collapse(z).expand(n, -1)
            out.append(z)
        return out

    def map_linear(self, forward: Callable, columns: Callable) -> Jet:
        """Return the jet of a linear map, see `linear_map`."""
        value = forward(self.derivatives[0])
        if not self.is_identity:
            contract = lambda p, g, m: p.power_linear(self.x, g, m, columns)  # noqa: E731
            return Jet(value, self._rows(contract, value.shape[-1]), self.frame)
        tangents = [p.linear(self.x, forward, columns, value) for p in self.parts]
        return LinearJet(value, tangents, self.frame)

    def sum(self, dim: int = -1, keepdim: bool = False) -> Jet:
        """Return the sum over coordinates as a jet `(N, 1)`; `keepdim` must be True."""
        if dim not in (-1, 1) or not keepdim:
            raise InvalidArgument(
                f"a sum of coordinates with dim={dim}, keepdim={keepdim}",
                "a sum over coordinates that keeps the axis",
                "Write x.sum(-1, keepdim=True)",
            )
        rows = self._rows(lambda p, g, m: p.power_sum(self.x, g, m)[..., None], 1)
        return Jet(self.derivatives[0].sum(-1, keepdim=True), rows, self.frame)

    def mean(self, dim: int = -1, keepdim: bool = False) -> Jet:
        """Return the mean over coordinates as a jet `(N, 1)`; `keepdim` must be True."""
        return self.sum(dim, keepdim) * (1 / self.x.shape[1])

    def apply(self, rule: Callable[[Tensor, int], list[Tensor]]) -> Coordinates:
        """Return the coordinate-wise function composed with another."""
        f = rule(self.derivatives[0], self.frame.order)
        orders = f[1:] if self.is_identity else compose(f, self.derivatives[1:], _identity)
        return self._with([f[0], *orders])

    def _with(self, derivatives: list) -> Coordinates:
        return Coordinates(self.x, self.parts, self.frame, derivatives)

    def expand_tangents(self) -> Jet:
        """Return the jet with tangents of shape `(K, N, d)` written out."""
        announce("Coordinates", "expanded to (K, N, d) tangents: start with a linear map or a sum")
        return self.write_out()

    def write_out(self) -> Jet:
        """Return the same without a word: for those who need the tangents themselves."""
        rows = self._rows(lambda p, g, m: g * p.dense(self.x) ** m, self.x.shape[1])
        return Jet(self.derivatives[0], rows, self.frame)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Differentiate a torch function that was called with coordinates."""
        kwargs = kwargs or {}
        if function is F.linear:
            return _linear(*args, **kwargs)
        if function in (torch.matmul, torch.Tensor.__matmul__) and isinstance(args[0], cls):
            return args[0] @ args[1]
        if function in elementwise.RULES and elementwise.is_plain(function, args, kwargs):
            return args[0].apply(elementwise.RULES[function])
        if function in _OPERATORS:
            return _OPERATORS[function](*args, **kwargs)
        expand = lambda a: a.expand_tangents() if isinstance(a, Coordinates) else a  # noqa: E731
        is_leaf = lambda a: isinstance(a, Coordinates | Jet)  # noqa: E731
        args = torch.utils._pytree.tree_map(expand, args, is_leaf=is_leaf)
        return function(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable:
        """Return an elementwise function as a method, `x.sin()`, as tensors have it."""
        return elementwise.method(self, name)

    # --- operators --------------------------------------------------------------------------
    def __add__(self, other: Any) -> Coordinates | Jet:
        """Add coordinates, a constant tensor or a number."""
        if isinstance(other, Jet):
            return self.expand_tangents() + other
        if isinstance(other, Coordinates):
            pairs = zip(self.derivatives, other.derivatives, strict=True)
            return self._with([a + b for a, b in pairs])
        return self._with([self.derivatives[0] + other, *self.derivatives[1:]])

    __radd__ = __add__

    def __neg__(self) -> Coordinates:
        """Negate."""
        return self * -1.0

    def __sub__(self, other: Any) -> Coordinates | Jet:
        """Subtract coordinates, a constant tensor or a number."""
        return self + (-other)

    def __rsub__(self, other: Any) -> Coordinates | Jet:
        """Subtract from a constant tensor or a number."""
        return -self + other

    def __mul__(self, other: Any) -> Coordinates | Jet:
        """Multiply by coordinates, a jet `(N, 1)`, a constant tensor or a number."""
        if isinstance(other, Jet):
            return self.expand_tangents() * other
        if isinstance(other, Coordinates):
            f, g = self.derivatives, other.derivatives
            return self._with([f[0] * g[0], *product(f, g, _identity)])
        is_zero = lambda f: not isinstance(f, Tensor) and f == 0  # noqa: E731
        return self._with([f if is_zero(f) else f * other for f in self.derivatives])

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Coordinates | Jet:
        """Divide by coordinates, a constant tensor or a number."""
        if isinstance(other, Coordinates):
            return self * other.apply(elementwise.reciprocal)
        return self * (1 / other)  # of a jet too: its product writes the coordinates out

    def __rtruediv__(self, other: Tensor | float) -> Coordinates:
        """Divide a constant tensor or a number."""
        return self.apply(elementwise.reciprocal) * other

    def __pow__(self, exponent: float) -> Coordinates:
        """Raise to a fixed power."""
        if exponent == 2:
            return self.apply(elementwise.square)
        return self.apply(lambda z, order: elementwise.power(z, order, exponent))

    def __matmul__(self, matrix: Tensor) -> Jet:
        """Multiply by a constant matrix `(d, h)`."""
        return self.map_linear(lambda y: y @ matrix, lambda i: matrix[i])

    def __getitem__(self, index: Any) -> Jet:
        """Select coordinates: `x[..., index]` or `x[:, index]`."""
        every = torch.arange(self.x.shape[1], device=self.x.device)
        chosen = every[index[-1] if isinstance(index, tuple) else index].reshape(-1)
        return select(self, chosen)


def _identity(terms: Any) -> Any:
    return terms


def _linear(x: Coordinates, weight: Tensor, bias: Tensor | None = None) -> Jet:
    sparse = [part for part in x.parts if isinstance(part, SparseDirections)]
    if x.is_identity and len(sparse) == 1:
        product, picked = linear_with_columns(x.x, weight, sparse[0].index)
        # Every other part asks for the product with vectors of its own.
        jet = x.map_linear(
            lambda y: product if y is x.x else F.linear(y, weight),
            lambda i: picked.reshape(*i.shape, len(weight)),
        )
    else:
        jet = x.map_linear(lambda y: F.linear(y, weight), lambda i: F.embedding(i, weight.t()))
    return jet if bias is None else jet + bias


def select(x: Coordinates, index: Tensor) -> Jet:
    """Return the chosen coordinates `(N, m)` as a jet."""

    def columns(i: Tensor) -> Tensor:
        return (i[..., None] == index).to(x.dtype)

    return x.map_linear(lambda y: y[:, index], columns)


_OPERATORS: dict[Callable, Callable] = {
    torch.add: lambda a, b: b + a if isinstance(b, Coordinates) else a + b,
    torch.Tensor.__add__: lambda a, b: b + a,
    torch.Tensor.__radd__: lambda a, b: a + b,
    torch.sub: lambda a, b: (-b) + a if isinstance(b, Coordinates) else a - b,
    torch.Tensor.__sub__: lambda a, b: (-b) + a,
    torch.pow: lambda a, b: a**b,
    torch.div: lambda a, b: a / b,
    torch.Tensor.__truediv__: lambda a, b: b.__rtruediv__(a),
    torch.mul: lambda a, b: b * a if isinstance(b, Coordinates) else a * b,
    torch.Tensor.__mul__: lambda a, b: b * a,
    torch.sum: Coordinates.sum,
    torch.mean: Coordinates.mean,
}
