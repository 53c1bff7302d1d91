"""Limited-memory Broyden's method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import SolverProgress, check_counts, check_tolerances
from sciml.solvers.norms import unit_of
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class Broyden:
    """Broyden's good method with `memory` rank-one updates of the inverse Jacobian H.

        H <- H + (s - H y) (s^T H) / (s^T H y),    s, y the last change of x and F.

    H starts as `inverse` times the identity: right for fixed points; for a root take about
    1 / |dF/dx|. When the memory is full the oldest update is dropped before the new one is
    formed, so the newest secant equation always holds. There is no line search: where Newton's
    basin is small take `NewtonKrylov`.

    Source: Broyden 1965, Math. Comp. 19(92); the inverse form by Sherman and Morrison.

    Args:
        rtol: Tolerance on |x - T(x)| / |T(x)| (for a root: over |F(x0)|); None takes 1e-10 in
            float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        memory: Updates kept; each costs two unknowns, and with fewer than the steps needed the
            method may stall.
        inverse: First guess of the inverse Jacobian.
        every: Iterations between looks at the device; None chooses.
        share: Whether to leave H to the derivative, see `sciml.solvers.algebra.shine`; its memory
            then lives until the backward pass.

    Raises:
        InvalidArgument: If `memory` is below 1, or tolerances cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import Broyden, fixed_point
        >>> found = fixed_point(torch.cos, torch.zeros(1, 3), solver=Broyden(), on_failure="raise")
        >>> [round(v, 3) for v in found.value[0].tolist()]
        [0.739, 0.739, 0.739]
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 200
    memory: int = 50
    inverse: float = 1.0
    every: int | None = None
    share: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_tolerances(self.rtol, self.atol, self.max_iter)
        check_counts(memory=self.memory)
        if self.memory < 1:
            raise InvalidArgument(f"memory={self.memory}", "at least 1")

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout, m = task.layout, min(self.memory, self.max_iter)
        limits = (self.rtol, self.atol, self.max_iter, self.every)
        progress = SolverProgress(layout, x, *limits, blind=task.kind != "fixed_point")
        left, right = x.new_zeros(m, *x.shape), x.new_zeros(m, *x.shape)
        small = torch.finfo(x.dtype).eps
        r = task.residual(x)
        progress.update(x, layout.norm(r), task.scale(x, r))
        step, unit = self.inverse * r, unit_of(layout.norm(r, torch.inf))
        while progress.go_on():
            new = progress.keep(x - step)
            new_r = task.residual(new)
            progress.update(new, layout.norm(new_r), task.scale(new, new_r))
            s, y = new - x, new_r - r
            x, r = new, new_r
            if unit is not None:  # the update is the same for any common factor
                s, y = s * layout.spread(unit, x), y * layout.spread(unit, x)
            used, slot = min(progress.step, m), (progress.step - 1) % m
            left[slot] = 0
            known, duals = left[:used], right[:used]
            hy = self.inverse * y + layout.combine(layout.dots(duals, y), known)
            sh = self.inverse * s + layout.combine(layout.dots(known, s), duals)
            shy = layout.dot(s, hy)
            usable = shy.abs() > small * layout.norm(s) * layout.norm(hy)
            factor = torch.where(usable, 1 / torch.where(usable, shy, 1.0), 0.0)
            left[slot] = (s - hy) * layout.spread(factor, x)
            right[slot] = sh
            step = self.inverse * r + layout.combine(layout.dots(duals, r), known)
        out = progress.outcome(task.evaluations)
        if self.share:

            def inverse(v: Tensor, transposed: bool) -> Tensor:
                first, second = (left, right) if transposed else (right, left)
                return self.inverse * v + layout.combine(layout.dots(first, v), second)

            out.inverse = inverse
        return out
