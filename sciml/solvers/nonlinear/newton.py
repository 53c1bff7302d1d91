"""Newton's method, with a dense or a Krylov solver inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sciml.solvers.algebra.dense import Dense
from sciml.solvers.algebra.gmres import GMRES
from sciml.solvers.algebra.krylov import Krylov
from sciml.solvers.algebra.linear_operators import Operator, Product
from sciml.solvers.bookkeeping import SolverProgress, at_rest, check_tolerances
from sciml.solvers.layout import Layout
from sciml.solvers.problem import Task
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed

DECREASE = 1e-4  # of Armijo's condition on |F|
# A full step multiplies |F| by (1 - 1/k)^k < 1/e at a root of order k, by (1 + 1/k)^-k > 1/e at a
# pole of order k.
ROOT = 0.3679
HALVINGS = 12
NOISE = 1e3  # times what rounding x does to F, round-off of F itself included
PROBE = 64.0  # steps (or round-offs of x) at which |F| is compared


@typed
@dataclass(frozen=True)
class Newton:
    """Newton's method with a direct solver and Armijo's line search on |F| per problem.

    A problem is converged once |F| meets the tolerance and the next step would be short, or once
    the full step is below `rtol |x|` and |F| grows beyond it, as it does at a root and not beside a
    pole. Steps estimate the error whatever the units of F. The last factor is left to
    the derivative, see `sciml.solvers.algebra.refinement`.

    Args:
        rtol: Tolerance on |F| / |F(x0)| (for a fixed point: over |T(x)|) and on the step; None
            takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance on |F|.
        max_iter: Largest number of steps.
        linear: Direct solver for the step.
        refresh: Steps that share one factor (1: Newton; more: chord method).
        every: Steps between looks at the device; None chooses.

    Raises:
        InvalidArgument: For tolerances that cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import Newton, root
        >>> a = torch.tensor([[2.0], [9.0]])
        >>> found = root(lambda x: x**2 - a, torch.ones(2, 1), solver=Newton(), on_failure="raise")
        >>> [round(v, 4) for v in found.value[:, 0].tolist()]
        [1.4142, 3.0]
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 50
    linear: Callable[[Operator, Tensor], Outcome] = field(default_factory=Dense)
    refresh: int = 1
    every: int | None = None

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout = task.layout
        progress = SolverProgress(layout, x, self.rtol, self.atol, self.max_iter, self.every)
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


@typed
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

    Raises:
        InvalidArgument: For tolerances that cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import NewtonKrylov, root
        >>> def residual(u):  # -u'' + u^3 = 1 with u = 0 at both ends, 15 points
        ...     padded = torch.nn.functional.pad(u, (1, 1))
        ...     return 256 * (2 * u - padded[:, :-2] - padded[:, 2:]) + u**3 - 1.0
        >>> start = torch.zeros(1, 15, dtype=torch.float64)
        >>> found = root(residual, start, solver=NewtonKrylov(), on_failure="raise")
        >>> round(found.value.max().item(), 4)
        0.1248
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 50
    linear: Krylov = field(default_factory=GMRES)
    forcing: float = 0.5
    every: int | None = None

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, task: Task, x: Tensor) -> Outcome:
        """Iterate from `x`."""
        layout = task.layout
        progress = SolverProgress(layout, x, self.rtol, self.atol, self.max_iter, self.every)
        r = task.residual(x)
        norm = layout.norm(r)
        scale = task.scale(x, r)
        progress.update(x, norm, scale)
        eta, tiny = torch.full_like(norm, self.forcing), torch.finfo(x.dtype).tiny
        operator = None
        while progress.go_on():
            # never solve beyond what the outer tolerance asks for
            floor = 0.3 * (self.atol + progress.rtol * scale) / norm.clamp_min(tiny)
            inner = replace(self.linear, rtol=eta.clamp_min(1e-14).maximum(floor).clamp_max(0.9))
            operator = task.linearise(x)
            solved = inner(operator, -r)
            x, r = _advance(task, progress, x, r, solved)
            old, norm = norm, layout.norm(r)
            scale = task.scale(x, r)
            choice = 0.9 * (norm / old.clamp_min(tiny)) ** 2
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
    task: Task, progress: SolverProgress, x: Tensor, r: Tensor, solved: Outcome
) -> tuple[Tensor, Tensor]:
    """Take a step, update the progress, and return the new iterate and residual."""
    layout: Layout = task.layout
    dx, old = solved.value, layout.norm(r)
    size = layout.norm(dx)
    progress.finish(solved.status == Status.NONFINITE, Status.NONFINITE)
    progress.finish(~size.isfinite(), Status.SINGULAR)
    tiny = (size <= progress.rtol * layout.norm(x)) & (solved.status == Status.CONVERGED)
    t, new, new_r, fine = _line_search(task, progress.active & ~tiny, x, dx, old)
    new = progress.keep(new)
    norm = layout.norm(new_r)
    rest = None  # |T(x)| is a scale that no start spoils
    if task.kind != "fixed_point":
        rest = at_rest(layout, (x, old), (new, norm), t * size, progress.rtol)
        # what an inexact step was not asked to remove may stay
        rest = rest & (norm <= (2 * solved.relative).clamp_min(ROOT) * old)
    landed = tiny & (norm <= 10 * old)  # round-off may raise |F| a little
    if bool(landed.any()):
        landed = landed & _grows(task, new, dx, norm)
        small = norm <= progress.rtol**0.5 * task.scale(new, new_r)
        landed = landed & (small | (norm <= NOISE * _noise(task, new, new_r)))
    progress.update(new, norm, task.scale(new, new_r), landed, rest)
    unsolved = solved.status == Status.SINGULAR
    progress.finish(~fine & unsolved, Status.SINGULAR)
    progress.finish(~fine & ~unsolved, Status.STALLED)
    return new, new_r


def _grows(task: Task, x: Tensor, dx: Tensor, norm: Tensor) -> Tensor:
    """Return where |F| is larger further along the step: so at a root, and not beside a pole."""
    layout = task.layout
    visible = torch.finfo(x.dtype).eps * layout.norm(x)
    reach = PROBE * (visible / layout.norm(dx)).clamp_min(1.0)
    return layout.norm(task.residual(x + layout.spread(reach, x) * dx)) > norm


def _noise(task: Task, x: Tensor, r: Tensor) -> Tensor:
    """Return what rounding the unknowns does to F, `(*P)`.

    A short step beside |x| says little where entries differ by orders of magnitude: the small ones
    may be far from a root.
    """
    return task.layout.norm(task.residual(x * (1 + torch.finfo(x.dtype).eps)) - r)


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
