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

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.attach import Implicit, attach
from sciml.solvers.fixed_point import Anderson
from sciml.solvers.layout import Layout, Rows
from sciml.solvers.lbfgs import LBFGS
from sciml.solvers.levenberg_marquardt import LevenbergMarquardt
from sciml.solvers.newton import Newton
from sciml.solvers.problem import Kind, Problem, Task
from sciml.solvers.progress import default_tolerance
from sciml.solvers.solution import (
    LinearReport,
    Outcome,
    Policy,
    Solution,
    Status,
    check_policy,
    settle,
)

Solver = Callable[[Task, Tensor], Outcome | Tensor]


def root(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Implicit | None = None,
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
            by `solution.converged`), or `best` (best iterate with its gradient).
        solver: Forward solver, by default `Newton()`; any callable `(task, x0)` that returns an
            `Outcome` or just a tensor, whose residual is then tested.
        adjoint: Derivative rule, by default `Implicit()`.
        layout: How x splits into problems, by default `Rows(1)`; `Rows(0)` is one problem,
            `Segments` a batch of graphs.
        symmetric: Declares dF/dx symmetric.
        positive_definite: Declares it positive definite too.

    Returns:
        Value with derivative, and per problem status, iterations and residual.

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.
        InvalidArgument: If shapes do not fit or the layout is ambiguous.
    """
    tags = {"symmetric": symmetric, "positive_definite": positive_definite}
    return _solve(
        "root", function, x0, theta, on_failure, solver or Newton(), adjoint, layout, tags
    )


def fixed_point(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Implicit | None = None,
    layout: Layout | None = None,
    symmetric: bool = False,
) -> Solution:
    """Solve `x = function(x, *theta)`; arguments, returns and errors as in `root`.

    The solver is `Anderson()` by default; residuals are `x - function(x)`.
    """
    tags = {"symmetric": symmetric, "positive_definite": False}
    solver = solver or Anderson()
    return _solve("fixed_point", function, x0, theta, on_failure, solver, adjoint, layout, tags)


def least_squares(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Implicit | None = None,
    layout: Layout | None = None,
) -> Solution:
    """Minimise `|function(x, *theta)|^2 / 2` per problem; arguments and errors as in `root`.

    `function` returns residuals `(B, m)` (or any shape led by the problems). The solver is
    `LevenbergMarquardt()` by default; the derivative uses the exact Hessian unless
    `Implicit(hessian="gauss_newton")` asks for the approximation.
    """
    tags = {"symmetric": True, "positive_definite": False}
    solver = solver or LevenbergMarquardt()
    return _solve("least_squares", function, x0, theta, on_failure, solver, adjoint, layout, tags)


def minimise(
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    solver: Solver | None = None,
    adjoint: Implicit | None = None,
    layout: Layout | None = None,
    positive_definite: bool = False,
) -> Solution:
    """Minimise `function(x, *theta)`, one number per problem; arguments, errors as in `root`.

    `function` returns `(B,)`. The solver is `LBFGS()` by default. `positive_definite` declares the
    Hessian at the minimum so, for a Cholesky factor or CG in the derivative.
    """
    tags = {"symmetric": True, "positive_definite": positive_definite}
    solver = solver or LBFGS()
    return _solve("minimise", function, x0, theta, on_failure, solver, adjoint, layout, tags)


def linear_solve(
    product: Callable[..., Tensor],
    b: Tensor,
    theta: Sequence[Any] = (),
    *,
    linear: Any,
    on_failure: Policy,
    adjoint: Implicit | None = None,
    layout: Layout | None = None,
    x0: Tensor | None = None,
    symmetric: bool = False,
    positive_definite: bool = False,
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

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.
    """

    def residual(x: Tensor, b: Tensor, *theta: Any) -> Tensor:
        return product(x, *theta) - b

    def linear_part(x: Tensor, b: Tensor, *theta: Any) -> Tensor:
        return product(x, *theta)

    def solver(task: Task, x: Tensor) -> Outcome:
        rhs = -task.residual(torch.zeros_like(x))
        out = linear(task.linearise(x), rhs, None if x0 is None else x)
        out.evaluations += task.evaluations
        return out

    solver.__name__ = type(linear).__name__
    if not isinstance(theta, (tuple, list)):
        raise _theta_type(theta)
    return _solve(
        "root",
        residual,
        torch.zeros_like(b) if x0 is None else x0,
        (b, *theta),
        on_failure,
        solver,
        adjoint or Implicit(linear),
        layout,
        {"symmetric": symmetric, "positive_definite": positive_definite},
        linear_part,
    )


