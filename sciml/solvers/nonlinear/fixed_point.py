"""Fixed-point iterations: damped, and with Anderson's acceleration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import SolverProgress, check_counts, check_numbers, check_tolerances
from sciml.solvers.norms import unit_of
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class FixedPointIteration:
    """`x <- x - damping (x - T(x))`; for a root F, `x <- x - damping F(x)`.

    Converges if the map is a contraction in some norm. The residual tested is the undamped one.

    Args:
        rtol: Tolerance on |x - T(x)| / |T(x)| (for a root: over |F(x0)|); None takes 1e-10 in
            float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        damping: Step tau in (0, 1].
        every: Iterations between looks at the device; None chooses.

    Raises:
        InvalidArgument: For tolerances that cannot work, or a damping outside (0, 1].

    Example:
        >>> import torch
        >>> from sciml.solvers import FixedPointIteration, fixed_point
        >>> solver, start = FixedPointIteration(rtol=1e-6), torch.zeros(1, 1)
        >>> found = fixed_point(torch.cos, start, solver=solver, on_failure="raise")
        >>> round(found.value.item(), 3)
        0.739
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 1000
    damping: float = 1.0
    every: int | None = None
    differentiable = True  # no step writes into a tensor that an earlier one recorded

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_tolerances(self.rtol, self.atol, self.max_iter)
        check_numbers(damping=self.damping)
        if not 0 < self.damping <= 1:
            raise InvalidArgument(f"damping={self.damping}", "above 0 and at most 1")

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        limits = (self.rtol, self.atol, self.max_iter, self.every)
        progress = SolverProgress(task.layout, x, *limits, blind=task.kind != "fixed_point")
        r = task.residual(x)
        progress.update(x, task.layout.norm(r), task.scale(x, r))
        while progress.go_on():
            x = progress.keep(x - (r if self.damping == 1 else self.damping * r))
            r = task.residual(x)
            progress.update(x, task.layout.norm(r), task.scale(x, r))
        return progress.outcome(task.evaluations)


@typed
@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration, type II, with coefficients per problem.

    With residuals r and differences X, R of the last `window` iterates and residuals,

        x <- x - beta r - (X - beta R) gamma,    gamma = argmin |r - R gamma|.

    The normal equations are equilibrated before the ridge is added, so it is relative however small
    the residuals get; they are kept and solved in float64. A residual `growth` times the best one
    drops the history.

    Source: Walker & Ni 2011, SIAM J. Numer. Anal. 49(4).

    Args:
        rtol: Tolerance on |x - T(x)| / |T(x)| (for a root: over |F(x0)|); None takes 1e-10 in
            float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        window: Differences kept, m.
        mixing: beta in (0, 1].
        ridge: Relative ridge; None takes 1e-12 in float64, 1e-8 below.
        growth: Growth of the residual that restarts.
        every: Iterations between looks at the device; None chooses.

    Raises:
        InvalidArgument: If `window` is below 1, or tolerances cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import Anderson, fixed_point
        >>> solver, start = Anderson(window=3), torch.zeros(2, 1)
        >>> found = fixed_point(torch.cos, start, solver=solver, on_failure="raise")
        >>> [round(v, 3) for v in found.value[:, 0].tolist()], bool((found.iterations < 15).all())
        ([0.739, 0.739], True)
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 200
    window: int = 6
    mixing: float = 1.0
    ridge: float | None = None
    growth: float = 2.0
    every: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_tolerances(self.rtol, self.atol, self.max_iter)
        check_counts(window=self.window)
        if self.window < 1:
            raise InvalidArgument(
                f"window={self.window}", "at least 1", "Or type FixedPointIteration()"
            )

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout, m, beta = task.layout, self.window, self.mixing
        limits = (self.rtol, self.atol, self.max_iter, self.every)
        progress = SolverProgress(layout, x, *limits, blind=task.kind != "fixed_point")
        ridge = self.ridge or (1e-12 if x.dtype == torch.float64 else 1e-8)
        r = task.residual(x)
        norm = layout.norm(r)
        progress.update(x, norm, task.scale(x, r))
        residuals, updates = x.new_zeros(m, *x.shape), x.new_zeros(m, *x.shape)
        shape = layout.problems(x)
        gram = torch.zeros(*shape, m, m, dtype=torch.float64, device=x.device)
        valid = torch.zeros(*shape, m, dtype=torch.bool, device=x.device)
        identity = ridge * torch.eye(m, dtype=torch.float64, device=x.device)
        unit = unit_of(layout.norm(r, torch.inf))
        mixed = x - beta * r if beta != 1 else x - r
        x = mixed
        while progress.go_on():
            x = progress.keep(x)
            new_r = task.residual(x)
            norm = layout.norm(new_r)
            progress.update(x, norm, task.scale(x, new_r))
            j, k = (progress.step - 1) % m, min(progress.step, m)
            new_mixed = x - beta * new_r if beta != 1 else x - new_r
            torch.sub(new_r, r, out=residuals[j])
            torch.sub(new_mixed, mixed, out=updates[j])
            r, mixed = new_r, new_mixed
            target = r
            if unit is not None:
                residuals[j] *= layout.spread(unit, x)
                target = r * layout.spread(unit, x)
            row = layout.dots(residuals[:k], residuals[j]).movedim(0, -1).double()
            gram[..., j, :k] = row
            gram[..., :k, j] = row
            valid[..., j] = True
            valid &= (norm <= self.growth * progress.residual)[..., None]
            size = gram.diagonal(dim1=-2, dim2=-1).sqrt()
            inverse = torch.where(valid & (size > 0), 1 / size, 0.0)
            matrix = inverse[..., :, None] * gram * inverse[..., None, :] + identity
            rhs = inverse[..., :k] * layout.dots(residuals[:k], target).movedim(0, -1)
            solved = torch.linalg.solve_ex(matrix[..., :k, :k], rhs[..., None])[0][..., 0]
            gamma = (inverse[..., :k] * solved).movedim(-1, 0).to(x.dtype)
            x = mixed - layout.combine(gamma, updates[:k])
        return progress.outcome(task.evaluations)
