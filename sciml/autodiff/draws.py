"""Differential operators as sums of terms, and draws of directions that estimate them.

A `DifferentialOperator` lists the terms of `sum_j a_j d_j^2`, of `tr(sigma sigma^T H)` or of the
bilaplacian; a `Draw` is a set of directions v_k with weights w_k such that
`sum_k w_k D^m u[v_k, ..., v_k]` (m = 2 or 4) is the operator or an unbiased estimate of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.arguments import whole
from sciml.autodiff.directions import DenseDirections, Directions, SparseDirections, one_hot
from sciml.errors import InvalidArgument


@dataclass
class Draw:
    """One set of directions.

    Attributes:
        part: Directions, K rows.
        weights: `(K,)` or `(K, N)`.
        index: Coordinates drawn `(K,)` where that is what was drawn, else None.
    """

    part: Directions
    weights: Tensor
    index: Tensor | None = None

    def chunk(self, size: int | None) -> list[Draw]:
        """Split into draws of at most `size` directions whose estimates add up to this one's."""
        if size is not None and (whole(size) or size < 1):
            raise InvalidArgument(f"chunk={size!r}", "a whole number of at least 1, or None")
        if size is None or self.part.num <= size:
            return [self]
        out = []
        for start in range(0, self.part.num, size):
            rows = slice(start, start + size)
            if isinstance(self.part, SparseDirections):
                c = self.part.coefficient
                part = SparseDirections(
                    self.part.index[:, rows], None if c is None else c[..., rows, :]
                )
            else:
                part = DenseDirections(self.part.vectors[rows])
            out.append(Draw(part, self.weights[rows]))
        return out


class DifferentialOperator:
    """The differential operator to be estimated.

    Args:
        dim: Number of coordinates d.
        order: 2, or 4 for the bilaplacian.
        weights: Second-order weights a: None for the Laplacian, `(d,)` or `(N, d)`.
        sigma: Alternatively a factor sigma `(d, m)` or `(N, d, m)` of `tr(sigma sigma^T H)`.
    """

    def __init__(
        self,
        dim: int,
        order: int = 2,
        weights: Tensor | None = None,
        sigma: Tensor | None = None,
    ) -> None:
        if order not in (2, 4):
            raise InvalidArgument(f"an operator of order {order}", "order 2 or 4")
        if order == 4 and (weights is not None or sigma is not None):
            raise InvalidArgument("weights for a fourth-order operator", "the plain bilaplacian")
        self.dim, self.order, self.weights, self.sigma = dim, order, weights, sigma

    @property
    def is_laplacian(self) -> bool:
        """Whether this is the plain Laplacian."""
        return self.order == 2 and self.weights is None and self.sigma is None

    @property
    def terms(self) -> int:
        """Number of terms to sample from: d coordinates, or m columns of sigma."""
        return self.dim if self.sigma is None else self.sigma.shape[-1]

    def along(self, index: Tensor, scale: Tensor | float, like: Tensor) -> Draw:
        """Return the terms with the given index, `(K,)` or `(N, K)`, times `scale`."""
        if self.order == 4:
            raise InvalidArgument("single coordinates for a fourth-order operator", "pairs")
        shared = index.dim() == 1
        ones = like.new_ones(index.shape if shared else index.t().shape) * scale
        if self.sigma is not None:
            if not shared:
                raise InvalidArgument("per-point columns of sigma", "dims=shared")
            columns = self.sigma[..., index]  # (d, K) or (N, d, K)
            vectors = columns.t() if columns.dim() == 2 else columns.permute(2, 0, 1)
            return Draw(DenseDirections(vectors), ones, index)
        if self.weights is not None:
            a = self.weights
            if shared:
                picked = a[index] if a.dim() == 1 else a[:, index].t()
                ones = ones * picked if a.dim() == 1 else ones[:, None] * picked
            else:
                ones = ones * (a[index] if a.dim() == 1 else a.gather(1, index)).t()
        return Draw(one_hot(index), ones, index if shared else None)

    def pairs(self, i: Tensor, j: Tensor, scale: Tensor | float, like: Tensor) -> Draw:
        """Return `sum_k scale * d_i^2 d_j^2` for index pairs `(K,)`, by polarisation.

        12 D(a,a,b,b) = D(a+b) + D(a-b) - 2 D(a) - 2 D(b), D(v) meaning all four slots v.
        """
        one, zero = torch.ones(len(i)), torch.zeros(len(i))
        index = torch.stack([i, j], 1).repeat(4, 1)
        c = [(one, one), (one, -one), (one, zero), (zero, one)]
        coefficient = torch.cat([torch.stack(p, 1) for p in c]).to(like)
        signs = like.new_tensor([1.0, 1.0, -2.0, -2.0]).repeat_interleave(len(i)) / 12
        return Draw(SparseDirections(index, coefficient), signs * scale)

    def exact(self, like: Tensor) -> Draw:
        """Return all terms: d directions, or the O(d^2) pairs of the bilaplacian."""
        every = torch.arange(self.terms, device=like.device)
        if self.order == 2:
            return self.along(every, 1.0, like)
        i, j = torch.triu_indices(self.dim, self.dim, device=like.device)
        twice = torch.where(i == j, 1.0, 2.0).to(like).repeat(4)
        return self.pairs(i, j, twice, like)

    def probes(self, v: Tensor, like: Tensor) -> Draw:
        """Return dense probes `v` `(V, m)` mapped so that their mean estimates the operator."""
        scale = 1 / v.shape[0]
        if self.sigma is not None:
            if self.sigma.dim() == 2:
                v = v @ self.sigma.t()
            else:
                v = torch.einsum("vm,ndm->vnd", v, self.sigma)
        elif self.weights is not None:
            if bool((self.weights < 0).any()):
                raise InvalidArgument(
                    "random probes for an operator with negative weights",
                    "weights a_j >= 0, of which they take the square root",
                    "Use estimator=sdgd, which takes any weights",
                )
            root = self.weights.sqrt()
            v = v * root if root.dim() == 1 else v[:, None] * root
        return Draw(DenseDirections(v), like.new_full((v.shape[0],), scale))
