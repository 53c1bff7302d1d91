"""Truncated Taylor arithmetic in several variables: all wanted derivatives from one pass.

A `MultiJet` is the Taylor polynomial of a function of D variables at N points, cut to a set of
multi-indices that holds every index below each of its members (`Lattice`): for u_t, u_x and u_xx of
u(x, t) these are 1, x, t, xx. Mixed and higher derivatives come along, and no direction is pushed
twice. Coefficients are normalised, c_a = D^a f / a!, so that products are plain convolutions,

    (f g)_a = sum_{b <= a} f_b g_{a-b} ;

functions of one variable are in `multijet_functions`. Like `Jet`, it speaks torch's function
protocol, so an ordinary module is differentiated by calling it. Directions in many dimensions,
sampled or summed, are the business of `Jet`.

Reference: Griewank and Walther, "Evaluating Derivatives", 2nd edition (2008), chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.autodiff import elementwise, fused
from sciml.autodiff.multi_indices import Lattice, MultiIndex
from sciml.autodiff.multijet_functions import Composition, Tanh, compose_channels
from sciml.errors import InvalidArgument


class MultiJet:
    """Taylor coefficients of h functions at N points.

    Attributes:
        packed: `(C, N, h)`, one channel per member of the lattice.
        lattice: The multi-indices.
    """

    __slots__ = ("_columns", "lattice", "packed")

    def __init__(self, packed: Tensor, lattice: Lattice) -> None:
        self.packed, self.lattice = packed, lattice
        self._columns: list | None = None

    @property
    def value(self) -> Tensor:
        """The functions themselves, `(N, h)`."""
        return self.packed[0]

    @property
    def shape(self) -> torch.Size:
        """Shape of the value."""
        return self.packed.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the coefficients."""
        return self.packed.dtype

    @property
    def device(self) -> torch.device:
        """Device of the coefficients."""
        return self.packed.device

    def derivative(self, index: MultiIndex) -> Tensor:
        """Return `D^index f` `(N, h)`."""
        factor = math.prod(map(math.factorial, index))
        coefficient = self.packed[self.lattice.position[index]]
        return coefficient if factor == 1 else factor * coefficient

    def entry(self, index: MultiIndex, column: int) -> Tensor:
        """Return `D^index f` of one function `(N,)`.

        All of them come from one splitting of the coefficients, whose backward pass is one joining.
        """
        if self._columns is None:
            self._columns = list(self.packed.unbind())
        k = self.lattice.position[index]
        if not isinstance(self._columns[k], tuple):
            self._columns[k] = self._columns[k].unbind(-1)
        factor = math.prod(map(math.factorial, index))
        value = self._columns[k][column]
        return value if factor == 1 else factor * value

    def like(self, packed: Tensor) -> MultiJet:
        """Return a jet of other coefficients of the same indices."""
        return MultiJet(packed, self.lattice)

    def apply(self, rule: Callable[[Tensor, int], list[Tensor]]) -> MultiJet:
        """Return the jet of an elementwise function given by its derivative rule."""
        lattice = self.lattice
        if rule is elementwise.tanh and fused.is_plain_reverse_mode(self.packed):
            return self.like(Tanh.apply(self.packed, lattice))
        if lattice.degree < elementwise.MAX_ORDER and fused.is_plain_reverse_mode(self.packed):
            return self.like(Composition.apply(self.packed, lattice, rule))
        return self.like(compose_channels(self.packed, lattice, rule))

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Differentiate a torch function that was called with jets.

        Raises:
            InvalidArgument: For a function without a rule.
        """
        kwargs = kwargs or {}
        if function in RULES:
            return RULES[function](*args, **kwargs)
        if function in elementwise.RULES and elementwise.is_plain(function, args, kwargs):
            return args[0].apply(elementwise.RULES[function])
        name = getattr(function, "__name__", str(function))
        raise InvalidArgument(
            f"torch.{name} of an output or coordinate whose derivatives are wanted",
            "sums, products, linear layers, and elementwise functions with a Taylor rule: "
            + ", ".join(sorted({f.__name__ for f in elementwise.RULES})),
            "Write it by these, or add its rule to sciml/autodiff/elementwise.py",
        )

    def __getattr__(self, name: str) -> Callable:
        """Return an elementwise function as a method, `z.tanh()`, as tensors have it."""
        return elementwise.method(self, name)

    # --- operators --------------------------------------------------------------------------
    def __add__(self, other: Any) -> MultiJet:
        """Add a jet, tensor or number."""
        return _add(self, other)

    __radd__ = __add__

    def __neg__(self) -> MultiJet:
        """Negate."""
        return self.like(-self.packed)

    def __sub__(self, other: Any) -> MultiJet:
        """Subtract a jet, tensor or number."""
        return _add(self, -other)

    def __rsub__(self, other: Any) -> MultiJet:
        """Subtract from a tensor or number."""
        return _add(-self, other)

    def __mul__(self, other: Any) -> MultiJet:
        """Multiply by a jet, tensor or number."""
        return _multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> MultiJet:
        """Divide by a jet, tensor or number."""
        if isinstance(other, MultiJet):
            return _multiply(self, other.apply(elementwise.reciprocal))
        return _multiply(self, 1 / other)

    def __rtruediv__(self, other: Any) -> MultiJet:
        """Divide a tensor or number."""
        return _multiply(self.apply(elementwise.reciprocal), other)

    def __pow__(self, exponent: float) -> MultiJet:
        """Raise to a fixed power."""
        if exponent == 2:
            return _multiply(self, self)
        return self.apply(lambda z, order: elementwise.power(z, order, exponent))

    def __getitem__(self, index: Any) -> MultiJet:
        """Select along the last axis: `jet[..., index]` or `jet[:, index]`."""
        if not isinstance(index, tuple) or len(index) != 2 or index[0] not in (..., slice(None)):
            raise InvalidArgument(
                f"the index {index!r} on a jet", "a selection of features", "Write jet[..., 2:5]"
            )
        return self.like(self.packed[..., index[1]])

    def sum(self, dim: int = -1, keepdim: bool = False) -> MultiJet:
        """Sum over the last axis."""
        if dim not in (-1, 1):
            raise InvalidArgument(f"a sum of a jet over dim={dim}", "the feature axis, dim=-1")
        return self.like(self.packed.sum(-1, keepdim=keepdim))


def variables(x: Tensor, lattice: Lattice, along: Sequence[int] | None = None) -> MultiJet:
    """Return the jet of D independent variables, x `(N, D)`.

    Args:
        x: Their values.
        lattice: Multi-indices.
        along: Which variables the multi-indices are about; None for all of them in order.
    """
    packed = x.new_zeros(len(lattice), *x.shape)
    packed[0] = x
    for index, k in lattice.position.items():
        if sum(index) == 1:
            place = index.index(1)
            packed[k, :, place if along is None else along[place]] = 1.0
    return MultiJet(packed, lattice)


def constant(value: Tensor, lattice: Lattice) -> MultiJet:
    """Return the jet of constants `(N, h)`."""
    zeros = value.new_zeros(len(lattice) - 1, *value.shape)
    return MultiJet(torch.cat([value[None], zeros]), lattice)


def _linear(jet: MultiJet, weight: Tensor, bias: Tensor | None = None) -> MultiJet:
    if fused.is_plain_reverse_mode(jet.packed):
        return jet.like(fused.Affine.apply(jet.packed, weight, bias))
    out = F.linear(jet.packed, weight)
    return jet.like(out) if bias is None else _add(jet.like(out), bias)


def _add(a: Any, b: Any, *, alpha: float = 1) -> MultiJet:
    b = b if alpha == 1 else alpha * b
    if isinstance(a, MultiJet) and isinstance(b, MultiJet):
        return a.like(a.packed + b.packed)
    jet, other = (a, b) if isinstance(a, MultiJet) else (b, a)
    value = jet.packed[:1] + other
    rest = jet.packed[1:].expand(-1, *value.shape[1:])
    return jet.like(torch.cat([value, rest]))


def _multiply(a: Any, b: Any) -> MultiJet:
    if not (isinstance(a, MultiJet) and isinstance(b, MultiJet)):
        jet, other = (a, b) if isinstance(a, MultiJet) else (b, a)
        return jet.like(jet.packed * other)
    f, g = a.packed.unbind(), b.packed.unbind()
    out: list[Tensor | None] = [None] * len(a.lattice)
    for k, i, j in a.lattice.pairs:
        out[k] = f[i] * g[j] if out[k] is None else torch.addcmul(out[k], f[i], g[j])
    return a.like(torch.stack(out))


def _cat(tensors: Sequence, dim: int = 0) -> MultiJet:
    if dim not in (-1, 1):
        raise InvalidArgument(f"torch.cat of jets along dim={dim}", "the feature axis, dim=-1")
    lattice = next(j.lattice for j in tensors if isinstance(j, MultiJet))
    jets = [j if isinstance(j, MultiJet) else constant(j, lattice) for j in tensors]
    return MultiJet(torch.cat([j.packed for j in jets], -1), lattice)


# --- functions of one variable --------------------------------------------------------------


RULES: dict[Callable, Callable] = {
    F.linear: _linear,
    torch.add: _add,
    torch.Tensor.add: _add,
    torch.Tensor.__add__: _add,
    torch.Tensor.__radd__: _add,
    torch.sub: lambda a, b, alpha=1: _add(a, b, alpha=-alpha),
    torch.Tensor.sub: lambda a, b, alpha=1: _add(a, b, alpha=-alpha),
    torch.Tensor.__sub__: lambda a, b: _add(a, -b),
    torch.Tensor.__rsub__: lambda a, b: _add(-a, b),
    torch.mul: _multiply,
    torch.Tensor.mul: _multiply,
    torch.Tensor.__mul__: _multiply,
    torch.Tensor.__rmul__: _multiply,
    torch.div: lambda a, b: b.__rtruediv__(a) if isinstance(b, MultiJet) else a / b,
    torch.Tensor.__truediv__: lambda a, b: b.__rtruediv__(a) if isinstance(b, MultiJet) else a / b,
    torch.Tensor.__rtruediv__: lambda a, b: b / a,
    torch.neg: lambda a: -a,
    torch.pow: lambda a, k: a**k,
    torch.cat: _cat,
    torch.sum: MultiJet.sum,
}
