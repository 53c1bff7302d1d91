"""A reversible fixed-point iteration: the exact gradient of its finite run in constant memory.

Two coupled states, with mixing beta,

    y' = (1 - beta) y + beta T(z),        z' = (1 - beta) z + beta T(y'),

are undone algebraically, last step first:

    z = (z' - beta T(y')) / (1 - beta),   y = (y' - beta T(z)) / (1 - beta).

The backward pass walks back along the iterates and applies the chain rule on the way. Round-off
grows by up to (1 + beta |dT/dx|) / (1 - beta) per half step, so the states are float64 whatever the
function computes in. Walking back must end where the forward pass began: the distance from there
is measured, and too large a one is a failure of the gradient.

Reference: McCallum, Arora & Foster 2025, arXiv 2509.12917 (RevDEQ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import SolverProgress, check_numbers, check_tolerances, relative_to
from sciml.solvers.derivatives.derivative_order import final, guarded
from sciml.solvers.derivatives.unrolled import need_fixed_point, need_solver
from sciml.solvers.problem import Problem, Task
from sciml.solvers.solution import LinearReport, Outcome, Policy, Status, settle
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class ReversibleIteration:
    """The coupled iteration above; z is the solution.

    Args:
        rtol: Tolerance on |z - T(z)| / |T(z)|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of steps, of two evaluations each.
        mixing: beta in (0, 1).
        every: Steps between looks at the device; None chooses.

    Raises:
        InvalidArgument: If `mixing` is not strictly between 0 and 1, or tolerances cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import Reversible, ReversibleIteration, fixed_point
        >>> found = fixed_point(
        ...     lambda x: 0.5 * torch.cos(x), torch.zeros(1, 1),
        ...     solver=ReversibleIteration(max_iter=60), adjoint=Reversible(), on_failure="raise",
        ... )
        >>> round(found.value.item(), 4)
        0.4502
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 16
    mixing: float = 0.5
    every: int | None = None
    differentiable = True
    reversible = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_tolerances(self.rtol, self.atol, self.max_iter)
        check_numbers(mixing=self.mixing)
        if not 0 < self.mixing < 1:
            raise InvalidArgument(f"mixing={self.mixing}", "strictly between 0 and 1")

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        return self.run(task, x)[0]

    def run(self, task: Task, x: Tensor) -> tuple[Outcome, Tensor, Tensor]:
        """Return the result and the last states y, z in float64."""
        layout, beta = task.layout, self.mixing
        progress = SolverProgress(layout, x, self.rtol, self.atol, self.max_iter, self.every)
        y = z = x.double()
        while True:
            narrow = z.to(x.dtype)
            r = task.residual(narrow)
            progress.update(narrow, layout.norm(r), task.scale(narrow, r))
            if not progress.go_on():
                break
            on = layout.spread(progress.active, z)
            y = torch.where(on, (1 - beta) * y + beta * (narrow - r).double(), y)
            z = torch.where(on, (1 - beta) * z + beta * _image(task.residual, y, x.dtype), z)
        last = progress.norm
        out = progress.outcome(task.evaluations)
        # not the best iterate but the last one, which is what can be walked back
        ran = out.status == Status.MAX_ITER
        out.value = torch.where(layout.spread(ran, narrow), narrow, out.value)
        out.residual = torch.where(ran, last, out.residual)
        out.relative = torch.where(ran, relative_to(last, progress.scale), out.relative)
        return out, y, z


