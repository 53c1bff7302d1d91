"""Elliptic boundary value problems as walks see them: fields as functions of points and domains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

# f(x, i): x (d, N) coordinates first, i (N,) the domain of each column; returns (N,).
Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Dirichlet:
    """`div(alpha grad u) - sigma u = -f` with `u = g` on the boundary, for B domains.

    Fields are functions `(x (d, N), i (N,)) -> (N,)` of points, coordinates first, and of the
    domain each belongs to.

    Attributes:
        boundary: g.
        source: f, or None for 0.
        screening: sigma: None for 0, a number or `(B,)` of constants, not negative, or a field.
        diffusion: alpha, a positive field, or None for 1.
        reduced: sigma' in closed form; by automatic differentiation of `diffusion` if None.
        bound: s of delta tracking, a number or `(B,)`; found from random points if None.
    """

    boundary: Field
    source: Field | None = None
    screening: float | Tensor | Field | None = None
    diffusion: Field | None = None
    reduced: Field | None = None
    bound: float | Tensor | None = None
