"""Rules of differentiation for expressions of outputs: ((1 + u) * u.x).x, (u**2).lap, u.lap.x.

An expression is what returns D^index of it as tensors `(N,)`, like an output. Sums, products
(Leibniz), powers and the functions of `SLOPES` (chain rule) have exact rules; nothing is computed
that nobody asks for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sciml.autodiff.multi_indices import MultiIndex
from sciml.errors import InvalidArgument

Read: TypeAlias = Callable[[MultiIndex], Tensor]


def once(value: Tensor, read: Read) -> Read:
    """Return an expression whose value is known, and which computes every derivative once."""
    known: dict[MultiIndex, Tensor] = {}

    def cached(index: MultiIndex) -> Tensor:
        if not any(index):
            return value
        if index not in known:
            known[index] = read(index)
        return known[index]

    return cached


def fixed(value: Tensor) -> Read:
    """Return the expression of a tensor of which nothing but its values is known.

    Raises:
        InvalidArgument: By the expression, for its derivatives.
    """

    def read(index: MultiIndex) -> Tensor:
        if any(index):
            raise InvalidArgument(
                "the derivative of an expression with a tensor that is no output",
                "outputs, their derivatives and constants in what is differentiated",
                "Expand it by the product rule: for (k * u.x).x with k(x) write "
                "k * u.xx + k_x * u.x, k_x being the derivative of k",
            )
        return value

    return read


def refuse_in_place(name: str) -> None:
    """Refuse a function of torch that changes the values of its argument.

    Raises:
        InvalidArgument: Derivatives would stay those of the old values.
    """
    if name.endswith("_") and not name.endswith("__"):
        raise InvalidArgument(
            f"{name}(...), which changes values of an output in place",
            "a new expression, which has derivatives of its own",
            f"Write {name[:-1]}",
        )


def scaled(factor: Any, a: Read) -> Read:
    """Return a multiple by a number."""
    return lambda index: factor * a(index)


def total(a: Read, b: Read, sign: int = 1) -> Read:
    """Return the sum, or the difference."""
    return lambda index: a(index) + b(index) if sign > 0 else a(index) - b(index)


def product(a: Read, b: Read) -> Read:
    """Return the product, by the rule of Leibniz."""

    def read(index: MultiIndex) -> Tensor:
        terms = []
        for part in itertools.product(*(range(k + 1) for k in index)):
            rest = tuple(k - j for k, j in zip(index, part, strict=True))
            ways = math.prod(math.comb(k, j) for k, j in zip(index, part, strict=True))
            terms.append(ways * a(part) * b(rest))
        return sum(terms)

    return read


def shifted(a: Read, by: MultiIndex) -> Read:
    """Return a derivative of an expression."""
    return lambda index: a(tuple(i + k for i, k in zip(index, by, strict=True)))


def chained(value: Tensor, inner: Read, slope: Callable[[], Read]) -> Read:
    """Return a function of an expression.

    Args:
        value: Its values.
        inner: The expression.
        slope: Returns the derivative of the function, of the same expression.
    """

    def read(index: MultiIndex) -> Tensor:
        at = next(k for k, i in enumerate(index) if i)
        unit = tuple(int(k == at) for k in range(len(index)))
        rest = tuple(i - k for i, k in zip(index, unit, strict=True))
        return product(slope(), shifted(inner, unit))(rest)

    return once(value, read)


def power(a: Read, exponent: float, zero: MultiIndex) -> Read:
    """Return a power with a constant exponent."""

    def slope() -> Read:
        if exponent == 1:
            one = torch.ones_like(a(zero))
            return once(one, lambda _: torch.zeros_like(one))
        return scaled(exponent, power(a, exponent - 1, zero))

    return chained(a(zero) ** exponent, a, slope)


def applied(name: str, a: Read, zero: MultiIndex) -> Read:
    """Return one of the functions of `SLOPES` of an expression."""
    value = getattr(torch, name)(a(zero))
    return chained(value, a, lambda: SLOPES[name](a, zero))


def _less(a: Read, zero: MultiIndex, squared: Read) -> Read:
    one = torch.ones_like(a(zero))
    return total(once(one, lambda _: torch.zeros_like(one)), squared, -1)


def combined(symbol: str, a: Any, b: Any, zero: MultiIndex) -> Read | None:
    """Return the expression of an operation, None for one without a rule.

    Args:
        symbol: add, sub, mul, truediv or pow.
        a: An expression, or a constant.
        b: The same; one of the two is an expression.
        zero: The index of the values.
    """
    if symbol == "pow":
        return power(a, b, zero) if callable(a) and isinstance(b, int | float) else None
    if symbol == "truediv":
        b = power(b, -1, zero) if callable(b) else 1 / b
        symbol = "mul"
    if symbol == "mul":
        if callable(a) and callable(b):
            return product(a, b)
        return scaled(b, a) if callable(a) else scaled(a, b)
    sign = -1 if symbol == "sub" else 1
    if callable(a) and callable(b):
        return total(a, b, sign)
    return a if callable(a) else scaled(sign, b)  # beside a constant, for derivatives alone


# Derivatives of functions, as expressions of the same argument.
SLOPES: dict[str, Callable[[Read, MultiIndex], Read]] = {
    "sin": lambda a, zero: applied("cos", a, zero),
    "cos": lambda a, zero: scaled(-1, applied("sin", a, zero)),
    "exp": lambda a, zero: applied("exp", a, zero),
    "log": lambda a, zero: power(a, -1, zero),
    "sqrt": lambda a, zero: scaled(0.5, power(a, -0.5, zero)),
    "square": lambda a, zero: scaled(2, a),
    "reciprocal": lambda a, zero: scaled(-1, power(a, -2, zero)),
    "sinh": lambda a, zero: applied("cosh", a, zero),
    "cosh": lambda a, zero: applied("sinh", a, zero),
    "tanh": lambda a, zero: _less(a, zero, power(applied("tanh", a, zero), 2, zero)),
}