def implicit_derivative(
    function: Callable[..., Tensor],
    x: Tensor,
    theta: Sequence[Any] = (),
    *,
    kind: Kind = "root",
    adjoint: Implicit | None = None,
    layout: Layout | None = None,
) -> Tensor:
    """Return `x`, a solution found elsewhere, with its derivative in theta.

    Nothing is tested: the derivative is as wrong as `x` is. Arguments as in `root`.
    """
    layout = _layout_for(x, layout)
    bound, leaves = _flat_theta(function, theta)
    tags = {"symmetric": kind in ("least_squares", "minimise"), "positive_definite": False}
    problem = Problem(kind, bound, layout, **tags)
    return _attached(problem, x, leaves, adjoint or Implicit(), None, LinearReport())


class _Search(torch.autograd.Function):
    """The forward solve as one opaque step, so that `torch.func` transforms can wrap it."""

    @staticmethod
    def forward(run: _Run, x: Tensor, *theta: Tensor) -> tuple[Tensor, ...]:
        return run.outcome(x, theta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *_grads: Any) -> tuple:  # pragma: no cover (nothing is differentiable)
        raise AssertionError("the forward solve has no derivative")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, run: _Run, x: Tensor, *theta: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        _, x_dim, *dims = in_dims
        x = x.expand(info.batch_size, *x.shape) if x_dim is None else x.movedim(x_dim, 0)
        problem = run.problem.stacked(tuple(dims), info.randomness)
        wider = _Run(problem, run.solver, run.on_failure)
        return _Search.apply(wider, x, *theta), (0,) * 5


