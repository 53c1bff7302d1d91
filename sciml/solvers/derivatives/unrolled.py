"""Derivatives that autograd records: through the last few steps, or through the whole iteration.

    Phantom    z_k <- z_{k-1} - tau (z_{k-1} - T(z_{k-1})), k steps from the solution, recorded
    Backprop   the forward solver's own loop, recorded

`Phantom` is approximate, a damped Neumann series cut after k terms; k = 1, tau = 1 is the one-step
gradient (`Implicit(JacobianFree())` is the same). `Backprop` is exact for the finite iteration, of
every order, and keeps every iterate in memory.

Reference: Geng et al. 2021, arXiv 2111.05177 (phantom gradients, unrolling-based).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import check_counts, check_numbers
from sciml.solvers.derivatives.derivative_order import guarded
from sciml.solvers.problem import Problem, Task
from sciml.solvers.solution import LinearReport, Outcome, Policy
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class Phantom:
    """Gradient of a few damped steps from the solution; the value stays the solution.

    Cheap, biased, and enough for many equilibrium networks; a second derivative raises.

    Args:
        steps: Number of recorded steps k; memory and time grow with it.
        damping: Step tau in (0, 1].
        on_failure: As in `Implicit`; nothing is solved here, so it only follows the forward solve.

    Raises:
        InvalidArgument: For no steps, or from the solve, for anything but a fixed point.

    Example:
        >>> import torch
        >>> from sciml.solvers import Phantom, fixed_point
        >>> c = torch.tensor([[1.0]], requires_grad=True)
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * x + c, torch.zeros(1, 1), (c,),
        ...     adjoint=Phantom(steps=3, damping=1.0), on_failure="raise",
        ... )
        >>> found.value.sum().backward()
        >>> round(found.value.item(), 4), round(c.grad.item(), 4)  # 1 + 1/2 + 1/4; exact is 2
        (2.0, 1.75)
    """

    steps: int = 5
    damping: float = 0.5
    on_failure: Policy | None = None
    approximate = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_counts(steps=self.steps)
        check_numbers(damping=self.damping)
        if self.steps < 1 or not 0 < self.damping <= 1:
            raise InvalidArgument(
                f"steps={self.steps}, damping={self.damping}", "steps >= 1 and 0 < damping <= 1"
            )

    def attach(
        self,
        problem: Problem,
        x: Tensor,
        theta: tuple[Tensor, ...],
        *,
        mask: Tensor | None = None,
        report: LinearReport | None = None,
        inverse: Any = None,
    ) -> Tensor:
        """Return `x` with the derivative of the last steps; arguments as in `attach.attach`."""
        need_fixed_point(problem, "Phantom()")
        point = x.detach()
        with torch.autocast(x.device.type, enabled=False):
            out = point
            for _ in range(self.steps):
                out = out - self.damping * problem.residual(out, *theta)
            out = guarded(out, 1)
            out = point + (out - out.detach())
        return out if mask is None else torch.where(problem.layout.spread(mask, out), out, point)


@typed
@dataclass(frozen=True)
class Backprop:
    """Gradient through every iteration of the forward solver.

    Args:
        on_failure: As in `Implicit`.

    Raises:
        InvalidArgument: From the solve, with a solver whose loop cannot be recorded.

    Example:
        >>> import torch
        >>> from sciml.solvers import Backprop, FixedPointIteration, fixed_point
        >>> c = torch.tensor([[1.0]], requires_grad=True)
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * x + c, torch.zeros(1, 1), (c,),
        ...     solver=FixedPointIteration(), adjoint=Backprop(), on_failure="raise",
        ... )
        >>> found.value.sum().backward()
        >>> round(c.grad.item(), 3)
        2.0
    """

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
        """Solve from `x` with a graph."""
        need_solver(solver, "differentiable", "Backprop()", "FixedPointIteration()")
        with torch.autocast(x.device.type, enabled=False):
            out = solver(Task(problem, theta), x)
        return replace(out, residual=out.residual.detach(), relative=out.relative.detach())


def need_fixed_point(problem: Problem, what: str) -> None:
    """Refuse problems that are not fixed points, whose steps mean nothing.

    Raises:
        InvalidArgument: Naming the kind.
    """
    if problem.kind != "fixed_point":
        raise InvalidArgument(
            f"adjoint={what} on a {problem.kind} problem", "a fixed point", "Type Implicit()"
        )


def need_solver(solver: Any, ability: str, what: str, which: str) -> None:
    """Refuse solvers that lack an ability.

    Raises:
        InvalidArgument: Naming one that has it.
    """
    if not getattr(solver, ability, False):
        raise InvalidArgument(
            f"adjoint={what} with solver={type(solver).__name__}",
            "a solver whose steps can be differentiated one by one",
            f"Type solver={which}, or another adjoint",
        )
