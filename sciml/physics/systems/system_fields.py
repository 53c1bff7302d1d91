"""Outputs by name, and their derivatives as attributes: u, u.x, u.xy, u.lap, u.n.

Functions that a user writes ask for what they need by the names of their arguments, as in

    def residual(self, u, v, x):
        return u.t + v * u.x - torch.sin(x)

`call` hands it over: outputs as `Field`, coordinates and normals as tensors `(N,)`, unknown
constants as numbers in a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.autodiff.multi_indices import MultiIndex
from sciml.errors import InvalidArgument
from sciml.physics.systems import field_rules
from sciml.physics.systems.derivative_names import DerivativeNames
from sciml.typed_arguments import typed

TRANSPOSES = ("t", "T")  # of a tensor, which nobody means where the domain has no time


def _unary(name: str) -> Callable[[Field], Tensor]:
    method = getattr(Tensor, name)
    return lambda self: method(self.value)


def _binary(name: str) -> Callable[[Field, Any], Any]:
    method, symbol = getattr(Tensor, name), name.strip("_")

    def apply(self: Field, other: Any) -> Any:
        value = method(self.value, values(other))
        swapped = symbol in REFLECTED
        pair = (other, self) if swapped else (self, other)
        return _expression(value, symbol[1:] if swapped else symbol, *pair)

    return apply


OPERATIONS = {"add": "add", "sub": "sub", "mul": "mul", "div": "truediv", "truediv": "truediv"}
OPERATIONS |= {"pow": "pow", "subtract": "sub", "multiply": "mul", "divide": "truediv"}
OPERATIONS |= {"true_divide": "truediv"}
REFLECTED = ("radd", "rsub", "rmul", "rtruediv", "rdiv")


def _operand(part: Any) -> Any:
    """Return the expression of a field or tensor; a constant as it is."""
    if isinstance(part, Field):
        return field_rules.shifted(part._read, part._index)
    return field_rules.fixed(part) if isinstance(part, Tensor) and part.dim() else part


def _expression(value: Any, symbol: str, *parts: Any) -> Any:
    """Return a result of fields as a field of its own, where there is a rule; else its values."""
    unary = len(parts) == 1 and symbol in field_rules.SLOPES
    if type(value) is not Tensor or not (unary or symbol in OPERATIONS):
        return value
    first = next(part for part in parts if isinstance(part, Field))
    zero = first._names.zero

    def read(index: MultiIndex) -> Tensor:
        operands = [_operand(part) for part in parts]
        if unary:
            return field_rules.applied(symbol, operands[0], zero)(index)
        rule = field_rules.combined(OPERATIONS[symbol], *operands, zero)
        return (rule or field_rules.fixed(value))(index)

    lap = next((_refused for part in parts if isinstance(part, Field) and part._lap), None)
    return _field("(...)", field_rules.once(value, read), first, lap)


def _refused() -> Tensor:
    raise InvalidArgument(
        "the Laplacian of an expression with sampled dimensions",
        "the Laplacian of an output itself",
        "Type module.sampled=null for all dimensions",
    )


def _field(
    name: str, read: field_rules.Read, like: Field, lap: Callable[[], Tensor] | None = None
) -> Field:
    """Return a field at the points of another; arguments are known to be right."""
    made = object.__new__(Field)
    made._name, made._read, made._lap = name, read, lap
    made._names, made._normals, made._index = like._names, like._normals, like._names.zero
    return made


@typed
class Field:
    """An output or a derivative of it at N points.

    It behaves as its values, a tensor `(N,)`; attributes are derivatives, of derivatives too:
    `u.x`, `u.xxt`, `u.x.t`; `u.lap` is the Laplacian in space and `u.n` the derivative along the
    outward normal of the boundary. Sums, products, powers and functions such as `torch.exp` of
    outputs and constants are fields, too: `((1 + u) * u.x).x`, see `field_rules`.

    Args:
        name: Name of the output.
        read: Returns D^index of it, `(N,)`.
        names: What derivatives are called.
        normals: `(N, d)` on a boundary, else None.
        index: The derivative that this is.
        lap: Returns an estimate of the Laplacian of the output `(N,)`; None for the sum over all
            variables of space.

    Example:
        >>> from sciml.physics.systems import Interval, On, System
        >>> class Rod(System):
        ...     domain = Interval(0, 1)
        ...     conditions = {"ends": On(domain.boundary, u=0)}
        ...     def residual(self, u, x):  # u is a Field, and so is its derivative u.xx
        ...         return u.xx + u * u - x
        >>> sorted(Rod().needs["equations"])  # what of u the equation reads: u and u_xx
        [(0,), (2,)]
    """

    __slots__ = ("_index", "_lap", "_name", "_names", "_normals", "_read")

    def __init__(
        self,
        name: str,
        read: Callable[[MultiIndex], Tensor],
        names: DerivativeNames,
        normals: Tensor | None = None,
        index: MultiIndex | None = None,
        lap: Callable[[], Tensor] | None = None,
    ) -> None:
        self._lap = lap
        self._name, self._read, self._names, self._normals = name, read, names, normals
        self._index = names.zero if index is None else index

    @property
    def value(self) -> Tensor:
        """Values `(N,)`."""
        return self._read(self._index)

    def derivative(self, index: MultiIndex) -> Field:
        """Return a derivative of this one."""
        total = tuple(a + b for a, b in zip(self._index, index, strict=True))
        return Field(self._name, self._read, self._names, self._normals, total, self._lap)

    @property
    def lap(self) -> Field | Tensor:
        """Laplacian in space `(N,)`.

        Raises:
            InvalidArgument: Without space, and for that of a derivative where Laplacians are
                sampled.
        """
        if self._lap is not None:
            if any(self._index):
                raise InvalidArgument(
                    f"{self!r}.lap with sampled dimensions",
                    "the Laplacian of an output itself",
                    "Type module.sampled=null for all dimensions",
                )
            return self._lap()
        if not self._names.space:
            raise InvalidArgument(f"{self!r}.lap in a domain without space", "derivatives in t")
        second = [self.derivative(self._names.unit(v, 2)) for v in self._names.space]
        value = sum(part.value for part in second)

        def read(index: MultiIndex) -> Tensor:
            return sum(part.derivative(index).value for part in second)

        return _field(f"{self!r}.lap", field_rules.once(value, read), self)

    @property
    def n(self) -> Tensor:
        """Derivative along the outward normal `(N,)`.

        Raises:
            InvalidArgument: Where there is no normal, inside or at an end of time.
        """
        if self._normals is None:
            raise InvalidArgument(
                f"{self._name}.n away from the boundary of the shape",
                "a derivative along the normal in conditions on parts of the boundary",
                f"Write {self._name}.{self._names.variables[0]} for a derivative along an axis",
            )
        pairs = zip(self._names.space, self._normals.unbind(1), strict=True)
        return sum(m * self.derivative(self._names.unit(v)).value for v, m in pairs)

    def __getattr__(self, name: str) -> Any:
        """Return a derivative, or what a tensor has by this name.

        Raises:
            AttributeError: For neither.
        """
        if not name.startswith("_"):
            index = self._names.index(name)
            if index is not None:
                return self.derivative(index)
            if name in field_rules.SLOPES:
                return lambda: _expression(getattr(self.value, name)(), name, self)
            if name in TRANSPOSES:
                raise InvalidDerivative(
                    f"{self!r}.{name} in a domain without the variable {name.lower()}",
                    f"derivatives in {', '.join(self._names.variables)}",
                    "For time write domain = ... * Time(0, 1)",
                )
            if hasattr(Tensor, name):
                field_rules.refuse_in_place(name)
                return getattr(self.value, name)
            known = ", ".join(self._names.variables)
            raise InvalidDerivative(
                f"{self._name}.{name}",
                f"a derivative in the variables {known}, for instance "
                f"{self._name}.{self._names.variables[0] * 2}, or lap, n or a method of tensors",
            )
        raise AttributeError(name)

    def __neg__(self) -> Field:
        """Return the negative."""
        return self * -1.0

    __abs__ = _unary("__abs__")
    __pos__ = _unary("__pos__")
    __add__ = _binary("__add__")
    __sub__ = _binary("__sub__")
    __mul__ = _binary("__mul__")
    __truediv__ = _binary("__truediv__")
    __pow__ = _binary("__pow__")
    __radd__ = _binary("__radd__")
    __rsub__ = _binary("__rsub__")
    __rmul__ = _binary("__rmul__")
    __rtruediv__ = _binary("__rtruediv__")
    __rpow__ = _binary("__rpow__")
    __lt__ = _binary("__lt__")
    __le__ = _binary("__le__")
    __gt__ = _binary("__gt__")
    __ge__ = _binary("__ge__")
    __eq__ = _binary("__eq__")
    __ne__ = _binary("__ne__")
    __mod__ = _binary("__mod__")
    __floordiv__ = _binary("__floordiv__")
    __hash__ = object.__hash__

    def __setitem__(self, index: Any, value: Any) -> None:
        """Change some values, after which it has no derivatives."""
        changed = self.value.clone()
        changed[values(index)] = values(value)
        self._read, self._index, self._lap = field_rules.fixed(changed), self._names.zero, None

    def __getitem__(self, index: Any) -> Tensor:
        """Return a selection of the values."""
        return self.value[index]

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a torch function with the values."""
        field_rules.refuse_in_place(function.__name__)
        value = function(*map(values, args), **{k: values(v) for k, v in (kwargs or {}).items()})
        symbol = function.__name__.strip("_")
        if symbol in REFLECTED:
            symbol, args = symbol[1:], args[::-1]
        fits = len(args) == (1 if symbol in field_rules.SLOPES else 2) and not kwargs
        return _expression(value, symbol, *args) if fits else value

    def __repr__(self) -> str:
        """Return the name with its derivatives."""
        spelt = "".join(v * k for v, k in zip(self._names.variables, self._index, strict=True))
        return f"{self._name}.{spelt}" if spelt else self._name


class InvalidDerivative(InvalidArgument, AttributeError):
    """An attribute that is no derivative of an output."""


def values(part: Any) -> Any:
    """Return the tensor of a field, also inside lists; anything else unchanged."""
    if isinstance(part, Field):
        return part.value
    return type(part)(map(values, part)) if isinstance(part, list | tuple) else part


def rows(title: str, value: Any, x: Tensor) -> Tensor:
    """Return what a user's function returned as a tensor `(N,)`.

    A number stands for a constant.

    Args:
        title: The function, and the term.
        value: What it returned.
        x: The points `(N, D)`.

    Raises:
        InvalidArgument, InvalidType: For anything else; says what to write instead.
    """
    from sciml.shapes import check_returned

    value = values(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return x.new_full((len(x),), float(value))
    if type(value) is Tensor and value.dim() == 0 and value.dtype.is_floating_point:
        return value.expand(len(x))
    return check_returned(title, value, (len(x),), like=x, what="one number per point")


def random_rows(n: int, generator: torch.Generator) -> Tensor:
    """Return numbers `(n,)` between 1/2 and 3/2, which stand for values while reading."""
    return 0.5 + torch.rand(n, generator=generator, dtype=torch.float64)