def _image(residual: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return T(x) in float64; the function sees `x` in its own precision."""
    narrow = x.to(dtype)
    return (narrow - residual(narrow)).double()


@typed
@dataclass(frozen=True)
class Reversible:
    """Exact gradient of a `ReversibleIteration` by walking it back; a second derivative raises.

    Tensors the function captures must be parameters; what was computed before goes into theta.

    Args:
        tolerance: Largest distance from the start after walking back, relative to the solution.
        on_failure: If it is exceeded: `warn` warns, `best` goes on, `raise` and `mask` raise (the
            gradients of shared parameters cannot be split by problems afterwards). None takes the
            policy of the forward solve.

    Raises:
        InvalidArgument: From the solve, with another solver, or a captured intermediate result.

    Example:
        >>> import torch
        >>> from sciml.solvers import Reversible, ReversibleIteration, fixed_point
        >>> c = torch.tensor([[1.0]], requires_grad=True)
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * x + c, torch.zeros(1, 1), (c,),
        ...     solver=ReversibleIteration(max_iter=80), adjoint=Reversible(), on_failure="raise",
        ... )
        >>> found.value.sum().backward()
        >>> round(c.grad.item(), 3)  # the path is walked back: no state of it was stored
        2.0
    """

    tolerance: float = 1e-3
    on_failure: Policy | None = None
    approximate = False

    def iterate(
        self,
        problem: Problem,
        solver: Any,
        x: Tensor,
        theta: tuple[Tensor, ...],
        report: LinearReport,
    ) -> Outcome:
        """Solve from `x`; the value carries the derivative."""
        need_fixed_point(problem, "Reversible()")
        need_solver(solver, "reversible", "Reversible()", "ReversibleIteration()")
        captured = captured_leaves(problem, x, theta)
        walk = _Walk(problem, solver, self, report, len(theta), captured)
        value = _WalkBack.apply(walk, x, *theta, *captured)
        walk.outcome.value = guarded(value, 1) if value.requires_grad else value
        return walk.outcome


@dataclass(eq=False)
class _Walk:
    """What the two passes share."""

    problem: Problem
    solver: ReversibleIteration
    rule: Reversible
    report: LinearReport
    count: int
    captured: list[Tensor]
    outcome: Outcome = field(init=False)


class _WalkBack(torch.autograd.Function):
    """The iteration with its gradient. No `setup_context`: torch.func transforms are refused."""

    @staticmethod
    def forward(ctx: Any, walk: _Walk, x: Tensor, *tensors: Tensor) -> Tensor:
        theta = tensors[: walk.count]
        with torch.autocast(x.device.type, enabled=False):
            walk.outcome, y, z = walk.solver.run(Task(walk.problem, theta), x)
        ctx.walk = walk
        status = walk.outcome.status
        moved = (status == Status.CONVERGED) | (status == Status.MAX_ITER)
        ctx.save_for_backward(x, y, z, moved, walk.outcome.iterations, *theta)
        return walk.outcome.value.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple:
        walk, needed = ctx.walk, ctx.needs_input_grad[2:]
        start, y, z, moved, steps, *theta = ctx.saved_tensors
        layout, beta, dtype = walk.problem.layout, walk.solver.mixing, start.dtype
        size = layout.norm(z)
        theta = [t.detach().requires_grad_(n) for t, n in zip(theta, needed, strict=False)]
        wanted = [t for t, n in zip([*theta, *walk.captured], needed, strict=True) if n]
        sums = [torch.zeros_like(t) for t in wanted]

        def pull(at: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            """Return T(at) and weight^T dT/dx, and add weight^T dT/dtheta to the sums."""
            narrow = at.detach().to(dtype).requires_grad_()
            with torch.enable_grad(), torch.autocast(g.device.type, enabled=False):
                image = narrow - walk.problem.residual(narrow, *theta)
            found = torch.autograd.grad(
                image, [narrow, *wanted], weight.to(dtype), allow_unused=True
            )
            for total, part in zip(sums, found[1:], strict=True):
                if part is not None:
                    total += part
            slope = torch.zeros_like(at) if found[0] is None else found[0].double()
            return image.detach().double(), slope

        dz = torch.where(layout.spread(moved, g), g.detach(), 0.0).double()
        dy = torch.zeros_like(dz)
        longest = int(steps.max()) if steps.numel() else 0
        for k in reversed(range(longest)):
            on = layout.spread(moved & (steps > k), z)
            image, slope = pull(y, torch.where(on, beta * dz, 0.0))
            z = torch.where(on, (z - beta * image) / (1 - beta), z)
            dy, dz = dy + slope, torch.where(on, (1 - beta) * dz, dz)
            image, slope = pull(z, torch.where(on, beta * dy, 0.0))
            y = torch.where(on, (y - beta * image) / (1 - beta), y)
            dz, dy = dz + slope, torch.where(on, (1 - beta) * dy, dy)
        _judge(walk, layout.norm(z - start.double()), size, moved, steps, 2 * longest)
        found = iter(sums)
        return None, None, *(final(next(found), g) if n else None for n in needed)


def _judge(
    walk: _Walk, missed: Tensor, size: Tensor, moved: Tensor, steps: Tensor, products: int
) -> None:
    """Report how far from its start the walk back ended, and apply the policy."""
    relative = relative_to(missed, size)
    fine = (relative <= walk.rule.tolerance) | ~moved
    status = torch.where(fine, int(Status.CONVERGED), int(Status.STALLED))
    out = Outcome(missed.new_empty(0), status, steps, missed, relative, products)
    walk.report.outcome = out
    policy = walk.rule.on_failure or "raise"
    settle(
        out,
        "raise" if policy == "mask" else policy,
        "walking the reversible iteration back to its start",
        f"at most {walk.rule.tolerance:g} off: fewer steps, or a smaller mixing",
    )


def captured_leaves(problem: Problem, x: Tensor, theta: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the parameters the function of a problem captures, by looking at one evaluation.

    Raises:
        InvalidArgument: If it captures a tensor computed from others, whose gradient would be lost.
    """
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        # nodes made from here on have larger numbers than those of captured graphs
        first = torch.zeros((), requires_grad=True).clone().grad_fn._sequence_nr()
        y = problem.residual(x.detach(), *(t.detach() for t in theta))
    found: dict[int, Tensor] = {}
    seen: set[Any] = set()
    left = [y.grad_fn] if y.grad_fn is not None else []
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found[id(node.variable)] = node.variable
        elif node._sequence_nr() < first:
            raise InvalidArgument(
                "a function that captures a tensor computed from others, with adjoint=Reversible()",
                "parameters only",
                "Pass it through theta=(...)",
            )
        left += [up for up, _ in node.next_functions if up is not None]
    return list(found.values())
