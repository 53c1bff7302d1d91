"""Direct solution of small systems, one matrix per problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Operator, Product
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance, relative_to
from sciml.solvers.layout import Layout
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed

MatrixStructure = Literal[
    "general", "symmetric", "positive_definite", "lower", "upper", "diagonal", "min_norm"
]
STRUCTURES = (
    "general",
    "symmetric",
    "positive_definite",
    "lower",
    "upper",
    "diagonal",
    "min_norm",
)


@typed
@dataclass(frozen=True)
class Dense:
    """Direct solver: LU, Cholesky, triangular or diagonal; minimum norm where singular.

    The matrix is assembled from n products (one, if diagonal) and takes n^2 numbers per problem.
    The factor is kept with the operator and serves the matrix, its transpose and all right-hand
    sides. Problems whose matrix is singular to working precision get the solution of minimum norm
    by singular values and are `SINGULAR` if the right-hand side is inconsistent. The residual is
    formed with the operator's own product, so a function that mixes problems shows up as failure.

    Args:
        structure: What is known of A; `min_norm` always takes singular values.
        rtol: Relative residual above which a solution counts as failed; None takes the square
            root of the dtype's precision.

    Raises:
        InvalidArgument: If `structure` is unknown, or the tolerance is always or never met.

    Example:
        >>> import torch
        >>> from sciml.solvers import Dense, linear_solve
        >>> a, b = torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([[5.0, 4.0]])
        >>> found = linear_solve(lambda x: x @ a.T, b, linear=Dense(), on_failure="raise")
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [1.0, 2.0]
    """

    structure: MatrixStructure = "general"
    rtol: float | Tensor | None = None
    approximate = False

    def __post_init__(self) -> None:
        """Check the name and the tolerance."""
        check_tolerances(self.rtol, 0.0)
        if str(self.structure) not in STRUCTURES:
            raise InvalidArgument(
                f"structure={self.structure!r}", f"one of {', '.join(STRUCTURES)}"
            )

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve `A x = b`; `x0` is not used."""
        layout = operator.layout
        factors = operator.base.factors
        if self.structure not in factors:
            factors[self.structure] = self._factor(operator.base)
        factor = factors[self.structure]
        rhs = layout.pack(b)
        packed = self._solve(factor, rhs, operator.transposed)
        # 0 / 0 where a failed problem asks for nothing
        asked = (rhs != 0).any(-1, keepdim=True)
        packed = torch.where(asked, packed, torch.zeros_like(packed))
        x = layout.unpack(packed, b)
        residual = layout.norm(b - operator.matvec(x))
        scale = layout.norm(b)
        relative = relative_to(residual, scale)
        # a backward stable solution leaves |A| |x| eps, which may exceed |b| eps by far
        rtol = default_tolerance(b.dtype) ** 0.5 if self.rtol is None else self.rtol
        status = torch.where(relative <= rtol, int(Status.CONVERGED), int(Status.SINGULAR))
        status = torch.where(relative.isfinite(), status, int(Status.NONFINITE))
        ones = torch.ones_like(status)
        return Outcome(x, status, ones, residual, relative, rhs.shape[-1])

    def kept_inverse(self, operator: Operator) -> DenseInverse | None:
        """Return the inverse by the factor of an operator; None without one, or if singular."""
        factor = operator.base.factors.get(self.structure)
        if factor is None or "poor" in factor:
            return None
        return DenseInverse(self, factor, operator.layout)

    def _factor(self, operator: Operator) -> dict[str, Any]:
        if self.structure == "diagonal":
            ones = torch.ones_like(operator.like)
            return {"diagonal": operator.layout.pack(operator.matvec(ones))}
        a = operator.dense()
        if self.structure in ("lower", "upper"):
            return {"triangle": a}
        if self.structure == "min_norm":
            return {"pinv": _pseudo_inverse(a)}
        singular = ~a.isfinite().all(-1).all(-1)
        safe = torch.where(singular[..., None, None], torch.eye(a.shape[-1]).to(a), a)
        if self.structure == "positive_definite":
            lower, info = torch.linalg.cholesky_ex(safe)
            if not bool((info > 0).any()):
                return {"cholesky": lower, "bad": singular}
        lu, pivots, _ = torch.linalg.lu_factor_ex(safe)
        diagonal = lu.diagonal(dim1=-2, dim2=-1).abs()
        small = safe.shape[-1] * torch.finfo(a.dtype).eps
        factor = {"lu": lu, "pivots": pivots, "bad": singular}
        if a.shape[-1]:
            poor = diagonal.amin(-1) <= small * diagonal.amax(-1)
            if bool(poor.any()):
                factor |= {"poor": poor, "pinv": _pseudo_inverse(safe)}
        return factor

    def _solve(self, factor: dict[str, Any], rhs: Tensor, transposed: bool) -> Tensor:
        if "diagonal" in factor:
            d = factor["diagonal"]
            return torch.where(d == 0, torch.zeros_like(rhs), rhs / d)
        column = rhs[..., None]
        if "triangle" in factor:
            a, upper = factor["triangle"], self.structure == "upper"
            a, upper = (a.mT, not upper) if transposed else (a, upper)
            return torch.linalg.solve_triangular(a, column, upper=upper)[..., 0]
        if "lu" in factor:
            lu, pivots = factor["lu"], factor["pivots"]
            lu = lu.expand(*rhs.shape[:-1], *lu.shape[-2:])
            pivots = pivots.expand(*rhs.shape[:-1], pivots.shape[-1])
            out = torch.linalg.lu_solve(lu, pivots, column, adjoint=transposed)[..., 0]
        elif "cholesky" in factor:
            lower = factor["cholesky"]
            lower = lower.expand(*rhs.shape[:-1], *lower.shape[-2:])
            out = torch.cholesky_solve(column, lower)[..., 0]
        if "pinv" in factor:
            inverse = factor["pinv"].mT if transposed else factor["pinv"]
            least = (inverse @ column)[..., 0]
            out = torch.where(factor["poor"][..., None], least, out) if "poor" in factor else least
        if "bad" in factor:
            out = out.masked_fill(factor["bad"][..., None], torch.nan)
        return out


