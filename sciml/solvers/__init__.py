"""Equations solved in batches, with implicit derivatives."""

from sciml.solvers.attach import Implicit, WarmStart
from sciml.solvers.broyden import Broyden
from sciml.solvers.contraction import Contraction
from sciml.solvers.dense import Dense, LaggedFactor
from sciml.solvers.fixed_point import Anderson, FixedPointIteration
from sciml.solvers.flows import HomotopyPath, ResidualFlow
from sciml.solvers.gmres import GMRES
from sciml.solvers.halpern import Halpern
from sciml.solvers.krylov import CG, MINRES, BiCGStab, NormalCG, jacobi
from sciml.solvers.layout import Rows, Segments
from sciml.solvers.lbfgs import LBFGS
from sciml.solvers.levenberg_marquardt import LevenbergMarquardt
from sciml.solvers.linear_least_squares import LinearLeastSquares
from sciml.solvers.newton import Newton, NewtonKrylov
from sciml.solvers.ode import ODE, integrate
from sciml.solvers.operators import Operator
from sciml.solvers.optimization import (
    QPPoint,
    group_soft_threshold,
    mirror_descent,
    project_affine,
    project_box,
    project_l1_ball,
    project_l2_ball,
    project_nonnegative,
    project_second_order_cone,
    project_simplex,
    projected_gradient,
    prox_elastic_net,
    proximal_gradient,
    qp,
    soft_threshold,
)
from sciml.solvers.refinement import Cascade, Refinement
from sciml.solvers.reversible import Reversible, ReversibleIteration
from sciml.solvers.rosenbrock import rosenbrock
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
from sciml.solvers.tridiagonal import Tridiagonal
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
    "Halpern",
    "HomotopyPath",
    "Implicit",
    "JacobianFree",
    "LBFGS",
    "LaggedFactor",
    "LevenbergMarquardt",
    "LinearLeastSquares",
    "MINRES",
    "Neumann",
    "Newton",
    "NewtonKrylov",
    "NormalCG",
    "ODE",
    "Operator",
    "Outcome",
    "Phantom",
    "QPPoint",
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
    "Tridiagonal",
    "WarmStart",
    "fixed_point",
    "group_soft_threshold",
    "implicit_derivative",
    "integrate",
    "jacobi",
    "jacobian_rows",
    "least_squares",
    "linear_solve",
    "minimise",
    "mirror_descent",
    "project_affine",
    "project_box",
    "project_l1_ball",
    "project_l2_ball",
    "project_nonnegative",
    "project_second_order_cone",
    "project_simplex",
    "projected_gradient",
    "prox_elastic_net",
    "proximal_gradient",
    "qp",
    "root",
    "rosenbrock",
    "soft_threshold",
    "spectral_norm",
    "spectral_radius",
]
