"""Halpern's anchored iteration, for maps that are only non-expansive."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import SolverProgress, check_tolerances
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class Halpern:
    """`x_{k+1} = x_0 / (k + 2) + (1 - 1 / (k + 2)) T(x_k)`, for `fixed_point`.

    Where T does not contract (a rotation, an averaged projection, a saddle point's gradient step)
    plain iteration may circle for ever. This one converges in a Hilbert space whenever T is
    non-expansive and has a fixed point, with the best rate there is for such maps,

        |x_k - T(x_k)| <= 2 |x_0 - x*| / (k + 1).

    The limit is the fixed point nearest to the start. Being that slow, it asks for a thousandth
    by default; where T contracts take `Anderson`. The derivative needs a solution that stands
    alone: where fixed points form a line, I - dT/dx is singular, and the solve says so.

    Sources: Halpern 1967; Lieder 2021, Optim. Lett. 15 (the rate).

    Args:
        rtol: Tolerance on |x - T(x)| / |x_0 - T(x_0)|.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        every: Iterations between looks at the device; None chooses.

    Raises:
        InvalidArgument: For tolerances that are always met or never.

    Example:
        >>> import torch
        >>> from sciml.solvers import Halpern, fixed_point
        >>> def rotate(x):  # plain iteration circles around (1, 0) for ever
        ...     return torch.stack([1.0 - x[:, 1], x[:, 0] - 1.0], dim=1)
        >>> start = torch.zeros(1, 2)
        >>> found = fixed_point(rotate, start, solver=Halpern(rtol=1e-2), on_failure="raise")
        >>> [round(v, 1) for v in found.value[0].tolist()]
        [1.0, 0.0]
    """

    rtol: float | Tensor | None = 1e-3
    atol: float = 0.0
    max_iter: int = 10_000
    every: int | None = None

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`.

        Raises:
            InvalidArgument: If the problem is no fixed point.
        """
        if task.kind != "fixed_point":
            raise InvalidArgument(
                f"Halpern on a {task.kind} problem",
                "a fixed point",
                "Type fixed_point(lambda x: x - step * f(x), ...)",
            )
        layout, anchor = task.layout, x
        progress = SolverProgress(
            layout, x, self.rtol, self.atol, self.max_iter, self.every, monotone=False
        )
        r = task.residual(x)
        scale = layout.norm(r)
        progress.update(x, scale, scale)
        while progress.go_on():
            weight = 1 / (progress.step + 2)
            x = progress.keep(weight * anchor + (1 - weight) * (x - r))
            r = task.residual(x)
            progress.update(x, layout.norm(r), scale)
        return progress.outcome(task.evaluations)
