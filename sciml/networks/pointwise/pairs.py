"""A network that sees neighbouring pairs of coordinates, with its exact Laplacian.

    n(x) = n_0 + sum_i sum_m w_{i,m} psi_m(y_i, y_{i+1}) + MLP(x),     y = s x,

psi_m the monomials up to degree p. A sum of functions of few coordinates has a Laplacian that
costs O(d): it is delivered exactly, whatever directions were sampled for the rest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sciml.autodiff import Coordinates, Jet, RadialDirection, SparseDirections
from sciml.errors import InvalidArgument
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.sizes import check_sizes
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.autodiff.directions import Directions


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
        self.exponents = [(a, b) for a in range(1, degree + 1) for b in range(0, degree + 1 - a)]
        self.scale = math.sqrt(dim) if scale is None else float(scale)
        self.weight = nn.Parameter(torch.zeros(len(self.exponents), dim))
        self.dim = dim

    def forward(self, x: Differentiable | None) -> Differentiable:
        """Return `(N, 1)`."""
        if isinstance(x, Coordinates):
            return self._jet(x)
        return self._sums(x)[:, :-1].sum(1, keepdim=True)

    def _sums(self, x: Tensor, laplacian: bool = False) -> Tensor:
        """Return the part of every degree 1..p and, last, the Laplacian, `(N, p + 1)`.

        Every monomial is formed once and contracted with all the rows that use it. The scale is
        put into the rows, so x itself is never copied.
        """
        p = max(a + b for a, b in self.exponents)
        users: dict[tuple[int, int, bool], list[tuple[int, Tensor]]] = {}
        for m, (a, b) in enumerate(self.exponents):
            row, inner = self.scale ** (a + b) * self.weight[m], b > 0
            row = row[:-1] if inner else row  # the last site has no right neighbour
            users.setdefault((a, b, inner), []).append((a + b - 1, row))
            if laplacian and a >= 2:
                users.setdefault((a - 2, b, inner), []).append((p, a * (a - 1) * row))
            if laplacian and b >= 2:
                users.setdefault((a, b - 2, inner), []).append((p, b * (b - 1) * row))
        powers = [None, x]
        for _ in range(2, p + 1):
            powers.append(powers[-1] * x)
        out: list = [0.0] * (p + 1)
        for (a, b, inner), rows in users.items():
            monomial = _monomial(powers, a, b, inner)
            matrix = torch.stack([row for _, row in rows], 1)
            parts = matrix.sum(0).expand(len(x), -1) if monomial is None else monomial @ matrix
            for (slot, _), part in zip(rows, parts.unbind(1), strict=True):
                out[slot] = out[slot] + part
        zero = torch.zeros_like(x[:, 0])
        return torch.stack([part if isinstance(part, Tensor) else zero for part in out], 1)

    def _partials(self, x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return d_j and d_j^2 of the sum at the coordinates `index` `(K,)`, `(N, K)` each."""
        s, last = self.scale, self.dim - 1
        before = s * x[:, (index - 1).clamp_min(0)] * (index > 0)
        here = s * x[:, index]
        after = s * x[:, (index + 1).clamp_max(last)] * (index < last)
        at = self.weight[:, index]
        left_of = self.weight[:, (index - 1).clamp_min(0)] * (index > 0)  # weights of site j - 1
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
        exact = frame.order == 2 and bool(frame.laplacian) and frame.weights is not None
        sums = self._sums(points, laplacian=exact)
        by_degree = sums[:, :-1]
        value = by_degree.sum(1, keepdim=True)
        first = torch.cat([self._first(p, points, by_degree) for p in x.parts])[..., None]
        if exact:
            return Jet(value, [first, frame.laplacian * sums[:, -1:]], frame)
        if frame.order == 1:
            return Jet(value, [first], frame)
        # Second derivatives along general directions need neighbours: H is tridiagonal.
        n, mixed = points.shape[0], self._mixed(points)
        _, h = self._partials(points, torch.arange(self.dim, device=points.device))
        rows = []
        for p in x.parts:
            v = p.dense(points)
            rows.append((h * v * v).sum(-1) + 2 * (mixed * v[..., :-1] * v[..., 1:]).sum(-1))
        top = torch.cat([r.expand(-1, n) for r in rows])[..., None]
        return Jet(value, [first, frame.collapse(top)], frame)

    def _first(self, part: Directions, x: Tensor, by_degree: Tensor) -> Tensor:
        """Return first derivatives `(K, N)`, forming the whole gradient only where it is needed."""
        if isinstance(part, RadialDirection):  # monomials are homogeneous: x . grad = degree
            degree = torch.arange(1, by_degree.shape[1] + 1, device=x.device)
            return (by_degree * degree).sum(1)[None]
        if isinstance(part, SparseDirections) and part.is_shared_one_hot:
            return self._partials(x, part.index[0, :, 0])[0].t()
        g, _ = self._partials(x, torch.arange(self.dim, device=x.device))
        return part.power_sum(x, g, 1).expand(-1, x.shape[0])

    def _mixed(self, x: Tensor) -> Tensor:
        """Return d_i d_{i+1} of the sum `(N, d-1)`."""
        left, right = x[:, :-1] * self.scale, x[:, 1:] * self.scale
        out = torch.zeros_like(left)
        for m, (a, b) in enumerate(self.exponents):
            if b >= 1:
                monomial = left ** (a - 1) * right ** (b - 1)
                out = out + self.scale**2 * a * b * monomial * self.weight[m, :-1]
        return out


def _monomial(powers: list, a: int, b: int, inner: bool) -> Tensor | None:
    """Return `x_i^a x_{i+1}^b`, over the sites with a right neighbour if `inner`; None for 1."""
    left = powers[a][:, :-1] if a and inner else powers[a]
    if not b:
        return left
    return powers[b][:, 1:] if left is None else left * powers[b][:, 1:]


@typed
class PairNetwork(nn.Module):
    """Sum of a `PairSum`, a constant and, if `width` is positive, an MLP.

    Args:
        dim: Number of coordinates, at least 2.
        time: Whether the MLP sees t; the pair sum itself does not.
        features: Number of known features of the MLP.
        degree: Highest degree of the pair monomials, 1 to 4.
        scale: Factor on the coordinates; None for sqrt(d).
        width: Hidden width of the MLP, 0 for none.
        depth: Linear layers of the MLP.
        activation: Activation of the MLP.

    Raises:
        InvalidArgument: For time or features without an MLP to take them.

    Example:
        >>> import torch
        >>> from sciml.networks import PairNetwork
        >>> network = PairNetwork(dim=100, degree=2)
        >>> tuple(network(torch.rand(5, 100)).shape), sum(p.numel() for p in network.parameters())
        ((5, 1), 301)
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
        if (time or features) and not width:
            raise InvalidArgument(
                "a pair sum with inputs besides x and no MLP to take them",
                "x alone, or an MLP beside the sum",
                "Type module.inputs=[x], or network.width=64",
            )
        self.pairs = PairSum(dim=dim, degree=degree, scale=scale)
        self.bias = nn.Parameter(torch.zeros(1))
        self.mlp = None
        if width:
            self.mlp = MLP(
                dim=dim,
                time=time,
                features=features,
                width=width,
                depth=depth,
                activation=activation,
            )

    def forward(
        self,
        x: Differentiable | None,
        t: Differentiable | None = None,
        f: Differentiable | None = None,
    ) -> Differentiable:
        """Return `(N, 1)`."""
        n = self.pairs(x) + self.bias
        return n if self.mlp is None else n + self.mlp(x, t, f)
