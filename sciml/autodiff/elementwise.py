"""Derivatives of the elementwise functions that have Taylor rules, up to order four.

Each rule takes the argument `z` and an order k and returns the list `[f(z), f'(z), ..., f^(k)(z)]`.
The table `RULES` maps the torch function to its rule; it is the whole list of what is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ORDER = 4


def tanh(z: Tensor, order: int) -> list[Tensor]:
    """Hyperbolic tangent; all derivatives are polynomials in tanh itself."""
    a = torch.tanh(z)
    out = [a]
    if order >= 1:
        d1 = 1 - a * a
        out.append(d1)
    if order >= 2:
        out.append(-2 * a * d1)
    if order >= 3:
        out.append(d1 * (6 * a * a - 2))
    if order >= 4:
        out.append(8 * a * d1 * (2 - 3 * a * a))
    return out


def sin(z: Tensor, order: int) -> list[Tensor]:
    """Sine."""
    s = torch.sin(z)
    c = torch.cos(z) if order else None
    return [s, c, -s, -c, s][: order + 1] if order else [s]


def cos(z: Tensor, order: int) -> list[Tensor]:
    """Cosine."""
    c = torch.cos(z)
    s = torch.sin(z) if order else None
    return [c, -s, -c, s, c][: order + 1] if order else [c]


def exp(z: Tensor, order: int) -> list[Tensor]:
    """Exponential."""
    return [torch.exp(z)] * (order + 1)


def sinh(z: Tensor, order: int) -> list[Tensor]:
    """Hyperbolic sine."""
    pair = (torch.sinh(z), torch.cosh(z))
    return [pair[m % 2] for m in range(order + 1)]


def cosh(z: Tensor, order: int) -> list[Tensor]:
    """Hyperbolic cosine."""
    pair = (torch.cosh(z), torch.sinh(z))
    return [pair[m % 2] for m in range(order + 1)]


def log(z: Tensor, order: int) -> list[Tensor]:
    """Natural logarithm."""
    return [torch.log(z), *_inverse_powers(z, order)]


def log1p(z: Tensor, order: int) -> list[Tensor]:
    """Logarithm of one plus the argument."""
    return [torch.log1p(z), *_inverse_powers(1 + z, order)]


def _inverse_powers(z: Tensor, order: int) -> list[Tensor]:
    """Derivatives one to `order` of the logarithm: (-1)^(m-1) (m-1)! / z^m."""
    inverse = 1 / z
    out, term = [], inverse
    for m in range(1, order + 1):
        out.append(term)
        term = -m * term * inverse
    return out


def reciprocal(z: Tensor, order: int) -> list[Tensor]:
    """One over the argument."""
    inverse = 1 / z
    out = [inverse]
    for m in range(1, order + 1):
        out.append(-m * out[-1] * inverse)
    return out


def power(z: Tensor, order: int, exponent: float) -> list[Tensor]:
    """Argument to a fixed power; integer powers have no pole at zero where none is due."""
    out, factor = [], 1.0
    for m in range(order + 1):
        p = exponent - m
        # A factor of zero means that a polynomial has ended: avoid 0 * inf at z = 0.
        out.append(factor * z**p if factor != 0 else torch.zeros_like(z))
        factor *= p
    return out


def square(z: Tensor, order: int) -> list[Tensor]:
    """Square."""
    zero = torch.zeros_like(z)
    return [z * z, 2 * z, zero + 2, zero, zero][: order + 1]


def sqrt(z: Tensor, order: int) -> list[Tensor]:
    """Square root."""
    return power(z, order, 0.5)


def sigmoid(z: Tensor, order: int) -> list[Tensor]:
    """Logistic function; derivatives are polynomials in the function itself."""
    s = torch.sigmoid(z)
    out = [s]
    if order >= 1:
        d1 = s * (1 - s)
        out.append(d1)
    if order >= 2:
        out.append(d1 * (1 - 2 * s))
    if order >= 3:
        out.append(d1 * (1 - 6 * s + 6 * s * s))
    if order >= 4:
        out.append(d1 * (1 - 2 * s) * (1 - 12 * s + 12 * s * s))
    return out


def silu(z: Tensor, order: int) -> list[Tensor]:
    """Sigmoid-weighted linear unit: z s(z), so the m-th derivative is z s^(m) + m s^(m-1)."""
    s = sigmoid(z, order)
    return [z * s[m] + (m * s[m - 1] if m else 0) for m in range(order + 1)]


def softplus(z: Tensor, order: int) -> list[Tensor]:
    """Logarithm of one plus exp, with torch's default slope."""
    return [F.softplus(z), *sigmoid(z, order - 1)] if order else [F.softplus(z)]


