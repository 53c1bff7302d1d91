"""Stochastic estimators of `sum_j a_j d_j^2 u` and of the bilaplacian, as sets of directions.

An estimator draws directions v_k and weights w_k such that `sum_k w_k D^m u[v_k, ..., v_k]` is
unbiased for the operator (m = 2 or 4). Which draw is squared, which is differentiated and which
only corrects the value makes the algorithms of the papers:

* algorithm 3 (SDGD) / biased (HTE): one draw, its residual is squared. Adds the estimator's
  variance to the loss.
* algorithm 2 / unbiased: an independent second draw, without graph, supplies the value.
* algorithm 1: the exact operator, without graph, supplies the value.

Reference: Hu et al., SDGD (arXiv 2307.12306, algorithms 1-3); Hu et al., HTE (arXiv 2312.14499);
Shi et al., STDE (arXiv 2412.00088).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.autodiff.directions import DenseDirections
from sciml.autodiff.draws import DifferentialOperator, Draw
from sciml.autodiff.indices import distinct
from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.typed_arguments import typed


@typed
class Exact(nn.Module):
    """All terms of the operator: d directions per point, the forward Laplacian.

    Args:
        chunk: Directions in memory at a time, None for all; value and gradient are the same.

    Example:
        >>> from sciml.autodiff import Exact
        >>> Exact(chunk=16).chunk
        16
    """

    algorithm = 3

    def __init__(self, *, chunk: int | None = None) -> None:
        super().__init__()
        self.chunk = chunk

    def draw(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams, purpose: str
    ) -> Draw:
        """Return every term."""
        return operator.exact(like)

    def reference(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams
    ) -> Draw | None:
        """Return None: the drawn residual is the residual."""
        return None


@typed
class SDGD(nn.Module):
    """Stochastic dimension gradient descent: K of the d terms, scaled by d/K.

    Args:
        num_dims: K, dimensions per step (pairs of dimensions for a fourth-order operator).
        algorithm: 1 exact value and sampled gradient; 2 independent samples for value and
            gradient; 3 the same sample for both (biased, cheapest).
        dims: `shared` by all points of a step, or `per_point`.
        selection: `uniform` without replacement; `swept` one permutation per pass over all
            dimensions; `importance` with probability proportional to a running mean of
            |d_j^2 u|, with replacement.
        ranks: `independent` draws, or `disjoint` slices of one common permutation.
        reference_dims: K of the no-graph sample of algorithm 2; None for `num_dims`.
        unbiased_after: Step from which algorithm 3 turns into algorithm 2; None for never.
        chunk: Directions held in memory at a time; None for all.

    Raises:
        InvalidArgument: For values outside the lists above.

    Example:
        >>> import torch
        >>> from sciml.autodiff import SDGD
        >>> from sciml.autodiff.draws import DifferentialOperator
        >>> from sciml.autodiff.streams import Streams
        >>> x, laplacian = torch.zeros(1, 100), DifferentialOperator(100)
        >>> SDGD(num_dims=3).draw(laplacian, x, Streams(0, 0), "dims").part.num
        3
    """

    def __init__(
        self,
        *,
        num_dims: int = 16,
        algorithm: Literal[1, 2, 3] = 3,
        dims: Literal["shared", "per_point"] = "shared",
        selection: Literal["uniform", "swept", "importance"] = "uniform",
        ranks: Literal["independent", "disjoint"] = "independent",
        reference_dims: int | None = None,
        unbiased_after: int | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if num_dims < 1:
            raise InvalidArgument(f"estimator.num_dims={num_dims}", "a positive integer")
        if dims == "per_point" and (selection != "uniform" or ranks == "disjoint"):
            raise InvalidArgument(
                f"dims=per_point with selection={selection}, ranks={ranks}",
                "selection=uniform and ranks=independent",
                "Per-point draws are independent already",
            )
        if ranks == "disjoint" and selection != "uniform":
            raise InvalidArgument(f"ranks=disjoint with selection={selection}", "selection=uniform")
        self.num_dims, self.algorithm, self.dims = num_dims, algorithm, dims
        self.selection, self.ranks, self.chunk = selection, ranks, chunk
        self.reference_dims, self.unbiased_after = reference_dims or num_dims, unbiased_after
        if selection == "importance":
            self.register_buffer("scores", torch.zeros(0))

    def prepare(self, dim: int) -> None:
        """Check K against d and allocate what depends on d.

        Raises:
            InvalidArgument: If more dimensions are to be sampled than there are.
        """
        for key, k in (("num_dims", self.num_dims), ("reference_dims", self.reference_dims)):
            if k > dim:
                raise InvalidArgument(
                    f"estimator.{key}={k} for problem.dim={dim}",
                    "at most as many sampled dimensions as dimensions",
                    f"Type estimator.{key}={dim} or less, or estimator=exact",
                )
        if self.selection == "importance":
            self.scores = torch.ones(dim)

    def draw(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams, purpose: str
    ) -> Draw:
        """Return K terms with weights d/K (or 1/(K p_j)).

        Raises:
            InvalidArgument: For more terms than there are, and for options that a fourth-order
                operator does not have.
        """
        k = self.reference_dims if purpose == "reference" else self.num_dims
        d = operator.terms
        if operator.order == 4:
            dims, selection, ranks = self.dims, self.selection, self.ranks
            if (dims, selection, ranks) != ("shared", "uniform", "independent"):
                raise InvalidArgument(
                    f"dims={dims}, selection={selection}, ranks={ranks} for pairs of dimensions",
                    "dims=shared, selection=uniform and ranks=independent",
                    "Leave them out, or type estimator=hutchinson estimator.law=pair",
                )
            generator = streams.generator(purpose, cpu=True)
            i, j = torch.randint(operator.dim, (2, k), generator=generator).to(like.device)
            return operator.pairs(i, j, operator.dim**2 / k, like)
        if self.selection == "importance":
            return self._by_importance(operator, like, streams, purpose, k)
        index = self._index(d, k, like, streams, purpose).to(like.device, non_blocking=True)
        return operator.along(index, d / k, like)

    def reference(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams
    ) -> Draw | None:
        """Return the no-graph draw that supplies the residual's value, None for algorithm 3."""
        if self.algorithm == 1:
            return operator.exact(like)
        late = self.unbiased_after is not None and streams.step >= self.unbiased_after
        if self.algorithm == 2 or late:
            return self.draw(operator, like, streams, "reference")
        return None

    @torch.no_grad()
    def observe(self, draw: Draw, second: Tensor) -> None:
        """Update the importance scores from second derivatives `(K, N)` at the drawn index."""
        size = second.abs().mean(1).to(self.scores)
        self.scores[draw.index] = 0.9 * self.scores[draw.index] + 0.1 * size

    def _by_importance(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams, purpose: str, k: int
    ) -> Draw:
        # Half of the mass stays uniform: no weight exceeds 2 d / K however wrong a score is.
        p = 0.5 * self.scores / self.scores.sum() + 0.5 / len(self.scores)
        generator = streams.generator(purpose)
        index = torch.multinomial(p, k, replacement=True, generator=generator)
        return operator.along(index, (1 / (k * p[index])).to(like), like)

    def _index(self, d: int, k: int, like: Tensor, streams: Streams, purpose: str) -> Tensor:
        if self.dims == "per_point":
            generator = streams.generator(purpose, cpu=True)
            return distinct(d, k, generator, rows=like.shape[0])
        if self.selection == "swept":
            per_pass = d // k
            sweep, slot = divmod(streams.step * streams.world + streams.rank, per_pass)
            seed = Streams(streams.seed, sweep).generator(purpose, common=True, cpu=True)
            return torch.randperm(d, generator=seed)[slot * k : (slot + 1) * k]
        if self.ranks == "disjoint":
            if k * streams.world > d:
                raise InvalidArgument(
                    f"estimator.ranks=disjoint with {k} dimensions on {streams.world} ranks each",
                    f"at most {d} in all",
                    f"Type estimator.num_dims={d // streams.world}, or estimator.ranks=independent",
                )
            generator = streams.generator(purpose, common=True, cpu=True)
            every = distinct(d, k * streams.world, generator)[0]
            return every[streams.rank * k : (streams.rank + 1) * k]
        return distinct(d, k, streams.generator(purpose, cpu=True))[0]


