"""The forward solve as one opaque step, and everything between the user's call and the solver.

`_Search` hides the loop from `torch.func`: gradients and tangents stop at its door (the derivative
is attached afterwards), and `vmap` turns into one more axis of problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sciml.arguments import made, maybe, tensor
from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_call, check_tensor, name_of
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance, relative_to, within
from sciml.solvers.compiler import uncompiled
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.derivatives.reversible import Reversible
from sciml.solvers.derivatives.unrolled import Backprop, Phantom
from sciml.solvers.layout import Layout, Rows, unmixed
from sciml.solvers.problem import Kind, Problem, Task
from sciml.solvers.solution import (
    CURES,
    LinearReport,
    Outcome,
    Policy,
    Solution,
    Status,
    check_policy,
    settle,
)

Solver = Callable[[Task, Tensor], Outcome | Tensor]
# Rules for a solution have `attach`; rules for the iteration that found it have `iterate`.
Adjoint = Implicit | Phantom | Backprop | Reversible


def _rule(value: Any) -> str:
    what = "a derivative rule, as Implicit()"
    return made("attach", what=what)(value) and made("iterate", what=what)(value)


def _arguments(value: Any) -> str:
    return "" if isinstance(value, tuple | list) else "a tuple of arguments: theta=(a,)"


# What every solve is given, for `sciml.arguments.takes`.
PARTS = {
    "theta": lambda theta: (
        "" if isinstance(theta, tuple | list) else "a tuple of arguments: theta=(a,)"
    ),
    "adjoint": maybe(_rule),
    "layout": maybe(made("pack", "norm", what="Rows(n) or Segments(index, count)")),
}


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
        wider = _Run(problem, run.solver, run.on_failure, run.evaluations, run.inverses, run.stages)
        return _Search.apply(wider, x, *theta), (0,) * 5


class _Run:
    """A forward solve with its policy."""

    def __init__(
        self,
        problem: Problem,
        solver: Solver,
        on_failure: Policy,
        evaluations: list[int],
        inverses: list[Any],
        stages: list[Tensor | None],
    ) -> None:
        self.problem, self.solver, self.on_failure = problem, solver, on_failure
        # filled by the solve, whoever runs it
        self.evaluations, self.inverses, self.stages = evaluations, inverses, stages

    def outcome(self, x: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return value, status, iterations, residual and relative residual."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            task = Task(self.problem, theta)
            out = self.solver(task, x)
            if isinstance(out, Tensor) and out.shape != x.shape:
                raise InvalidArgument(
                    f"a solver that returns shape {tuple(out.shape)}",
                    f"the shape of the unknown, {tuple(x.shape)}",
                )
            if isinstance(out, Tensor):
                out = _judged(task, x, out, self.solver)
        self.evaluations.append(out.evaluations)
        self.inverses.append(out.inverse)
        self.stages.append(out.stage)
        self.settle(out, task)
        # fresh tensors: a Function must not return its input
        return out.value.clone(), out.status, out.iterations, out.residual, out.relative

    def settle(self, out: Outcome, task: Task) -> None:
        """Apply the policy to what the solver returned."""
        name = getattr(self.solver, "__name__", type(self.solver).__name__)
        tolerance = default_tolerance(out.residual.dtype)
        settle(
            out,
            self.on_failure,
            f"the {self.problem.kind} solve by {name}",
            f"relative residuals within the solver's rtol (default {tolerance:g})",
            lambda: self._cures(out, task),
        )

    def _cures(self, out: Outcome, task: Task) -> str:
        """Return what to type after a failure."""
        if _coupled(task, out.value):
            return (
                "The residual of one problem depends on the unknown of others, as by a sum or a "
                "mean over the batch: that is one problem. Type layout=Rows(0)"
            )
        return self.solver.cures(out) if hasattr(self.solver, "cures") else CURES


def _coupled(task: Task, x: Tensor) -> bool:
    """Return whether a change of the first problem's unknown changes the residual of others."""
    layout = task.layout
    shape = layout.problems(x)
    if math.prod(shape) < 2 or not bool(x.isfinite().all()):
        return False
    with torch.no_grad():
        first = torch.zeros(shape, dtype=x.dtype, device=x.device)
        first.view(-1)[0] = 1.0
        flat = layout.pack(x)
        moved = layout.unpack(flat + first[..., None] * (1.0 + flat.abs()), x)
        before, after = (layout.pack(task.residual(y)).flatten(0, -2) for y in (x, moved))
    change = (after - before).abs()
    size = torch.maximum(before.abs(), after.abs()).amax() + change[0].amax()
    noise = 1e3 * torch.finfo(x.dtype).eps * size  # products of matrices depend on their sizes
    return bool(size.isfinite()) and bool((change[1:] > noise).any())


