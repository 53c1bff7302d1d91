"""Iterations behind first-order methods: extrapolated steps, and steps on the simplex."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.bookkeeping import SolverProgress
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome


@dataclass(frozen=True)
class AcceleratedSteps:
    """Extrapolated iteration of a map T(x, step, ...) that is non-expansive for short steps.

        y = T_k + (m_k - 1) / m_{k+1} (T_k - T_{k-1}),    m_{k+1} = (1 + sqrt(1 + 4 m_k^2)) / 2.

    Momentum starts anew where it points uphill. For steps up to 1 / L the map is averaged,

        |T x - T y|^2 + |(x - T x) - (y - T y)|^2 / 2 <= |x - y|^2;

    two successive points that break this show a step that is too long, which is halved for that
    problem (Bauschke & Combettes 2017, Convex Analysis and Monotone Operator Theory, 2nd ed.,
    propositions 4.35 and 4.44).
    """

    rtol: float | None = None
    atol: float = 0.0
    max_iter: int = 5000
    accelerate: bool = True
    every: int | None = None

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`; the first parameter of the task is the step `(*P)`."""
        layout, (first, *rest) = task.layout, task.theta
        progress = SolverProgress(
            layout, x, self.rtol, self.atol, self.max_iter, self.every, monotone=False
        )
        step, momentum = first, torch.ones_like(first)
        noise = 100 * torch.finfo(x.dtype).eps
        point, old_point, old_gap, old_image = x, x, x, None
        while True:
            task.evaluations += 1
            image = task.problem.function(point, step, *rest)
            gap, size = point - image, layout.norm(image)
            # residuals of different steps are compared at the first one
            progress.update(image, layout.norm(gap) * (first / step), size)
            if not progress.go_on():
                return progress.outcome(task.evaluations)
            if old_image is None:
                old_point, old_gap, old_image, point = point, gap, image, image
                continue
            moved, change = layout.norm(point - old_point), image - old_image
            spread = layout.norm(change) ** 2 + 0.5 * layout.norm(gap - old_gap) ** 2
            too_long = (spread > 1.001 * moved**2) & (moved > noise * size)
            step = torch.where(too_long, 0.5 * step, step)
            uphill = layout.dot(gap, change) > 0
            restart = too_long | uphill
            momentum = torch.where(restart, 1.0, momentum)
            following = 0.5 * (1 + (1 + 4 * momentum**2).sqrt())
            ahead = torch.where(restart, 0.0, (momentum - 1) / following)
            old_point, old_gap, point = point, gap, image
            if self.accelerate:
                point = image + layout.spread(ahead, x) * change
            momentum, old_image = following, image


@dataclass(frozen=True)
class MultiplicativeSteps:
    """Plain iteration of a map between simplices, tested by the largest relative growth."""

    rtol: float | None = None
    atol: float = 0.0
    max_iter: int = 5000
    every: int | None = None

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout = task.layout
        progress = SolverProgress(
            layout, x, self.rtol, self.atol, self.max_iter, self.every, monotone=False
        )
        while True:
            image = x - task.residual(x)
            # an entry that underflowed has been shrinking for long
            growth = torch.where(x == 0, 0.0, image / x)
            growth = (layout.pack(growth).amax(-1) - 1).clamp_min(0) if x.numel() else x.sum(-1)
            growth = growth.reshape(layout.problems(x))
            progress.update(image, growth, torch.ones_like(growth))
            if not progress.go_on():
                return progress.outcome(task.evaluations)
            x = image