@typed
class Hutchinson(nn.Module):
    """Hutchinson trace estimation: V random probes with identity covariance.

    Args:
        probes: V.
        law: `rademacher` or `gaussian`; a fourth-order operator needs `gaussian`, or `pair`: two
            independent Rademacher probes, polarised, which has less variance.
        unbiased: Whether independent probes supply the residual's value.
        chunk: Probes held in memory at a time; None for all.

    Example:
        >>> import torch
        >>> from sciml.autodiff import Hutchinson
        >>> from sciml.autodiff.draws import DifferentialOperator
        >>> from sciml.autodiff.streams import Streams
        >>> x, laplacian = torch.zeros(1, 100), DifferentialOperator(100)
        >>> tuple(Hutchinson(probes=4).draw(laplacian, x, Streams(0, 0), "dims").part.vectors.shape)
        (4, 1, 100)
    """

    def __init__(
        self,
        *,
        probes: int = 16,
        law: Literal["rademacher", "gaussian", "pair"] = "rademacher",
        unbiased: bool = False,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if probes < 1:
            raise InvalidArgument(f"estimator.probes={probes}", "a positive integer")
        self.probes, self.law, self.unbiased, self.chunk = probes, law, unbiased, chunk
        self.algorithm = 2 if unbiased else 3

    def draw(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams, purpose: str
    ) -> Draw:
        """Return V probes.

        Raises:
            InvalidArgument: For Rademacher probes and a fourth-order operator: their fourth
                moment is 1 instead of 3, so the estimate misses `2 sum_i d_i^4 u`.
        """
        generator = streams.generator(purpose, cpu=like.device.type == "cpu")
        shape = (self.probes, operator.terms)
        if operator.order == 2:
            return operator.probes(_isotropic(shape, self.law, generator, like), like)
        if self.law == "rademacher":
            raise InvalidArgument(
                "Rademacher probes for a fourth-order operator",
                "probes with Gaussian fourth moments",
                "Type estimator.law=gaussian or estimator.law=pair",
            )
        if self.law == "gaussian":
            v = _isotropic(shape, "gaussian", generator, like)
            return Draw(DenseDirections(v), like.new_full((self.probes,), 1 / (3 * self.probes)))
        v, w = _isotropic((2, *shape), "rademacher", generator, like)
        signs = like.new_tensor([1.0, 1.0, -2.0, -2.0]).repeat_interleave(self.probes)
        return Draw(DenseDirections(torch.cat([v + w, v - w, v, w])), signs / (12 * self.probes))

    def reference(
        self, operator: DifferentialOperator, like: Tensor, streams: Streams
    ) -> Draw | None:
        """Return independent probes for the residual's value if unbiased, else None."""
        return self.draw(operator, like, streams, "reference") if self.unbiased else None


def _isotropic(shape: tuple, law: str, generator: torch.Generator, like: Tensor) -> Tensor:
    """Return random numbers with mean 0 and variance 1."""
    if law == "gaussian":
        v = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    else:
        v = torch.randint(0, 2, shape, generator=generator, device=generator.device)
        v = (2 * v - 1).to(like.dtype)
    return v.to(like.device)


def sdgd_variance(second: Tensor, k: int) -> Tensor:
    """Return the variance of the SDGD estimate from all d second derivatives `(..., d)`.

    `d^2/K (1 - K/d) S^2` with S^2 the sample variance; sampling without replacement.
    """
    d = second.shape[-1]
    return d * d / k * (1 - k / d) * second.var(-1)


def hutchinson_variance(hessian: Tensor, probes: int, law: str) -> Tensor:
    """Return the variance of the Hutchinson estimate from Hessians `(..., d, d)`."""
    total = hessian.square().sum((-2, -1))
    if law == "rademacher":
        total = total - hessian.diagonal(dim1=-2, dim2=-1).square().sum(-1)
    return 2 / probes * total


def probes_needed(second: Tensor, tolerance: float) -> int:
    """Return the K for which the SDGD standard error is `tolerance` times the Laplacian."""
    d, total = second.shape[-1], second.sum(-1)
    k = d * d * second.var(-1) / ((tolerance * total).square() + d * second.var(-1))
    return min(d, max(1, math.ceil(float(k.max()))))
