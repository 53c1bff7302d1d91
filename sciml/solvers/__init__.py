"""Equations solved in batches, with implicit derivatives."""

from sciml.solvers.algebra.contraction import Contraction
from sciml.solvers.algebra.dense import Dense, LaggedFactor
from sciml.solvers.algebra.diagonal_scaling import jacobi
from sciml.solvers.algebra.gmres import GMRES
from sciml.solvers.algebra.krylov import CG, MINRES, BiCGStab, NormalCG
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.algebra.refinement import Cascade, Refinement
from sciml.solvers.algebra.series import JacobianFree, Neumann
from sciml.solvers.algebra.shine import ForwardInverse, SharedInverse
from sciml.solvers.algebra.tridiagonal import Tridiagonal
from sciml.solvers.derivatives.implicit import Implicit, WarmStart
from sciml.solvers.derivatives.reversible import Reversible, ReversibleIteration
from sciml.solvers.derivatives.trace import Trace
from sciml.solvers.derivatives.unrolled import Backprop, Phantom
from sciml.solvers.entry_points import (
    fixed_point,
    least_squares,
    linear_solve,
    minimise,
    root,
)
from sciml.solvers.given_solution import implicit_derivative
from sciml.solvers.layout import Rows, Segments
from sciml.solvers.nonlinear.broyden import Broyden
from sciml.solvers.nonlinear.equilibrium_flows import HomotopyPath, ResidualFlow
from sciml.solvers.nonlinear.fixed_point import Anderson, FixedPointIteration
from sciml.solvers.nonlinear.halpern import Halpern
from sciml.solvers.nonlinear.lbfgs import LBFGS
from sciml.solvers.nonlinear.levenberg_marquardt import LevenbergMarquardt
from sciml.solvers.nonlinear.linear_least_squares import LinearLeastSquares
from sciml.solvers.nonlinear.newton import Newton, NewtonKrylov
from sciml.solvers.ode.initial_value import integrate
from sciml.solvers.ode.ode_method import ODE
from sciml.solvers.ode.rosenbrock import rosenbrock
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
from sciml.solvers.solution import Outcome, Solution, Status
from sciml.solvers.spectrum import jacobian_rows, spectral_norm, spectral_radius

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
