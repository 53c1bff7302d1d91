"""The forward solve as one opaque step.

`_OpaqueSolve` hides the loop from `torch.func`: gradients and tangents stop there (the derivative
is attached afterwards), and `vmap` turns into one more axis of problems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance, relative_to, within
from sciml.solvers.problem import Problem, Task
from sciml.solvers.solution import CURES, Outcome, Policy, Status, settle
from sciml.solvers.solve_arguments import Solver


class _OpaqueSolve(torch.autograd.Function):
    """The forward solve as one opaque step, so that `torch.func` transforms can wrap it."""

    @staticmethod
    def forward(run: ForwardSolve, x: Tensor, *theta: Tensor) -> tuple[Tensor, ...]:
        return run.outcome(x, theta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *_grads: Any) -> tuple:  # pragma: no cover (nothing is differentiable)
        raise AssertionError("the forward solve has no derivative")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple, run: ForwardSolve, x: Tensor, *theta: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        _, x_dim, *dims = in_dims
        x = x.expand(info.batch_size, *x.shape) if x_dim is None else x.movedim(x_dim, 0)
        problem = run.problem.stacked(tuple(dims), info.randomness)
        return _OpaqueSolve.apply(replace(run, problem=problem), x, *theta), (0,) * 5


@dataclass(eq=False)
class ForwardSolve:
    """A forward solve with its policy, and what it leaves behind, whoever runs it.

    Args:
        problem: What is solved.
        solver: `(task, x) -> outcome`, or the solution alone.
        on_failure: Policy.
        evaluations: Filled by every run: evaluations of the function.
        inverses: Likewise the approximate inverses that the solver built.
        stages: Likewise which solver of a cascade ended each problem.
    """

    problem: Problem
    solver: Solver
    on_failure: Policy
    evaluations: list[int] = field(default_factory=list)
    inverses: list[Any] = field(default_factory=list)
    stages: list[Tensor | None] = field(default_factory=list)

    def run(self, x: Tensor, theta: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return what `outcome` does, as one step that transforms of `torch.func` can wrap."""
        return _OpaqueSolve.apply(self, x, *theta)

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
