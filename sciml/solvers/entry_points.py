"""Entry points: find a solution without a graph, report on it, attach its derivative.

    solution = fixed_point(lambda z, x: torch.tanh(z @ w.T + x), z0, (x,), on_failure="raise")
    solution.value.sum().backward()          # one linear solve, whatever the iteration count

`theta` holds what the solution depends on and is passed to the function: tensors, or dicts, lists
and tuples of them. Parameters of a module the function closes over get their gradient too, in
ordinary autograd and under `torch.func.grad` and `jvp`; under `torch.func.vmap` everything batched
must stand in `theta`.

The function must be one: freeze dropout masks and batch statistics before the solve, and call the
module, not its DistributedDataParallel wrapper. Autocast is off inside; half-precision inputs are
lifted to float32. `torch.compile` leaves solves to the interpreter: compile the function instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import made, maybe
from sciml.errors import InvalidArgument
from sciml.shapes import check_call, check_returned, name_of
from sciml.solvers.algebra.dense import Dense
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.layout import Layout
from sciml.solvers.nonlinear.fixed_point import Anderson
from sciml.solvers.nonlinear.lbfgs import LBFGS
from sciml.solvers.nonlinear.levenberg_marquardt import LevenbergMarquardt
from sciml.solvers.nonlinear.newton import Newton
from sciml.solvers.pipeline import solve_problem
from sciml.solvers.problem import Task
from sciml.solvers.solution import CURES, Outcome, Policy, Solution, Status
from sciml.solvers.solve_arguments import PARTS, Adjoint, Solver
from sciml.typed_arguments import typed


def _solver(value: Any) -> str:
    """Accept what solves equations; linear solvers, which take an operator, do not."""
    if wanted := made("__call__", what="a solver, as Newton()")(value):
        return wanted
    first = next(iter(inspect.signature(value).parameters), "")
    linear = "a solver of equations, as Newton() (linear ones go into linear_solve, or into it)"
    return linear if first == "operator" else ""


SOLVER = maybe(_solver)


@typed(solver=SOLVER, **PARTS)
def root(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
    symmetric: bool = False,
    positive_definite: bool = False,
) -> Solution:
    """Solve `function(x, *theta) = 0` for every problem of a batch.

    Args:
        function: F; returns the shape of x and does not mix problems.
        x0: First iterate `(B, ...)`, a scalar tensor (one problem), or a tree of `(B, ...)`
            tensors; it gets no gradient.
        theta: Further arguments, see the module's text.
        on_failure: `raise` an error, `warn`, `mask` (best iterate, no gradient; multiply losses
            by `solution.converged`), or `best` (best iterate with its gradient). Where no iterate
            has a finite residual the value is NaN (`mask`: the start). A NaN in theta itself
            still reaches shared parameters (0 times NaN): leave such samples out before.
        solver: Forward solver, by default `Newton()`; any callable `(task, x0)` that returns an
            `Outcome` or just a tensor, whose residual is then tested.
        adjoint: Derivative rule, by default `Implicit()`; for fixed points also `Phantom()`
            (approximate), `Backprop()` and `Reversible()` (exact for the finite iteration).
        layout: How x splits into problems, by default `Rows(1)`; `Rows(0)` is one problem,
            `Segments` a batch of graphs.
        symmetric: Declares dF/dx symmetric.
        positive_definite: Declares it positive definite too.

    Returns:
        Value with derivative, and per problem status, iterations and residual.

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.
        InvalidArgument: If shapes do not fit or the layout is ambiguous.

    Example:
        >>> import torch
        >>> from sciml.solvers import root
        >>> a = torch.tensor([[2.0], [9.0]], requires_grad=True)
        >>> found = root(lambda x, a: x**2 - a, torch.ones(2, 1), (a,), on_failure="raise")
        >>> found.value.sum().backward()  # the implicit derivative, 1 / (2 sqrt(a))
        >>> [round(v, 4) for v in a.grad[:, 0].tolist()]
        [0.3536, 0.1667]
    """
    tags = {"symmetric": symmetric, "positive_definite": positive_definite}
    return solve_problem(
        "root", function, x0, theta, on_failure, solver or Newton(), adjoint, layout, tags
    )


@typed(solver=SOLVER, **PARTS)
def fixed_point(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
    symmetric: bool = False,
) -> Solution:
    """Solve `x = function(x, *theta)`; arguments, returns and errors as in `root`.

    The solver is `Anderson()` by default; residuals are `x - function(x)`.

    Example:
        >>> import torch
        >>> from sciml.solvers import fixed_point
        >>> x0 = torch.zeros(1, 1, dtype=torch.float64)
        >>> found = fixed_point(torch.cos, x0, on_failure="raise")
        >>> round(found.value.item(), 5)
        0.73909
    """
    tags = {"symmetric": symmetric, "positive_definite": False}
    solver = solver or Anderson()
    return solve_problem(
        "fixed_point", function, x0, theta, on_failure, solver, adjoint, layout, tags
    )


@typed(solver=SOLVER, **PARTS)
def least_squares(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
    jacobian: Callable[..., Tensor] | None = None,
    hessian: Callable[..., Tensor] | None = None,
    gradient: Callable[..., Tensor] | None = None,
) -> Solution:
    """Minimise `|function(x, *theta)|^2 / 2` per problem; arguments and errors as in `root`.

    `function` returns residuals `(B, m)` (or any shape led by the problems). The solver is
    `LevenbergMarquardt()` by default; the derivative uses the exact Hessian unless
    `Implicit(hessian="gauss_newton")` asks for the approximation.

    `jacobian(x, *theta)`, `hessian(x, *theta)` and `gradient(x, *theta)` return dr/dx `(B, m, n)`,
    the second derivative of the objective `(B, n, n)` and its first, `J^T r` with derivatives, by
    formulas, which are trusted; see `sciml.solvers.nonlinear.pointwise_least_squares`.

    Example:
        >>> import torch
        >>> from sciml.solvers import least_squares
        >>> s = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
        >>> x0 = torch.zeros(1, 2, dtype=torch.float64)
        >>> line = lambda x: x[:, :1] + x[:, 1:] * s - (1 + 2 * s)  # residuals of a line
        >>> found = least_squares(line, x0, on_failure="raise")
        >>> [round(v, 5) for v in found.value[0].tolist()]
        [1.0, 2.0]
    """
    tags = {"symmetric": True, "positive_definite": False}
    solver = solver or LevenbergMarquardt()
    formulas = {"jacobian": jacobian, "hessian": hessian, "gradient": gradient}
    return solve_problem(
        "least_squares", function, x0, theta, on_failure, solver, adjoint, layout, tags, formulas
    )


@typed(solver=SOLVER, **PARTS)
def minimise(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
    positive_definite: bool = False,
) -> Solution:
    """Minimise `function(x, *theta)`, one number per problem; arguments, errors as in `root`.

    `function` returns `(B,)`. Converged is a stationary point, where the gradient vanishes: a
    saddle or a maximum counts too, and a start on one stays there; test the Hessian, or start
    beside it. The solver is `LBFGS()` by default. `positive_definite` declares the
    Hessian at the minimum so, for a Cholesky factor or CG in the derivative.

    Example:
        >>> import torch
        >>> from sciml.solvers import minimise
        >>> x0 = torch.zeros(1, 2, dtype=torch.float64)
        >>> goal = torch.tensor([1.0, 3.0], dtype=torch.float64)
        >>> found = minimise(lambda x: (x - goal).square().sum(-1), x0, on_failure="raise")
        >>> [round(v, 5) for v in found.value[0].tolist()]
        [1.0, 3.0]
    """
    tags = {"symmetric": True, "positive_definite": positive_definite}
    solver = solver or LBFGS()
    return solve_problem("minimise", function, x0, theta, on_failure, solver, adjoint, layout, tags)


@typed(linear=made("__call__", what="a linear solver, as Dense()"), **PARTS)
def linear_solve(
    product: Callable[..., Tensor],
    b: Tensor,
    theta: Sequence[Any] = (),
    *,
    linear: Any,
    on_failure: Policy,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
    x0: Tensor | None = None,
    symmetric: bool = False,
    positive_definite: bool = False,
    project: Callable[[Tensor], Tensor] | None = None,
    part: Callable[[slice], Operator] | None = None,
) -> Solution:
    """Solve `product(x, *theta) = b`, linear in x, with derivatives in theta and b.

    Args:
        product: `A(theta) x`, shape of x; it is transposed by automatic differentiation.
        b: Right-hand side, shape of x.
        theta: What A depends on, see the module's text.
        linear: Linear solver of the forward pass (`Dense()`, `GMRES()`, ...).
        on_failure: As in `root`.
        adjoint: Derivative rule, by default `Implicit(linear)`.
        layout: As in `root`.
        x0: Start of an iterative solver.
        symmetric: Declares A symmetric.
        positive_definite: Declares A positive definite too.
        project: Of a singular symmetric A, the orthogonal projection onto its range: Krylov solvers
            then solve A x = project(b) for the x in the range, and so does the derivative.
        part: Returns the operator of a slice of the leading axis, see `Operator`; with it Krylov
            solvers solve large batches part by part.

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.

    Example:
        >>> import torch
        >>> from sciml.solvers import CG, linear_solve
        >>> a, b = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
        >>> found = linear_solve(
        ...     lambda x: x @ a, b, linear=CG(), on_failure="raise", symmetric=True
        ... )
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [0.6667, 0.3333]
    """
    name = f"'{name_of(product)}', the product of a linear solve,"
    check_call(name, product, "(x, *theta)", b, *theta)

    def residual(x: Tensor, b: Tensor, *theta: Any) -> Tensor:
        return linear_part(x, b, *theta) - b

    def linear_part(x: Tensor, b: Tensor, *theta: Any) -> Tensor:
        if x.shape != b.shape:
            raise InvalidArgument(
                f"x0 of shape {tuple(x.shape)} for b of shape {tuple(b.shape)}", "one shape"
            )
        return check_returned(name, product(x, *theta), tuple(x.shape), what="that of x and b")

    def solver(task: Task, x: Tensor) -> Outcome:
        rhs = -task.residual(torch.zeros_like(x))
        operator = task.linearise(x)
        out = linear(operator, rhs, None if x0 is None else x)
        out.evaluations += task.evaluations
        if isinstance(linear, Dense):
            out.inverse = linear.kept_inverse(operator)
        return out

    def cures(out: Outcome) -> str:
        last = getattr(linear, "solvers", (linear,))[-1]
        definite = getattr(last, "needs_definite", False)
        if definite and bool((out.status == Status.SINGULAR).any()):
            return (
                "Conjugate gradients need a positive definite matrix, and found a direction d with "
                "d.Ad <= 0: look at its signs (Stencil.check()), or type linear=MINRES() or Dense()"
            )
        return CURES

    solver.__name__, solver.cures = type(linear).__name__, cures
    return solve_problem(
        "root",
        residual,
        torch.zeros_like(b) if x0 is None else x0,
        (b, *theta),
        on_failure,
        solver,
        adjoint or Implicit(linear),
        layout,
        {
            "symmetric": symmetric,
            "positive_definite": positive_definite,
            "project": project,
            "part": part,
        },
        {"product": linear_part},
    )