@dataclass(frozen=True)
class DenseInverse:
    """Product with the inverse of a factored matrix, or with its transpose.

    Attributes:
        dense: Solver that made the factor.
        factor: What it made.
        layout: Splits unknowns into problems.
    """

    dense: Dense
    factor: dict[str, Any]
    layout: Layout

    def __call__(self, v: Tensor, transposed: bool) -> Tensor:
        """Return `A^{-1} v` or `A^{-T} v`, shape of v."""
        packed = self.dense._solve(self.factor, self.layout.pack(v), transposed)
        return self.layout.unpack(packed, v)


@typed
class LaggedFactor:
    """Preconditioner for Krylov solvers: the dense factor of an operator met earlier.

    For slowly changing matrices (time steps, training steps, Newton steps) one factor serves many
    solves. Transposed solves use the transposed factor.

    Args:
        refresh: Uses after which a new factor is made.

    Example:
        >>> import torch
        >>> from sciml.solvers import GMRES, LaggedFactor, linear_solve
        >>> a, b = torch.tensor([4.0, 5.0, 6.0]), torch.ones(1, 3)
        >>> solver = GMRES(preconditioner=LaggedFactor(refresh=10))
        >>> for growth in (1.0, 1.001):  # the second matrix is solved with the factor of the first
        ...     found = linear_solve(lambda x: growth * a * x, b, linear=solver, on_failure="raise")
        >>> found.iterations.tolist()
        [1]
    """

    def __init__(self, refresh: int = 50) -> None:
        self.refresh, self.uses = refresh, 0
        self.dense, self.factor = Dense(), None
        self.shape: torch.Size | None = None

    def __call__(self, operator: Operator) -> Product:
        """Return the product with the inverse of the factored matrix."""
        shape = operator.base.like.shape
        if self.factor is None or self.uses >= self.refresh or shape != self.shape:
            self.factor, self.shape = self.dense._factor(operator.base), shape
            self.uses = 0
        self.uses += 1
        inverse = DenseInverse(self.dense, self.factor, operator.layout)
        return lambda v: inverse(v, operator.transposed)


def _pseudo_inverse(a: Tensor) -> Tensor:
    # LAPACK refuses what is not finite
    bad = ~a.isfinite().all(-1).all(-1)[..., None, None]
    # 10 n eps: above the noise of products formed by automatic differentiation
    rtol = 10 * max(a.shape[-1], 1) * torch.finfo(a.dtype).eps
    return torch.linalg.pinv(a.masked_fill(bad, 0.0), rtol=rtol).masked_fill(bad, torch.nan)
