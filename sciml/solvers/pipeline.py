"""From the user's call to the solution: arguments, forward solve, report, derivative.

`solve_arguments` brings what was given into one form, `forward_solve` solves without a graph, and
the derivative rule is attached to what came out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_call, name_of
from sciml.solvers.compiler import uncompiled
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.forward_solve import ForwardSolve
from sciml.solvers.layout import Layout, Rows
from sciml.solvers.problem import Problem, ProblemKind, Task
from sciml.solvers.solution import LinearReport, Policy, Solution, Status, check_policy
from sciml.solvers.solve_arguments import Adjoint, Solver, checked, flat_theta, layout_for, lifted


@uncompiled
def solve_problem(
    kind: ProblemKind,
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any],
    on_failure: Policy,
    solver: Solver,
    adjoint: Adjoint | None,
    layout: Layout | None,
    tags: dict[str, Any],
    formulas: Mapping[str, Callable[..., Any] | None] | None = None,
) -> Solution:
    """Solve, report, and attach the derivative; arguments and errors as in `solve.root`.

    `tags` are the structure of dF/dx; `formulas` are those of `Problem`.
    """
    check_policy(on_failure)
    if not isinstance(x0, Tensor):
        return _solve_tree(kind, function, x0, theta, on_failure, solver, adjoint, layout, tags)
    check_call(f"'{name_of(function)}' of a {kind} problem", function, "(x, *theta)", x0, *theta)
    layout = layout_for(x0, layout)
    bound, leaves = flat_theta(function, theta)
    x0, leaves = lifted(x0), tuple(lifted(t) for t in leaves)
    known = {k: flat_theta(f, theta)[0] for k, f in (formulas or {}).items() if f is not None}
    title = name_of(function)
    problem = Problem(kind, checked(kind, bound, layout, title), layout, **known, **tags)
    rule = adjoint or Implicit()
    if getattr(rule, "hessian", "exact") == "gauss_newton" and kind != "least_squares":
        raise InvalidArgument(
            f"hessian='gauss_newton' on a {kind} problem", "least_squares", "Type hessian='exact'"
        )
    if rule.on_failure is None:
        rule = replace(rule, on_failure=on_failure)
    run = ForwardSolve(problem, solver, on_failure)
    report = LinearReport()
    if hasattr(rule, "iterate") and _recording():
        return _iterated(run, rule, x0.detach(), leaves, report)
    try:
        found = run.run(x0.detach(), [t.detach() for t in leaves])
    except RuntimeError as error:
        if "escaped from inside a function being vmapped" not in str(error):
            raise
        raise InvalidArgument(
            "a function that captures a tensor batched by torch.func.vmap",
            "batched tensors among its arguments",
            "Pass it through theta=(...)",
        ) from error
    value, status, iterations, residual, relative = found
    mask = status == Status.CONVERGED if on_failure == "mask" else None
    inverse = run.inverses[-1] if run.inverses else None
    value = attached(problem, value, leaves, rule, mask, report, inverse)
    value = _nothing_best(run, value, residual)
    stats = {"relative": relative, "evaluations": sum(run.evaluations)}
    if run.stages and run.stages[-1] is not None:
        stats["stage"] = run.stages[-1]
    return Solution(value, status, iterations, residual, stats, report)


def attached(
    problem: Problem,
    x: Tensor,
    theta: tuple[Tensor, ...],
    rule: Adjoint,
    mask: Tensor | None,
    report: LinearReport,
    inverse: Any = None,
) -> Tensor:
    """Return `x` with its derivative, or as it is where no gradients are recorded."""
    if not _recording():
        return x
    return rule.attach(problem, x, theta, mask=mask, report=report, inverse=inverse)


def _iterated(
    run: ForwardSolve, rule: Adjoint, x: Tensor, theta: tuple[Tensor, ...], report: LinearReport
) -> Solution:
    """Solve with a rule that differentiates the iteration itself."""
    out = rule.iterate(run.problem, run.solver, x, theta, report)
    run.settle(out, Task(run.problem, theta))
    value = out.value
    if run.on_failure == "mask":
        converged = run.problem.layout.spread(out.status == Status.CONVERGED, value)
        value = torch.where(converged, value, value.detach())
    value = _nothing_best(run, value, out.residual)
    stats = {"relative": out.relative, "evaluations": out.evaluations}
    return Solution(value, out.status, out.iterations, out.residual, stats, report)


def _nothing_best(run: ForwardSolve, value: Tensor, residual: Tensor) -> Tensor:
    """Return the values with NaN where no iterate had a finite residual.

    The best one is the start there, a finite answer to a question that was NaN. Masked problems
    keep it: their losses are multiplied by zero.
    """
    if run.on_failure == "mask":
        return value
    return torch.where(run.problem.layout.spread(residual.isfinite(), value), value, torch.nan)


def _recording() -> bool:
    return torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def _solve_tree(
    kind: ProblemKind,
    function: Callable[..., Any],
    x0: Any,
    theta: Sequence[Any],
    on_failure: Policy,
    solver: Solver,
    adjoint: Adjoint | None,
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

    check_call(f"'{name_of(function)}' of a {kind} problem", function, "(x, *theta)", x0, *theta)

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

    solution = solve_problem(kind, flat, join(x0), theta, on_failure, solver, adjoint, layout, tags)
    solution.value = split(solution.value)
    return solution
