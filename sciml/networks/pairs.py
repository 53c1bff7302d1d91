"""A network that sees neighbouring pairs of coordinates, with its exact Laplacian.

    n(x) = n_0 + sum_i sum_m w_{i,m} psi_m(y_i, y_{i+1}) + MLP(x),     y = s x,

psi_m the monomials up to degree p. A sum of functions of few coordinates has a Laplacian that
costs O(d): it is delivered exactly, whatever directions were sampled for the rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciml.autodiff import Coordinates, Jet, Radial, Sparse
from sciml.errors import InvalidArgument
from sciml.networks.layers import check_sizes
from sciml.networks.mlp import MLP


class PairSum(nn.Module):
    """`sum_i sum_m w_{i,m} y_i^a y_{i+1}^b` over the exponents 1 <= a + b <= degree, a >= 1.

    The list is a basis: powers of one coordinate appear once, at their own site.

    Args:
        dim: Number of coordinates d, at least 2.
        degree: Highest total degree p, 1 to 4.
        scale: Factor s in y = s x; None for sqrt(d), right for points in the unit ball.

    Shapes: x `(N, d)` to `(N, 1)`. Jets up to order two; the collapsed channel is the exact
    Laplacian where the frame says that it estimates the Laplacian.
    """

    def __init__(self, *, dim: int, degree: int = 3, scale: float | None = None) -> None:
        super().__init__()
        check_sizes(dim=dim, degree=degree)
        if dim < 2 or degree > 4:
            raise InvalidArgument(f"dim={dim}, degree={degree}", "dim >= 2 and degree <= 4")
        self.exponents = [
            (a, b) for a in range(1, degree + 1) for b in range(0, degree + 1 - a)
        ]
        self.scale = math.sqrt(dim) if scale is None else float(scale)
        self.weight = nn.Parameter(torch.zeros(len(self.exponents), dim))
        self.dim = dim

    def forward(self, x):
        """Return `(N, 1)`."""
        if isinstance(x, Coordinates):
            return self._jet(x)
        return self._value(*self._powers(x))

    def _powers(self, x: Tensor) -> tuple[list, list]:
        """Return powers 0..p of y and of its right neighbour (0 beyond the end)."""
        p = max(a for a, _ in self.exponents)
        y = x * self.scale
        z = nn.functional.pad(y[:, 1:], (0, 1))
        left, right = [None, y], [None, z]  # the zeroth power is never multiplied
        for _ in range(2, p + 1):
            left.append(left[-1] * y)
            right.append(right[-1] * z)
        return left, right

    @staticmethod
    def _times(left: Tensor | None, right: Tensor | None) -> Tensor | None:
        if left is None or right is None:
            return left if right is None else right
        return left * right

    def _contract(self, left, right, terms: list[tuple[float, int, int, int]]) -> Tensor:
        """Return `sum over terms of factor * (y^a z^b) @ w_m` `(N,)`; one product per monomial."""
        by_monomial: dict[tuple[int, int], Tensor] = {}
        for factor, a, b, m in terms:
            row = factor * self.weight[m]
            if self.exponents[m][1]:  # the last site has no right neighbour
                row = nn.functional.pad(row[:-1], (0, 1))
            by_monomial[a, b] = by_monomial[a, b] + row if (a, b) in by_monomial else row
        total = 0.0
        for (a, b), row in by_monomial.items():
            monomial = self._times(left[a], right[b])
            total = total + (row.sum() if monomial is None else monomial @ row)
        return total

    def _value(self, left, right) -> Tensor:
        terms = [(1.0, a, b, m) for m, (a, b) in enumerate(self.exponents)]
        return self._contract(left, right, terms)[:, None]

    def _laplacian(self, left, right) -> Tensor:
        s2, terms = self.scale**2, []
        for m, (a, b) in enumerate(self.exponents):
            if a >= 2:
                terms.append((s2 * a * (a - 1), a - 2, b, m))
            if b >= 2:
                terms.append((s2 * b * (b - 1), a, b - 2, m))
        n = left[1].shape[0]
        if not terms:
            return left[1].new_zeros(n, 1)
        out = self._contract(left, right, terms)
        return out.expand(n)[:, None]

    def _partials(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return d_j and d_j^2 of the sum at the coordinates `index` `(K,)`, `(N, K)` each."""
        s = self.scale
        padded = nn.functional.pad(x, (1, 1)) * s
        before, here, after = padded[:, index], padded[:, index + 1], padded[:, index + 2]
        at = self.weight[:, index]
        left_of = nn.functional.pad(self.weight, (1, 0))[:, index]  # weights of site j - 1
        first, second = torch.zeros_like(here), torch.zeros_like(here)
        for m, (a, b) in enumerate(self.exponents):
            first = first + s * a * here ** (a - 1) * after**b * at[m]
            if a >= 2:
                second = second + s * s * a * (a - 1) * here ** (a - 2) * after**b * at[m]
            if b >= 1:
                first = first + s * b * before**a * here ** (b - 1) * left_of[m]
            if b >= 2:
                second = second + s * s * b * (b - 1) * before**a * here ** (b - 2) * left_of[m]
        return first, second

    def _jet(self, x: Coordinates) -> Jet:
        frame, points = x.frame, x.x
        if not x.is_identity or frame.order > 2:
            raise InvalidArgument("PairSum with jets above order two", "a second-order problem")
        left, right = self._powers(points)
        value = self._value(left, right)
        first = torch.cat([self._first(p, points, left, right) for p in x.parts])[..., None]
        if frame.order == 2 and frame.laplacian and frame.weights is not None:
            return Jet(value, [first, frame.laplacian * self._laplacian(left, right)], frame)
        if frame.order == 1:
            return Jet(value, [first], frame)
        # Second derivatives along general directions need neighbours: H is tridiagonal.
        n, mixed = points.shape[0], self._mixed(points, left, right)
        _, h = self._partials(points, torch.arange(self.dim, device=points.device))
        rows = []
        for p in x.parts:
            v = p.dense(points)
            rows.append((h * v * v).sum(-1) + 2 * (mixed * v[..., :-1] * v[..., 1:]).sum(-1))
        top = torch.cat([r.expand(-1, n) for r in rows])[..., None]
        return Jet(value, [first, frame.collapse(top)], frame)

    def _first(self, part, x: Tensor, left, right) -> Tensor:
        """Return first derivatives `(K, N)`, forming the whole gradient only where it is needed."""
        if isinstance(part, Radial):  # monomials are homogeneous: x . grad = degree
            terms = [(float(a + b), a, b, m) for m, (a, b) in enumerate(self.exponents)]
            return self._contract(left, right, terms)[None]
        if isinstance(part, Sparse) and part.is_shared_one_hot:
            return self._partials(x, part.index[0, :, 0])[0].t()
        g, _ = self._partials(x, torch.arange(self.dim, device=x.device))
        return part.power_sum(x, g, 1).expand(-1, x.shape[0])

    def _mixed(self, x: Tensor, left, right) -> Tensor:
        """Return d_i d_{i+1} of the sum `(N, d-1)`."""
        out = torch.zeros_like(x)
        for m, (a, b) in enumerate(self.exponents):
            if b >= 1:
                term = self._times(left[a - 1], right[b - 1])
                term = torch.ones_like(x) if term is None else term
                out = out + self.scale**2 * a * b * term * self.weight[m]
        return out[:, :-1]


class PairNetwork(nn.Module):
    """Sum of a `PairSum`, a constant and, if `width` is positive, an MLP.

    Args:
        dim: Number of coordinates, at least 2.
        time: Must be False: the pair sum is static.
        features: Must be 0.
        degree: Highest degree of the pair monomials, 1 to 4.
        scale: Factor on the coordinates; None for sqrt(d).
        width: Hidden width of the MLP, 0 for none.
        depth: Linear layers of the MLP.
        activation: Activation of the MLP.
    """

    def __init__(
        self,
        *,
        dim: int,
        time: bool = False,
        features: int = 0,
        degree: int = 3,
        scale: float | None = None,
        width: int = 0,
        depth: int = 4,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if time or features:
            raise InvalidArgument("PairNetwork with time or features", "inputs=[x]")
        self.pairs = PairSum(dim=dim, degree=degree, scale=scale)
        self.bias = nn.Parameter(torch.zeros(1))
        self.mlp = MLP(dim=dim, width=width, depth=depth, activation=activation) if width else None

    def forward(self, x, t=None, f=None):
        """Return `(N, 1)`."""
        n = self.pairs(x) + self.bias
        return n if self.mlp is None else n + self.mlp(x)