class _Run:
    """A forward solve with its policy."""

    def __init__(self, problem: Problem, solver: Solver, on_failure: Policy) -> None:
        self.problem, self.solver, self.on_failure = problem, solver, on_failure
        self.evaluations = 0

    def outcome(self, x: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return value, status, iterations, residual and relative residual."""
        name = getattr(self.solver, "__name__", type(self.solver).__name__)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            task = Task(self.problem, theta)
            out = self.solver(task, x)
            if isinstance(out, Tensor):
                out = _judged(task, x, out, self.solver)
        self.evaluations = out.evaluations
        settle(
            out,
            self.on_failure,
            f"the {self.problem.kind} solve by {name}",
            f"relative residuals within the solver's rtol (default {default_tolerance(x.dtype):g})",
        )
        # fresh tensors: a Function must not return its input
        return out.value.clone(), out.status, out.iterations, out.residual, out.relative


def _judged(task: Task, x0: Tensor, x: Tensor, solver: Solver) -> Outcome:
    """Judge the tensor a foreign solver returned by its residual."""
    layout = task.layout
    scale = task.scale(x0, task.residual(x0))
    r = task.residual(x)
    residual = layout.norm(r)
    if task.kind == "fixed_point":
        scale = task.scale(x, r)
    relative = residual / scale.clamp_min(torch.finfo(x.dtype).tiny)
    rtol = getattr(solver, "rtol", None) or default_tolerance(x.dtype)
    status = torch.where(relative <= rtol, int(Status.CONVERGED), int(Status.STALLED))
    status = torch.where(residual.isfinite(), status, int(Status.NONFINITE))
    return Outcome(x, status, torch.zeros_like(status), residual, relative, task.evaluations)


@torch.compiler.disable
def _solve(
    kind: Kind,
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any],
    on_failure: Policy,
    solver: Solver,
    adjoint: Implicit | None,
    layout: Layout | None,
    tags: dict[str, bool],
    product: Callable[..., Any] | None = None,
) -> Solution:
    check_policy(on_failure)
    if not isinstance(theta, (tuple, list)):
        raise _theta_type(theta)
    if not isinstance(x0, Tensor):
        return _solve_tree(kind, function, x0, theta, on_failure, solver, adjoint, layout, tags)
    layout = _layout_for(x0, layout)
    bound, leaves = _flat_theta(function, theta)
    x0, leaves = _lifted(x0), tuple(_lifted(t) for t in leaves)
    problem = Problem(kind, bound, layout, **tags)
    if kind in ("root", "fixed_point"):
        if product is not None:
            product = _flat_theta(product, theta)[0]
        problem = Problem(kind, _same_shape(bound), layout, product=product, **tags)
    rule = adjoint or Implicit()
    if rule.hessian == "gauss_newton" and kind != "least_squares":
        raise InvalidArgument(
            f"hessian='gauss_newton' on a {kind} problem", "least_squares", "Type hessian='exact'"
        )
    if rule.on_failure is None:
        rule = replace(rule, on_failure=on_failure)
    run = _Run(problem, solver, on_failure)
    try:
        found = _Search.apply(run, x0.detach(), *(t.detach() for t in leaves))
    except RuntimeError as error:
        if "escaped from inside a function being vmapped" not in str(error):
            raise
        raise InvalidArgument(
            "a function that captures a tensor batched by torch.func.vmap",
            "batched tensors among its arguments",
            "Pass it through theta=(...)",
        ) from error
    value, status, iterations, residual, relative = found
    report = LinearReport()
    mask = status == Status.CONVERGED if on_failure == "mask" else None
    value = _attached(problem, value, leaves, rule, mask, report)
    stats = {"relative": relative, "evaluations": run.evaluations}
    return Solution(value, status, iterations, residual, stats, report)


def _attached(
    problem: Problem,
    x: Tensor,
    theta: tuple[Tensor, ...],
    rule: Implicit,
    mask: Tensor | None,
    report: LinearReport,
) -> Tensor:
    if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        return x
    return attach(problem, x, theta, rule, mask=mask, report=report)


def _layout_for(x: Tensor, layout: Layout | None) -> Layout:
    if not x.is_floating_point():
        raise InvalidType(f"an unknown of dtype {x.dtype}", "a real floating-point dtype")
    if layout is None:
        if x.dim() == 1:
            raise InvalidArgument(
                f"an unknown of shape {tuple(x.shape)} without a layout",
                "(B, n)",
                "Type layout=Rows(0) for one problem with n unknowns, or layout=Rows(1) for n "
                "problems with one unknown",
            )
        layout = Rows(min(x.dim(), 1))
    layout.check(x)
    return layout


def _flat_theta(
    function: Callable[..., Any], theta: Sequence[Any]
) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """Return the function of x and the tensors in theta, and these tensors."""
    leaves, tree = pytree.tree_flatten(tuple(theta))
    tensor = [isinstance(leaf, Tensor) for leaf in leaves]
    if all(tensor) and len(leaves) == len(theta):
        return function, tuple(leaves)
    rest = [None if is_tensor else leaf for leaf, is_tensor in zip(leaves, tensor, strict=True)]

    def bound(x: Any, *given: Tensor) -> Any:
        given_iter = iter(given)
        full = [
            next(given_iter) if is_tensor else leaf
            for leaf, is_tensor in zip(rest, tensor, strict=True)
        ]
        return function(x, *pytree.tree_unflatten(full, tree))

    return bound, tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))


def _lifted(t: Tensor) -> Tensor:
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t


def _theta_type(theta: Any) -> InvalidType:
    return InvalidType(
        f"theta of type {type(theta).__name__}", "a tuple of arguments", "Type theta=(a,)"
    )


def _same_shape(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def checked(x: Tensor, *theta: Tensor) -> Tensor:
        y = function(x, *theta)
        if y.shape != x.shape:
            raise InvalidArgument(
                f"a function that maps shape {tuple(x.shape)} to {tuple(y.shape)}",
                "as many equations as unknowns",
                "Type least_squares for more residuals than unknowns",
            )
        return y

    return checked


def _solve_tree(
    kind: Kind,
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any],
    on_failure: Policy,
    solver: Solver,
    adjoint: Implicit | None,
    layout: Layout | None,
    tags: dict[str, bool],
) -> Solution:
    """Solve for a tree of tensors `(*P, ...)` as one vector `(*P, n)`."""
    leaves, tree = pytree.tree_flatten(x0)
    if isinstance(x0, (int, float)) or not leaves or not all(isinstance(t, Tensor) for t in leaves):
        raise InvalidType(
            f"an unknown of type {type(x0).__name__}", "a tensor or a tree of tensors"
        )
    layout = Rows(1) if layout is None else layout
    if not isinstance(layout, Rows):
        raise InvalidArgument(f"a tree of unknowns with {layout!r}", "Rows")
    for leaf in leaves:
        layout.check(leaf)
    shapes = [leaf.shape[layout.ndim :] for leaf in leaves]
    sizes = [math.prod(shape) for shape in shapes]

    def join(tree_of_x: Any) -> Tensor:
        parts = pytree.tree_leaves(tree_of_x)
        return torch.cat(
            [p.reshape(*p.shape[: layout.ndim], n) for p, n in zip(parts, sizes, strict=True)], -1
        )

    def split(x: Tensor) -> Any:
        parts = x.split(sizes, -1)
        return pytree.tree_unflatten(
            [p.reshape(*p.shape[:-1], *s) for p, s in zip(parts, shapes, strict=True)], tree
        )

    def flat(x: Tensor, *theta: Any) -> Tensor:
        y = function(split(x), *theta)
        return join(y) if kind in ("root", "fixed_point") else y

    solution = _solve(kind, flat, join(x0), theta, on_failure, solver, adjoint, layout, tags)
    solution.value = split(solution.value)
    return solution