def gelu(z: Tensor, order: int) -> list[Tensor]:
    """Gaussian error linear unit z Phi(z); derivatives of the normal density are He_m phi."""
    cdf = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    out = [z * cdf]
    if order >= 1:
        density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        out.append(cdf + z * density)
    if order >= 2:
        out.append((2 - z * z) * density)
    if order >= 3:
        out.append((z**3 - 4 * z) * density)
    if order >= 4:
        out.append((7 * z * z - z**4 - 4) * density)
    return out


def atan(z: Tensor, order: int) -> list[Tensor]:
    """Arc tangent."""
    w = 1 / (1 + z * z)
    derivatives = [w, -2 * z * w**2, (6 * z * z - 2) * w**3, 24 * z * (1 - z * z) * w**4]
    return [torch.atan(z), *derivatives[:order]]


def relu(z: Tensor, order: int) -> list[Tensor]:
    """Rectifier: its second derivative is zero, which is why it cannot fit a Laplacian."""
    zero = torch.zeros_like(z)
    return [torch.relu(z), (z > 0).to(z.dtype), zero, zero, zero][: order + 1]


RULES: dict[Callable, Callable[[Tensor, int], list[Tensor]]] = {
    torch.tanh: tanh,
    torch.Tensor.tanh: tanh,
    F.tanh: tanh,
    torch.sin: sin,
    torch.Tensor.sin: sin,
    torch.cos: cos,
    torch.Tensor.cos: cos,
    torch.exp: exp,
    torch.Tensor.exp: exp,
    torch.sinh: sinh,
    torch.cosh: cosh,
    torch.log: log,
    torch.Tensor.log: log,
    torch.log1p: log1p,
    torch.Tensor.log1p: log1p,
    torch.sqrt: sqrt,
    torch.Tensor.sqrt: sqrt,
    torch.square: square,
    torch.Tensor.square: square,
    torch.reciprocal: reciprocal,
    torch.sigmoid: sigmoid,
    F.sigmoid: sigmoid,
    F.silu: silu,
    F.softplus: softplus,
    F.gelu: gelu,
    torch.atan: atan,
    torch.arctan: atan,
    F.relu: relu,
    torch.relu: relu,
}

# Options that do not change what the rule computes. In-place variants return the same values.
_PLAIN = {"inplace": (False, True), "approximate": ("none",), "beta": (1,), "threshold": (20,)}
_METHODS = {function.__name__: rule for function, rule in RULES.items()}


def is_plain(function: Callable, args: tuple, kwargs: dict) -> bool:
    """Return whether a function of `RULES` was called with options that its rule is for."""
    names = ("beta", "threshold") if function is F.softplus else ("inplace",)
    options = dict(zip(names, args[1:], strict=False)) | kwargs
    return all(value in _PLAIN.get(name, (None,)) for name, value in options.items())


def method(z: object, name: str) -> Callable:
    """Return the elementwise function `name` of z, for attribute access.

    Raises:
        AttributeError: If there is no rule of that name.
    """
    if name == "pow":
        return z.__pow__
    if name not in _METHODS:
        raise AttributeError(f"'{type(z).__name__}' object has no attribute '{name}'")
    return partial(z.apply, _METHODS[name])
