"""Symmetric positive definite systems on grids: matrices, conjugate directions, preconditioners."""

from sciml.solvers.linear.algebraic import AlgebraicMultigrid
from sciml.solvers.linear.built_stencil import build_stencil
from sciml.solvers.linear.conjugate_directions import (
    ConjugateDirections,
    FlexibleCG,
    fixed,
    guarded,
)
from sciml.solvers.linear.grid_graph import around, high, low
from sciml.solvers.linear.incomplete import IncompleteCholesky
from sciml.solvers.linear.lanczos import ritz_pairs
from sciml.solvers.linear.multigrid import Multigrid
from sciml.solvers.linear.stencil import Stencil
from sciml.solvers.linear.stencil_preconditioner import Jacobi, StencilPreconditioner

__all__ = [
    "AlgebraicMultigrid",
    "ConjugateDirections",
    "FlexibleCG",
    "IncompleteCholesky",
    "Jacobi",
    "Multigrid",
    "Stencil",
    "StencilPreconditioner",
    "around",
    "build_stencil",
    "fixed",
    "guarded",
    "high",
    "low",
    "ritz_pairs",
]
