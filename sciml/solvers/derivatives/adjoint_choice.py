"""The default linear solver of a derivative, and the advice where it fails."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sciml.solvers.algebra.dense import Dense
from sciml.solvers.algebra.gmres import GMRES
from sciml.solvers.algebra.krylov import CG, MINRES
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.algebra.refinement import Cascade, Refinement
from sciml.solvers.algebra.shine import ForwardInverse
from sciml.solvers.solution import Status

SMALL = 32  # unknowns up to which a matrix is always assembled first
PRODUCTS = 512  # unknowns up to which assembling takes no more products than a Krylov solver may
DENSE_BYTES = (
    2**28
)  # of all matrices of a batch together: 5,792 unknowns in float64, 24 times 1,182


def matrix_bytes(operator: Operator) -> int:
    """Return the memory that the matrices of all problems take."""
    n, problems = operator.unknowns, operator.layout.problems(operator.like).numel()
    return problems * n * n * operator.like.element_size()


def default_linear(operator: Operator, *, near_identity: bool) -> Any:
    """Return the linear solver for an operator.

    An inverse that the forward solver left is refined first; above `PRODUCTS` unknowns it is then
    taken as preconditioner. Next comes, as long as the matrices
    take less than `DENSE_BYTES`, the direct solver; a Krylov solver goes before it where that tends
    to be faster: above `PRODUCTS` unknowns, for matrices declared positive definite, and for fixed
    points, whose matrix is near the identity.

    Args:
        operator: The base operator, not a transpose.
        near_identity: Whether it is that of a fixed point.
    """
    kept = operator.factors.get("forward") is not None
    direct = Dense("positive_definite") if operator.positive_definite else Dense()
    n = operator.unknowns
    fits = n <= SMALL or matrix_bytes(operator) <= DENSE_BYTES
    if fits and direct.structure in operator.factors:
        return direct
    if kept:
        # an inverse too far off to refine with may still be a good preconditioner
        behind = [GMRES(preconditioner=ForwardInverse())] if n > PRODUCTS or not fits else []
        return Cascade((Refinement(), *behind, *([direct] if fits else [])))
    easy = near_identity or operator.positive_definite
    if n <= SMALL or (fits and n <= PRODUCTS and not easy):
        return direct
    if operator.positive_definite:
        krylov = CG()
    else:
        krylov = MINRES() if operator.symmetric else GMRES()
    return Cascade((krylov, direct)) if fits else krylov


def name_of(linear: Any) -> str:
    """Return what messages call a linear solver."""
    return getattr(linear, "name", type(linear).__name__)


def cures(operator: Operator, linear: Any, status: Tensor) -> str:
    """Return what to type after a linear solve of the derivative failed.

    Args:
        operator: What was solved.
        linear: By what.
        status: `(*P)`, how its problems ended.
    """
    tried = linear.solvers if isinstance(linear, Cascade) else (linear,)
    direct = any(isinstance(solver, Dense) for solver in tried)
    parts = []
    if bool((status == Status.NONFINITE).any()):
        parts.append(
            "NaN or infinity came from the loss or from the function's derivative at the solution: "
            "look there first"
        )
    if not direct:
        size = matrix_bytes(operator.base) / 2**20
        parts.append(
            f"Type adjoint=Implicit(Dense()), {operator.base.unknowns} unknowns per problem and "
            f"{size:.3g} MiB of matrices, or give the Krylov solver a preconditioner: "
            "Implicit(GMRES(preconditioner=LaggedFactor())), or your own function of the operator"
        )
    elif bool((status == Status.SINGULAR).any()):
        parts.append(
            "The Jacobian is singular at the solution, which is then not a function of the "
            "parameters: fix the free direction by an equation or a small regularisation"
        )
    parts.append("on_failure='mask' drops the gradient of these problems")
    return ". ".join(parts)