def _judged(task: Task, x0: Tensor, x: Tensor, solver: Solver) -> Outcome:
    """Judge the tensor a foreign solver returned by its residual.

    Beside a pole the residual of the start is so large that any other is small against it; so it
    must also be small against what the function does on the way from the start.
    """
    layout = task.layout
    scale = task.scale(x0, task.residual(x0))
    r = task.residual(x)
    residual = layout.norm(r)
    if task.kind == "fixed_point":
        scale = task.scale(x, r)
    else:
        ways = (layout.norm(task.residual(x + share * (x0 - x)) - r) for share in (0.25, 0.5))
        way = 4 * torch.stack([torch.where(w.isfinite(), w, torch.inf) for w in ways]).amax(0)
        scale = torch.minimum(scale, way)
    relative = relative_to(residual, scale)
    rtol, atol = getattr(solver, "rtol", None), getattr(solver, "atol", 0.0)
    check_tolerances(rtol, atol)
    fine = within(residual, scale, default_tolerance(x.dtype) if rtol is None else rtol, atol)
    status = torch.where(fine, int(Status.CONVERGED), int(Status.STALLED))
    status = torch.where(residual.isfinite(), status, int(Status.NONFINITE))
    return Outcome(x, status, torch.zeros_like(status), residual, relative, task.evaluations)


@uncompiled
def solve_problem(
    kind: Kind,
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

    `tags` are the structure of dF/dx; `formulas` are `product`, `jacobian`, `hessian` of `Problem`.
    """
    check_policy(on_failure)
    if not isinstance(x0, Tensor):
        return _solve_tree(kind, function, x0, theta, on_failure, solver, adjoint, layout, tags)
    check_call(f"'{name_of(function)}' of a {kind} problem", function, "(x, *theta)", x0, *theta)
    layout = layout_for(x0, layout)
    bound, leaves = flat_theta(function, theta)
    x0, leaves = _lifted(x0), tuple(_lifted(t) for t in leaves)
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
    run = _Run(problem, solver, on_failure, [], [], [])
    report = LinearReport()
    if hasattr(rule, "iterate") and _recording():
        return _iterated(run, rule, x0.detach(), leaves, report)
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
    run: _Run, rule: Adjoint, x: Tensor, theta: tuple[Tensor, ...], report: LinearReport
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


def _nothing_best(run: _Run, value: Tensor, residual: Tensor) -> Tensor:
    """Return the values with NaN where no iterate had a finite residual.

    The best one is the start there, a finite answer to a question that was NaN. Masked problems
    keep it: their losses are multiplied by zero.
    """
    if run.on_failure == "mask":
        return value
    return torch.where(run.problem.layout.spread(residual.isfinite(), value), value, torch.nan)


def _recording() -> bool:
    return torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def layout_for(x: Tensor, layout: Layout | None) -> Layout:
    """Return the layout after checking that `x` fits.

    Raises:
        InvalidType: If `x` is not real.
        InvalidArgument: If `x` is a vector and nothing says what its entries are.
    """
    if not x.is_floating_point():
        raise InvalidType(f"an unknown of dtype {x.dtype}", "a real floating-point dtype")
    if wanted := tensor(x):
        raise InvalidType(f"an unknown on {x.device}, {x.layout}", wanted)
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


def flat_theta(
    function: Callable[..., Any], theta: Sequence[Any]
) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
    """Return the function of x and the tensors in theta, and these tensors."""
    if all(isinstance(t, Tensor) for t in theta):
        return function, tuple(theta)
    leaves, tree = pytree.tree_flatten(tuple(theta))
    tensor = [isinstance(leaf, Tensor) for leaf in leaves]
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


def checked(
    kind: Kind, function: Callable[..., Tensor], layout: Layout, title: str
) -> Callable[..., Tensor]:
    """Return the function with a check of what it returns, before anything broadcasts.

    The first call is watched for numbers of one problem combined with those of all others.
    """
    fresh = True

    def tested(x: Tensor, *theta: Tensor) -> Tensor:
        nonlocal fresh
        watch, fresh = fresh, False
        with unmixed(f"'{title}' of a {kind} problem", x, layout) if watch else nullcontext():
            y = function(x, *theta)
        check_tensor(f"'{title}' of a {kind} problem", y, "a tensor")
        got, given = tuple(y.shape), tuple(x.shape)
        problems = tuple(layout.problems(x))
        if kind in ("root", "fixed_point") and got != given:
            raise InvalidArgument(
                f"'{title}', a function that maps shape {given} to {got}",
                "as many equations as unknowns",
                "Type least_squares for more residuals than unknowns",
            )
        if kind == "minimise" and got != problems:
            raise InvalidArgument(
                f"'{title}', an objective of shape {got} for {layout!r} and unknowns {given}",
                f"one number per problem, {problems}",
                "Sum over the unknowns of a problem and over nothing else",
            )
        if kind == "least_squares" and isinstance(layout, Rows) and got[: layout.ndim] != problems:
            raise InvalidArgument(
                f"'{title}', residuals of shape {got} for {layout!r} and unknowns {given}",
                f"shape ({', '.join(map(str, problems))}, ...)",
            )
        return y

    return tested


def _solve_tree(
    kind: Kind,
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
