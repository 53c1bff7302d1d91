"""Iterates that a forward solver passed, for losses on the way to the solution."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sciml.arguments import counts, made, takes
from sciml.errors import InvalidArgument
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome


class Trace:
    """A forward solver that keeps some of the points at which it evaluated the residual.

    Args:
        solver: Does the work.
        at: Numbers of the evaluations kept, the start being 0. A solve that ends before leaves its
            last point in their place.

    Attributes:
        states: The points of the newest solve, without graph.

    Raises:
        InvalidArgument: If a number is negative.

    Example:
        >>> import torch
        >>> from sciml.solvers import FixedPointIteration, Trace, fixed_point
        >>> trace = Trace(FixedPointIteration(), at=[0, 1, 2])
        >>> found = fixed_point(
        ...     lambda x: 0.5 * x + 1.0, torch.zeros(1, 1), solver=trace, on_failure="raise"
        ... )
        >>> [state.item() for state in trace.states]
        [0.0, 1.0, 1.5]
    """

    @takes(solver=made("__call__", what="a solver, as Newton()"), at=counts)
    def __init__(self, solver: Any, at: Sequence[int]) -> None:
        if any(k < 0 for k in at):
            raise InvalidArgument(f"at={list(at)}", "numbers of evaluations, zero or more")
        self.solver, self.at = solver, sorted(at)
        self.rtol = getattr(solver, "rtol", None)
        self.states: list[Tensor] = []

    def __call__(self, task: Task, x: Tensor) -> Outcome | Tensor:
        """Solve from `x`."""
        watched, kept = copy.copy(task), []

        def residual(point: Tensor) -> Tensor:
            if watched.evaluations - task.evaluations in self.at:
                kept.append(point.detach())
            return Task.residual(watched, point)

        watched.residual = residual
        out = self.solver(watched, x)
        value = out.value if isinstance(out, Outcome) else out
        self.states = kept + [value.detach()] * (len(self.at) - len(kept))
        task.evaluations = watched.evaluations
        return out
