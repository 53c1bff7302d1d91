"""The two rules of Taylor arithmetic, composition and product up to order four, and their frame.

Derivatives are plain derivatives along a direction, not divided by factorials. Lists hold orders
one to k. `collapse` is applied to everything in the top order that is not linear in the top
input, so a top order that has already been summed over directions stays summed; with the
identity as `collapse` nothing is summed.

Reference: Faà di Bruno's formula; collapsing: Dangel et al., "Collapsing Taylor Mode Automatic
Differentiation", arXiv 2505.13644.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """What all jets of one evaluation share.

    Attributes:
        order: Highest derivative, 1 to 4.
        num: Number of directions K.
        weights: Collapse weights `(K,)` or `(K, N, 1)`; None keeps the top order per direction.
        laplacian: Share of the Laplacian that the collapsed channel estimates: 1, or 1/n in one of
            n chunks whose estimates are added, or 0 where it is something else. A module that
            knows the exact Laplacian of its output may deliver that share of it instead.
    """

    order: int
    num: int
    weights: Tensor | None = None
    laplacian: float = 0.0

    def collapse(self, terms: Tensor) -> Tensor:
        """Return `sum_k w_k terms_k` for `(K, N, h)`; the identity where nothing collapses."""
        if self.weights is None:
            return terms
        if self.weights.dim() == 1:
            return torch.tensordot(self.weights.to(terms.dtype), terms, dims=1)
        return (self.weights.to(terms.dtype) * terms).sum(0)


def compose(f: list, z: list, collapse: Callable) -> list:
    """Return the derivatives one to k of f(z) from `f = [f, f', ...]` at z and those of z."""
    k = len(z)
    # Terms of each order that are not linear in the input of the same order.
    rest = [
        lambda: None,
        lambda: f[2] * (z[0] * z[0]),
        lambda: 3 * f[2] * (z[0] * z[1]) + f[3] * (z[0] * z[0] * z[0]),
        lambda: (
            f[2] * (4 * z[0] * z[2] + 3 * z[1] * z[1])
            + 6 * f[3] * (z[0] * z[0] * z[1])
            + f[4] * (z[0] * z[0] * (z[0] * z[0]))
        ),
    ]
    out = [f[1] * z[m] + rest[m]() if m else f[1] * z[0] for m in range(k - 1)]
    if k == 1:
        return [f[1] * z[0]]
    if k == 2:
        # f'' does not depend on the direction: sum the squares first, multiply once.
        top = f[1] * z[1] + f[2] * collapse(z[0] * z[0])
    else:
        top = f[1] * z[k - 1] + collapse(rest[k - 1]())
    return [*out, top]


BINOMIAL = ((), (1,), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1))


def product(f: list, g: list, collapse: Callable) -> list:
    """Return the derivatives one to k of f g; here both lists start with the value."""
    k = len(f) - 1
    out = []
    for m in range(1, k + 1):
        ends = f[m] * g[0] + f[0] * g[m]
        middle = [BINOMIAL[m][i] * (f[i] * g[m - i]) for i in range(1, m)] if m > 1 else []
        if middle:
            inner = sum(middle[1:], middle[0])
            ends = ends + (collapse(inner) if m == k else inner)
        out.append(ends)
    return out
