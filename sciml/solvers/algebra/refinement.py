"""Linear solves that begin with what is at hand: a factor from the forward solve, then others.

Newton's method factors the Jacobian at its last iterate but one, a step of 1e-6 or so before the
solution. Iterative refinement with that factor,

    x <- x + H (b - A x),    H close to A^{-1},

multiplies the error by I - H A, of the size of that step: two or three products with the true A
give the solution to round-off, without assembling A at the solution.

Source: Wilkinson 1963, Rounding Errors in Algebraic Processes (refinement); Higham 2002, Accuracy
and Stability of Numerical Algorithms, 2nd ed., chapter 12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.algebra.shine import ForwardInverse
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance
from sciml.solvers.layout import Layout
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed

CLOSE = 0.05  # |b - A H b| / |b| up to which H is worth refining with
HALF = 0.5  # a correction that gains less has met round-off
STEPS = 10


@typed
@dataclass(frozen=True)
class Refinement:
    """Iterative refinement with the inverse that the forward solver left.

    Problems for which that inverse is not close enough are left unsolved, `STALLED`; put another
    solver behind, `Cascade((Refinement(), GMRES()))`. A problem is solved once its relative
    residual or the last correction relative to the solution is within `rtol`; refinement goes on
    to round-off, or to a thousandth of `rtol`, whichever comes first.

    Args:
        rtol: Relative tolerance; None takes 1e-10 in float64, 1e-5 below.

    Raises:
        InvalidArgument: For a tolerance that is always or never met; from the call, if the forward
            solver left no inverse.

    Example:
        >>> import torch
        >>> from sciml.solvers import Implicit, Newton, Refinement, root
        >>> a = torch.tensor([[2.0], [9.0]], requires_grad=True)
        >>> rule = Implicit(Refinement())  # takes the factor of Newton's last step
        >>> found = root(
        ...     lambda x, a: x**2 - a, torch.ones(2, 1), (a,),
        ...     solver=Newton(), adjoint=rule, on_failure="raise",
        ... )
        >>> found.value.sum().backward()
        >>> [round(v, 4) for v in a.grad[:, 0].tolist()]  # 1 / (2 sqrt(a))
        [0.3536, 0.1667]
    """

    rtol: float | Tensor | None = None
    approximate = False

    def __post_init__(self) -> None:
        """Check the tolerance."""
        check_tolerances(self.rtol, 0.0)

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve `A x = b`; `x0` is not used."""
        layout, inverse = operator.layout, ForwardInverse()(operator)
        rtol = default_tolerance(b.dtype) if self.rtol is None else self.rtol
        goal = max(1e-3 * rtol, 2 * torch.finfo(b.dtype).eps)
        scale = layout.norm(b)
        x = inverse(b)
        # 0 / 0 where a failed problem asks for nothing
        x = _put(layout, scale > 0, x, torch.zeros_like(b))
        r = b - operator.matvec(x)
        norm = layout.norm(r)
        close = norm <= CLOSE * scale
        going, change = close & (norm > goal * scale), torch.full_like(norm, torch.inf)
        used = torch.ones_like(norm, dtype=torch.long)
        for _ in range(STEPS):
            if not bool(going.any()):
                break
            step = inverse(r)
            new = x + step
            new_r = b - operator.matvec(new)
            new_norm = layout.norm(new_r)
            size = layout.norm(step) / layout.norm(x).clamp_min(torch.finfo(b.dtype).tiny)
            change, used = torch.where(going, size, change), used + going
            better = going & (new_norm < norm)
            x, r = _put(layout, better, new, x), _put(layout, better, new_r, r)
            going = going & (new_norm <= HALF * norm) & (new_norm > goal * scale)
            norm = torch.where(better, new_norm, norm)
        relative = norm / scale.clamp_min(torch.finfo(b.dtype).tiny)
        solved = (norm <= rtol * scale) | (close & (change <= rtol))
        status = torch.where(solved, int(Status.CONVERGED), int(Status.STALLED))
        status = torch.where(norm.isfinite(), status, int(Status.NONFINITE))
        return Outcome(x, status, used, norm, relative)


def _put(layout: Layout, which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return `new` for some problems and `old` for the others."""
    if new.device.type == "cpu" and bool(which.all()):  # most often; then nothing has to be copied
        return new
    return torch.where(layout.spread(which, new), new, old)


@typed
@dataclass(frozen=True)
class Cascade:
    """Linear solvers in turn; each takes the problems that those before it left unsolved.

    Args:
        solvers: Cheapest first.
        resume: Whether a solver starts where the one before it stopped, not at `x0`. The status of
            a problem is that of its last solver, iterations are those of all.

    Example:
        >>> import torch
        >>> from sciml.solvers import GMRES, Cascade, Dense, linear_solve
        >>> a, b = torch.linspace(1.0, 1000.0, 50), torch.ones(1, 50)
        >>> cascade = Cascade((GMRES(max_iter=5), Dense()))
        >>> found = linear_solve(lambda x: a * x, b, linear=cascade, on_failure="raise")
        >>> found.stats["stage"].tolist()  # five products were too few: the direct solver took over
        [1]
    """

    solvers: tuple[Any, ...]
    resume: bool = False

    @property
    def approximate(self) -> bool:
        """Whether any of them biases the derivative."""
        return any(solver.approximate for solver in self.solvers)

    @property
    def name(self) -> str:
        """Return the names of all, for messages."""
        return ", then ".join(type(solver).__name__ for solver in self.solvers)

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve `A x = b`."""
        layout = operator.layout
        out: Outcome = self.solvers[0](operator, b, x0)
        stage = torch.zeros_like(out.status)
        for place, solver in enumerate(self.solvers[1:], 1):
            left = (out.status != Status.CONVERGED) & layout.norm(b).isfinite()
            if not bool(left.any()):
                break
            wide = layout.spread(left, b)
            start = torch.where(out.value.isfinite(), out.value, 0.0) if self.resume else x0
            again: Outcome = solver(operator, torch.where(wide, b, torch.zeros_like(b)), start)
            stage = torch.where(left, place, stage)
            out = Outcome(
                torch.where(wide, again.value, out.value),
                torch.where(left, again.status, out.status),
                out.iterations + torch.where(left, again.iterations, 0),
                torch.where(left, again.residual, out.residual),
                torch.where(left, again.relative, out.relative),
                out.evaluations + again.evaluations,
            )
        out.stage = stage
        return out
