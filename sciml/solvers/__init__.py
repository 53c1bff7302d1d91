"""Equations solved in batches, with implicit derivatives."""

from sciml.solvers.attach import Implicit, WarmStart
from sciml.solvers.broyden import Broyden
from sciml.solvers.contraction import Contraction
from sciml.solvers.dense import Dense, LaggedFactor
from sciml.solvers.fixed_point import Anderson, FixedPointIteration
from sciml.solvers.flows import HomotopyPath, ResidualFlow
from sciml.solvers.gmres import GMRES
from sciml.solvers.krylov import CG, MINRES, BiCGStab, NormalCG, jacobi
from sciml.solvers.layout import Rows, Segments
from sciml.solvers.lbfgs import LBFGS
from sciml.solvers.levenberg_marquardt import LevenbergMarquardt
from sciml.solvers.newton import Newton, NewtonKrylov
from sciml.solvers.ode import ODE, integrate
from sciml.solvers.operators import Operator
from sciml.solvers.refinement import Cascade, Refinement
from sciml.solvers.reversible import Reversible, ReversibleIteration
from sciml.solvers.series import JacobianFree, Neumann
from sciml.solvers.shine import ForwardInverse, SharedInverse
from sciml.solvers.solution import Outcome, Solution, Status
from sciml.solvers.solve import (
    fixed_point,
    implicit_derivative,
    least_squares,
    linear_solve,
    minimise,
    root,
)
from sciml.solvers.spectrum import jacobian_rows, spectral_norm, spectral_radius
from sciml.solvers.trace import Trace
from sciml.solvers.unrolled import Backprop, Phantom

__all__ = [
    "Anderson",
    "Backprop",
    "BiCGStab",
    "Broyden",
    "CG",
    "Cascade",
    "Contraction",
    "Dense",
    "FixedPointIteration",
    "ForwardInverse",
    "GMRES",
    "HomotopyPath",
    "Implicit",
    "JacobianFree",
    "LBFGS",
    "LaggedFactor",
    "LevenbergMarquardt",
    "MINRES",
    "Neumann",
    "Newton",
    "NewtonKrylov",
    "NormalCG",
    "ODE",
    "Operator",
    "Outcome",
    "Phantom",
    "Refinement",
    "ResidualFlow",
    "Reversible",
    "ReversibleIteration",
    "Rows",
    "Segments",
    "SharedInverse",
    "Solution",
    "Status",
    "Trace",
    "WarmStart",
    "fixed_point",
    "implicit_derivative",
    "integrate",
    "jacobi",
    "jacobian_rows",
    "least_squares",
    "linear_solve",
    "minimise",
    "root",
    "spectral_norm",
    "spectral_radius",
]
