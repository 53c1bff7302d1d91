"""Taylor jets that travel through ordinary torch code.

A `Jet` is the value of a function of (x, t) together with its derivatives along K directions, up
to order four. It implements torch's function protocol, so a plain `nn.Module` with an ordinary
`forward` (linear layers, activations, sums, products) is differentiated by calling it. All of it
is plain tensor arithmetic: it runs under `no_grad`, compiles, and has one ordinary backward.

The highest order may be collapsed: instead of K channels it carries the single weighted sum over
directions, because it enters every rule linearly.

Reference: STDE (arXiv 2412.00088) for jets as estimators; arXiv 2505.13644 for collapsing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.autodiff import elementwise, fused
from sciml.autodiff.pushforward import push_through
from sciml.autodiff.taylor import Frame, compose, product
from sciml.errors import InvalidArgument


class Jet:
    """Value and directional derivatives of a function of (x, t).

    Attributes:
        value: `(N, h)`.
        derivatives: Orders one to k; `(K, N, h)` each, the last `(N, h)` if collapsed. N may be 1
            where all points share a tangent.
        frame: Order, number of directions and collapse weights.
        packed: The tensor `(C, N, h)` of which value and derivatives are views, if there is one.

    Example:
        >>> import torch
        >>> from sciml.autodiff import DenseDirections, push
        >>> x = torch.tensor([[0.0, 0.0]])
        >>> directions = [DenseDirections(torch.eye(2))]
        >>> jet = push(lambda x: torch.exp(x.sum(-1, keepdim=True)), x, None, directions, order=3)
        >>> jet.value.tolist(), tuple(jet.first.shape), tuple(jet.top.shape)
        ([[1.0]], (2, 1, 1), (2, 1, 1))
    """

    __slots__ = ("derivatives", "frame", "packed", "value")

    def __init__(
        self, value: Tensor, derivatives: list[Tensor], frame: Frame, packed: Tensor | None = None
    ) -> None:
        self.value, self.derivatives, self.frame = value, derivatives, frame
        self.packed = packed

    @property
    def first(self) -> Tensor:
        """Directional first derivatives `(K, N, h)`."""
        return self.derivatives[0]

    @property
    def top(self) -> Tensor:
        """Highest order: `(N, h)` if collapsed, else `(K, N, h)`."""
        return self.derivatives[-1]

    @property
    def shape(self) -> torch.Size:
        """Shape of the value."""
        return self.value.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the value."""
        return self.value.dtype

    @property
    def device(self) -> torch.device:
        """Device of the value."""
        return self.value.device

    def shift(self, value: Tensor) -> Jet:
        """Return a jet with another value and the same derivatives."""
        return Jet(value, self.derivatives, self.frame)

    def map_linear(self, function: Callable[[Tensor], Tensor]) -> Jet:
        """Return the jet after a linear map of the last axis, without bias."""
        return Jet(function(self.value), [function(z) for z in self.derivatives], self.frame)

    def apply(self, rule: Callable[[Tensor, int], list[Tensor]]) -> Jet:
        """Return the jet of an elementwise function given by its derivative rule."""
        if self._can_fuse():
            packed = self.packed
            if packed is None:
                packed = fused.pack(self.value, self.derivatives)
            weights = self.frame.weights.to(packed.dtype)
            return unpack(fused.Activation.apply(packed, weights, rule), self.frame)
        f = rule(self.value, self.frame.order)
        return Jet(f[0], compose(f, self.derivatives, self.frame.collapse), self.frame)

    def _can_fuse(self) -> bool:
        """Whether `fused.Activation` applies, and the jet is wide enough to gain from it."""
        weights = self.frame.weights
        return (
            self.frame.order == 2
            and weights is not None
            and weights.dim() == 1
            and self.value.dim() == 2
            and self.value.shape[1] >= 8
            and fused.is_plain_reverse_mode(self.value)
        )

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Differentiate a torch function that was called with jets."""
        kwargs = kwargs or {}
        if any(hasattr(t, "expand_tangents") for t in types):
            return NotImplemented  # coordinates know how to become a jet
        if function in RULES:
            return RULES[function](*args, **kwargs)
        if function in elementwise.RULES and elementwise.is_plain(function, args, kwargs):
            return args[0].apply(elementwise.RULES[function])
        return push_through(function, args, kwargs, Jet)

    def __getattr__(self, name: str) -> Callable:
        """Return an elementwise function as a method, `z.tanh()`, as tensors have it."""
        return elementwise.method(self, name)

    # --- operators --------------------------------------------------------------------------
    def __add__(self, other: Any) -> Jet:
        """Add a jet, tensor or number."""
        return add(self, other)

    __radd__ = __add__

    def __neg__(self) -> Jet:
        """Negate."""
        return mul(self, -1.0)

    def __sub__(self, other: Any) -> Jet:
        """Subtract a jet, tensor or number."""
        return add(self, -other)

    def __rsub__(self, other: Any) -> Jet:
        """Subtract from a tensor or number."""
        return add(-self, other)

    def __mul__(self, other: Any) -> Jet:
        """Multiply by a jet, tensor or number."""
        return mul(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Jet:
        """Divide by a jet, tensor or number."""
        return div(self, other)

    def __rtruediv__(self, other: Any) -> Jet:
        """Divide a tensor or number."""
        return mul(self.apply(elementwise.reciprocal), other)

    def __pow__(self, exponent: float) -> Jet:
        """Raise to a fixed power."""
        if exponent == 2:
            return mul(self, self)
        return self.apply(lambda z, order: elementwise.power(z, order, exponent))

    def __matmul__(self, matrix: Tensor) -> Jet:
        """Multiply by a constant matrix from the right."""
        return linear(self, matrix.t())

    def __getitem__(self, index: Any) -> Jet:
        """Select along the last axis: `jet[..., index]` or `jet[:, index]`."""
        if not isinstance(index, tuple) or len(index) != 2 or index[0] not in (..., slice(None)):
            raise InvalidArgument(
                f"the index {index!r} on a jet", "a selection of features", "Write jet[..., 2:5]"
            )
        return self.map_linear(lambda z: z[..., index[1]])

    def sum(self, dim: int = -1, keepdim: bool = False) -> Jet:
        """Sum over the last axis."""
        return self.map_linear(lambda z: z.sum(_last(dim), keepdim=keepdim))

    def mean(self, dim: int = -1, keepdim: bool = False) -> Jet:
        """Average over the last axis."""
        return self.map_linear(lambda z: z.mean(_last(dim), keepdim=keepdim))


def linear(jet: Jet, weight: Tensor, bias: Tensor | None = None) -> Jet:
    """Return the jet after `z W^T + b`: all channels in one matrix product."""
    packed = jet.packed if jet.packed is not None else fused.pack(jet.value, jet.derivatives)
    if fused.is_plain_reverse_mode(packed):
        return unpack(fused.Affine.apply(packed, weight, bias), jet.frame)
    out = unpack(F.linear(packed, weight), jet.frame)
    value = out.value if bias is None else out.value + bias
    return Jet(value, out.derivatives, jet.frame)


def unpack(packed: Tensor, frame: Frame) -> Jet:
    """Return the jet whose channels lie in one tensor `(C, N, h)`, as `fused.pack` puts them."""
    sizes = [1] + [frame.num] * frame.order
    if frame.weights is not None:
        sizes[-1] = 1
    value, *derivatives = packed.split(sizes)
    if frame.weights is not None:
        derivatives[-1] = derivatives[-1][0]
    return Jet(value[0], derivatives, frame, packed)


def _jet(z: Any) -> Any:
    """Return coordinates written out as a jet; anything else unchanged."""
    return z.expand_tangents() if hasattr(z, "expand_tangents") else z


def add(a: Any, b: Any, *, alpha: float = 1) -> Jet:
    """Return `a + alpha b`; tensors and numbers are constants."""
    a, b = _jet(a), _jet(b) if alpha == 1 else alpha * _jet(b)
    if isinstance(a, Jet) and isinstance(b, Jet):
        pairs = zip(a.derivatives, b.derivatives, strict=True)
        return Jet(a.value + b.value, [p + q for p, q in pairs], a.frame)
    jet, constant = (a, b) if isinstance(a, Jet) else (b, a)
    value = jet.value + constant
    if value.shape == jet.value.shape:
        return jet.shift(value)
    h = value.shape[-1]
    return Jet(value, [z.expand(*z.shape[:-1], h) for z in jet.derivatives], jet.frame)


def sub(a: Any, b: Any, *, alpha: float = 1) -> Jet:
    """Return `a - alpha b`."""
    return add(a, b, alpha=-alpha)


def mul(a: Any, b: Any) -> Jet:
    """Return the product; tensors and numbers are constants."""
    a, b = _jet(a), _jet(b)
    if isinstance(a, Jet) and isinstance(b, Jet):
        f, g = [a.value, *a.derivatives], [b.value, *b.derivatives]
        return Jet(a.value * b.value, product(f, g, a.frame.collapse), a.frame)
    jet, constant = (a, b) if isinstance(a, Jet) else (b, a)
    return jet.map_linear(lambda z: z * constant)


def div(a: Any, b: Any) -> Jet:
    """Return the quotient."""
    b = _jet(b)
    if isinstance(b, Jet):
        return mul(b.apply(elementwise.reciprocal), a)
    return mul(a, 1 / b)


def cat(tensors: Sequence[Jet | Tensor], dim: int = 0) -> Jet:
    """Join along the last axis; plain tensors are constants."""
    frame = next(j.frame for j in tensors if isinstance(j, Jet))
    if dim not in (-1, 1):
        raise InvalidArgument(f"torch.cat of jets along dim={dim}", "the feature axis, dim=-1")
    jets = [j if isinstance(j, Jet) else constant(j, frame) for j in tensors]
    n = max(j.value.shape[0] for j in jets)
    derivatives = []
    for orders in zip(*(j.derivatives for j in jets), strict=True):
        derivatives.append(torch.cat([z.expand(*z.shape[:-2], n, -1) for z in orders], -1))
    return Jet(torch.cat([j.value for j in jets], -1), derivatives, frame)


def constant(value: Tensor, frame: Frame) -> Jet:
    """Return a jet whose derivatives are zero."""
    return Jet(value, zeros(value, frame, 1), frame)


def zeros(value: Tensor, frame: Frame, start: int) -> list[Tensor]:
    """Return zero derivatives of orders `start` to k."""
    out = [value.new_zeros(frame.num, *value.shape) for _ in range(start, frame.order + 1)]
    if out and frame.weights is not None:
        out[-1] = torch.zeros_like(value)
    return out


def _last(dim: int) -> int:
    if dim not in (-1, 1):
        raise InvalidArgument(f"a reduction of a jet over dim={dim}", "the feature axis, dim=-1")
    return -1


RULES: dict[Callable, Callable] = {
    F.linear: linear,
    torch.add: add,
    torch.Tensor.add: add,
    torch.Tensor.__add__: add,
    torch.Tensor.__radd__: add,
    torch.sub: sub,
    torch.Tensor.sub: sub,
    torch.Tensor.__sub__: sub,
    torch.Tensor.__rsub__: lambda a, b: add(-a, b),
    torch.mul: mul,
    torch.Tensor.mul: mul,
    torch.Tensor.__mul__: mul,
    torch.Tensor.__rmul__: mul,
    torch.div: div,
    torch.Tensor.__truediv__: div,
    torch.Tensor.__rtruediv__: lambda a, b: div(b, a),
    torch.neg: operator.neg,
    torch.Tensor.__neg__: operator.neg,
    torch.pow: operator.pow,
    torch.Tensor.__pow__: operator.pow,
    torch.cat: cat,
    torch.sum: Jet.sum,
    torch.mean: Jet.mean,
    torch.matmul: lambda a, b: linear(a, b.t()),
}
