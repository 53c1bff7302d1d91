"""Limited-memory BFGS, one line search per problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import SolverProgress, check_tolerances
from sciml.solvers.layout import Layout
from sciml.solvers.norms import unit_of
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed

ARMIJO, CURVATURE = 1e-4, 0.9
TRIALS = 25


@typed
@dataclass(frozen=True)
class LBFGS:
    """L-BFGS with a bisecting weak-Wolfe line search, all per problem.

    Near a minimum differences of the objective drown in round-off. There a step is judged by its
    slope alone (the approximate Wolfe conditions), so gradients can fall to their own precision.

    Sources: Nocedal 1980, Math. Comp. 35 (two loops); Lewis & Overton 2013, Math. Program. 141
    (line search, algorithm 2.6); Hager & Zhang 2005, SIAM J. Optim. 16 (approximate conditions).

    Args:
        rtol: Tolerance on |grad f| / |grad f(x0)|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance on |grad f|.
        max_iter: Largest number of steps.
        memory: Pairs kept.
        every: Steps between looks at the device; None chooses.

    Raises:
        InvalidArgument: For tolerances that cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import LBFGS, minimise
        >>> def rosenbrock(x):
        ...     return (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2
        >>> start = torch.zeros(1, 2, dtype=torch.float64)
        >>> found = minimise(rosenbrock, start, solver=LBFGS(), on_failure="raise")
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [1.0, 1.0]
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 500
    memory: int = 10
    every: int | None = None

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`.

        Raises:
            InvalidArgument: If the problem has no objective.
        """
        if task.kind not in ("minimise", "least_squares"):
            raise InvalidArgument(f"LBFGS on a {task.kind} problem", "minimise or least_squares")
        layout, m = task.layout, self.memory
        limits = (self.rtol, self.atol, self.max_iter, self.every)
        progress = SolverProgress(layout, x, *limits, monotone=False, blind=True)
        f, g = task.objective(x)
        # inner products of gradients stay in range if the objective is counted in their unit
        unit = unit_of(layout.norm(g))

        def counted(f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
            return (f, g) if unit is None else (f * unit, g * layout.spread(unit, g))

        def objective(x: Tensor) -> tuple[Tensor, Tensor]:
            return counted(*task.objective(x))

        steepness = layout.norm(g)
        f, g = counted(f, g)
        # where the objective is NaN its gradient may still be 0, and says nothing
        norm = torch.where(f.isfinite(), layout.norm(g), torch.nan)
        progress.atol = self.atol if unit is None else self.atol * unit
        progress.update(x, norm, task.scale(x, g))
        s, y = x.new_zeros(m, *x.shape), x.new_zeros(m, *x.shape)
        rho = x.new_zeros(m, *norm.shape)  # 0 where a slot holds no pair
        # the first step is the gradient, at most 1 long and long enough to be seen beside x
        length = steepness.clamp(max=1.0).maximum(torch.finfo(x.dtype).eps ** 0.5 * layout.norm(x))
        gamma = length / norm.clamp_min(torch.finfo(x.dtype).tiny)
        while progress.go_on():
            order = [(progress.step - 1 - i) % m for i in range(min(progress.step, m))]
            d = -_two_loops(layout, g, s, y, rho, order, gamma)
            downhill = layout.dot(d, g) < 0
            d = torch.where(layout.spread(downhill, x), d, -layout.spread(gamma, x) * g)
            rho = rho * downhill  # pairs that do not lead down are forgotten
            new, new_f, new_g, t = _line_search(layout, objective, progress.active, x, f, g, d)
            moved, alone = t > 0, (rho == 0).all(0)
            new = progress.keep(new)
            slot = progress.step % m
            s[slot], y[slot] = new - x, new_g - g
            sy, change = layout.dot(s[slot], y[slot]), layout.norm(y[slot])
            usable = moved & (sy > 10 * torch.finfo(x.dtype).eps * layout.norm(s[slot]) * change)
            rho[slot] = torch.where(usable, 1 / torch.where(usable, sy, 1.0), 0.0)
            # after a step too short to be seen in the gradient the next one begins where it ended
            longer = gamma * torch.where(moved & alone, t.clamp_min(1.0), 1.0)
            change = change.masked_fill(~usable, 1.0)
            gamma = torch.where(usable, sy / change / change, longer)
            fresh = (rho == 0).all(0)
            x, f, g = new, new_f, new_g
            progress.update(x, layout.norm(g), task.scale(x, g))
            # no way down even along the gradient
            progress.finish(~moved & fresh, Status.STALLED)
            rho = rho * moved  # the next try is along the gradient
        out = progress.outcome(task.evaluations)
        out.residual = out.residual if unit is None else out.residual / unit
        return out


def _two_loops(
    layout: Layout, g: Tensor, s: Tensor, y: Tensor, rho: Tensor, order: list[int], gamma: Tensor
) -> Tensor:
    """Return the inverse Hessian estimate times g; `order` runs from the newest pair."""
    q, alphas = g, []
    for i in order:
        alpha = rho[i] * layout.dot(s[i], q)
        q = q - layout.spread(alpha, g) * y[i]
        alphas.append(alpha)
    q = layout.spread(gamma, g) * q
    for i, alpha in zip(reversed(order), reversed(alphas), strict=True):
        beta = rho[i] * layout.dot(y[i], q)
        q = q + layout.spread(alpha - beta, g) * s[i]
    return q


def _line_search(
    layout: Layout,
    objective: Callable[[Tensor], tuple[Tensor, Tensor]],
    active: Tensor,
    x: Tensor,
    f: Tensor,
    g: Tensor,
    d: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return iterate, objective and gradient after a step, and its length `(*P)`, 0 for none.

    A step satisfies the weak Wolfe conditions, or the first of them alone if trials run out.
    """
    slope = layout.dot(g, d)
    slack = 1e3 * torch.finfo(f.dtype).eps * f.abs()
    low, high = torch.zeros_like(f), torch.full_like(f, torch.inf)
    t, done = torch.ones_like(f), ~active
    best, best_f, best_g, length = x, f, g, torch.zeros_like(f)
    for _ in range(TRIALS):
        new = x + layout.spread(t, x) * d
        new_f, new_g = objective(new)
        new_slope = layout.dot(new_g, d)
        blind = (new_f <= f + slack) & (new_slope <= (2 * ARMIJO - 1) * slope)
        fall = (new_f <= f + ARMIJO * t * slope) | blind
        flat = new_slope >= CURVATURE * slope
        take = fall & ~done
        wide = layout.spread(take, x)
        best = torch.where(wide, new, best)
        best_f, best_g = torch.where(take, new_f, best_f), torch.where(wide, new_g, best_g)
        length, done = torch.where(take, t, length), done | (fall & flat)
        if bool(done.all()):
            break
        high = torch.where(fall, high, t)
        low = torch.where(fall, t, low)
        t = torch.where(done, t, torch.where(high.isfinite(), 0.5 * (low + high), 2 * t))
    return best, best_f, best_g, length
