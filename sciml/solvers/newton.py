"""Newton's method, with a dense or a Krylov solver inside."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sciml.solvers.dense import Dense
from sciml.solvers.gmres import GMRES
from sciml.solvers.krylov import BiCGStab
from sciml.solvers.layout import Layout
from sciml.solvers.operators import Product
from sciml.solvers.problem import Task
from sciml.solvers.progress import Progress
from sciml.solvers.solution import Outcome, Status

DECREASE = 1e-4  # of Armijo's condition on |F|
HALVINGS = 12


@dataclass(frozen=True)
class Newton:
    """Newton's method with a direct solver and Armijo's line search on |F| per problem.

    A problem is converged once |F| meets the tolerance or the full Newton step is below
    `rtol |x|`; the step estimates the error whatever the units of F. The last factor is left to
    the derivative, see `sciml.solvers.refinement`.

    Args:
        rtol: Tolerance on |F| / |F(x0)| (for a fixed point: over |T(x)|) and on the step; None
            takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance on |F|.
        max_iter: Largest number of steps.
        linear: Direct solver for the step.
        refresh: Steps that share one factor (1: Newton; more: chord method).
        every: Steps between looks at the device; None chooses.
    """

    rtol: float | None = None
    atol: float = 0.0
    max_iter: int = 50
    linear: Dense = field(default_factory=Dense)
    refresh: int = 1
    every: int | None = None

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout = task.layout
        progress = Progress(layout, x, self.rtol, self.atol, self.max_iter, self.every)
        r = task.residual(x)
        progress.update(x, layout.norm(r), task.scale(x, r))
        operator = None
        while progress.go_on():
            if progress.step % self.refresh == 0:
                operator = task.linearise(x)
            solved = self.linear(operator, -r)
            x, r = _advance(task, progress, x, r, solved)
        out = progress.outcome(task.evaluations)
        if operator is not None and isinstance(self.linear, Dense):
            out.inverse = self.linear.kept_inverse(operator)
        return out


@dataclass(frozen=True)
class NewtonKrylov:
    """Newton's method without matrices: inexact steps by GMRES (or another Krylov solver).

    The inner tolerance follows Eisenstat and Walker 1996 (SIAM J. Sci. Comput. 17, choice 2,
    gamma = 0.9, alpha = 2) per problem. The preconditioner at the last step is left to the
    derivative.

    Args:
        rtol: As in `Newton`.
        atol: Absolute tolerance on |F|.
        max_iter: Largest number of steps.
        linear: Solver for the step, with its preconditioner; its tolerance is overruled.
        forcing: First and largest inner tolerance.
        every: Steps between looks at the device; None chooses.
    """

    rtol: float | None = None
    atol: float = 0.0
    max_iter: int = 50
    linear: GMRES | BiCGStab = field(default_factory=GMRES)
    forcing: float = 0.5
    every: int | None = None

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout = task.layout
        progress = Progress(layout, x, self.rtol, self.atol, self.max_iter, self.every)
        r = task.residual(x)
        norm = layout.norm(r)
        scale = task.scale(x, r)
        progress.update(x, norm, scale)
        eta, operator = torch.full_like(norm, self.forcing), None
        while progress.go_on():
            # never solve beyond what the outer tolerance asks for
            floor = 0.3 * (self.atol + progress.rtol * scale) / norm.clamp_min(1e-300)
            inner = replace(self.linear, rtol=eta.clamp_min(1e-14).maximum(floor).clamp_max(0.9))
            operator = task.linearise(x)
            solved = inner(operator, -r)
            x, r = _advance(task, progress, x, r, solved)
            old, norm = norm, layout.norm(r)
            scale = task.scale(x, r)
            choice = 0.9 * (norm / old.clamp_min(1e-300)) ** 2
            safeguard = torch.where(0.9 * eta**2 > 0.1, 0.9 * eta**2, 0.0)
            eta = choice.maximum(safeguard).clamp_max(self.forcing).nan_to_num(self.forcing)
        out = progress.outcome(task.evaluations)
        if operator is not None and self.linear.preconditioner is not None:
            made: dict[bool, Product] = {}

            def inverse(v: Tensor, transposed: bool) -> Tensor:
                if transposed not in made:
                    given = operator.T if transposed else operator
                    made[transposed] = self.linear.preconditioner(given)
                return made[transposed](v)

            out.inverse = inverse
        return out


def _advance(
    task: Task, progress: Progress, x: Tensor, r: Tensor, solved: Outcome
) -> tuple[Tensor, Tensor]:
    """Take a step, update the progress, and return the new iterate and residual."""
    layout: Layout = task.layout
    dx = solved.value
    finite = layout.norm(dx).isfinite()
    progress.finish(~finite, Status.SINGULAR)
    size = layout.norm(dx)
    tiny = (size <= progress.rtol * layout.norm(x)) & (solved.status == Status.CONVERGED)
    t, new, new_r, fine = _line_search(task, progress.active & ~tiny, x, dx, layout.norm(r))
    new = progress.keep(new)
    norm = layout.norm(new_r)
    progress.update(new, norm, task.scale(new, new_r), tiny & (t == 1))
    unsolved = solved.status == Status.SINGULAR
    progress.finish(~fine & unsolved, Status.SINGULAR)
    progress.finish(~fine & ~unsolved, Status.STALLED)
    return new, new_r


def _line_search(
    task: Task, wanted: Tensor, x: Tensor, dx: Tensor, norm: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve the step where |F| does not fall; a step below round-off needs no fall.

    Returns:
        Step `(*P)`, iterate, its residual, and whether the problem's step was accepted `(*P)`.
    """
    layout, t = task.layout, torch.ones_like(norm)
    for _ in range(HALVINGS):
        new = x + layout.spread(t, x) * dx
        new_r = task.residual(new)
        fine = ~wanted | (layout.norm(new_r) <= (1 - DECREASE * t) * norm)
        if bool(fine.all()):
            break
        t = torch.where(fine, t, 0.5 * t)
    return t, new, new_r, fine
