"""Symmetric positive definite systems on grids: matrices, conjugate directions, preconditioners."""

from sciml.solvers.linear.directions import ConjugateDirections, FlexibleCG, fixed, guarded
from sciml.solvers.linear.stencil import Stencil, around, build_stencil, high, low

__all__ = [
    "ConjugateDirections",
    "FlexibleCG",
    "Stencil",
    "around",
    "build_stencil",
    "fixed",
    "guarded",
    "high",
    "low",
]
