"""What a solve returns, per problem, and what happens to problems that failed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.errors import ConvergenceError, InvalidArgument, NumericalWarning

Policy = Literal["raise", "warn", "mask", "best"]
POLICIES = ("raise", "warn", "mask", "best")


class Status(IntEnum):
    """How a problem ended.

    Example:
        >>> import torch
        >>> from sciml.solvers import FixedPointIteration, Status, fixed_point
        >>> few = FixedPointIteration(max_iter=3)
        >>> found = fixed_point(torch.cos, torch.zeros(1, 1), solver=few, on_failure="best")
        >>> Status(found.status.item()).name
        'MAX_ITER'
    """

    RUNNING = -1
    CONVERGED = 0
    MAX_ITER = 1
    STALLED = 2
    DIVERGED = 3
    NONFINITE = 4
    SINGULAR = 5
    INFEASIBLE = 6
    UNBOUNDED = 7
    NONCONVEX = 8
    PRECONDITIONER = 9


MEANING = {
    Status.MAX_ITER: "used all iterations",
    Status.STALLED: "stopped improving (a tolerance below round-off, or no solution)",
    Status.DIVERGED: "had a growing residual",
    Status.NONFINITE: "met NaN or infinity",
    Status.SINGULAR: "met a singular matrix",
    Status.INFEASIBLE: "had constraints that contradict each other",
    Status.UNBOUNDED: "fell without bound on the feasible set",
    Status.NONCONVEX: "had a quadratic form with a negative eigenvalue",
    Status.PRECONDITIONER: "had a preconditioner that is not positive definite or hardly helps",
}

CURES = (
    "Raise max_iter, damp the iteration or start closer; on_failure='warn', 'mask' or 'best' "
    "carries on"
)


@dataclass
class Outcome:
    """The result of an iteration, before policies; P is the shape of the problems.

    Attributes:
        value: Best iterate, shape of the unknown.
        status: `(*P)` integers, see `Status`.
        iterations: `(*P)` integers.
        residual: `(*P)` norm of the residual at `value`.
        relative: `(*P)` the same over the scale the tolerance refers to.
        evaluations: How often the function (or operator) was applied to the whole batch.
        inverse: `(v, transposed) -> H v`, an approximate inverse of the Jacobian at the value, from
            solvers that were asked to share theirs.
        stage: Of a cascade of solvers: `(*P)` integers, the place of the one that each problem
            ended with; None for a single solver.

    Example:
        >>> import torch
        >>> from sciml.solvers import CG, Operator, Rows
        >>> double = Operator(lambda x: 2 * x, None, torch.zeros(1, 3), Rows(), symmetric=True)
        >>> outcome = CG()(double, torch.ones(1, 3))
        >>> outcome.value.tolist(), outcome.iterations.tolist()
        ([[0.5, 0.5, 0.5]], [1])
    """

    value: Tensor
    status: Tensor
    iterations: Tensor
    residual: Tensor
    relative: Tensor
    evaluations: int = 0
    inverse: Any = None
    stage: Tensor | None = None


@dataclass
class LinearReport:
    """What the newest linear solve of the derivative did; None before the first backward pass."""

    outcome: Outcome | None = None


@dataclass
class Solution:
    """Solution of a batch of problems; P is the shape of the problems.

    Attributes:
        value: Shape of the unknown; carries the implicit derivative.
        status: `(*P)` integers, see `Status`.
        iterations: `(*P)` integers.
        residual: `(*P)` norm of the optimality residual at `value`, in the units of the function.
        stats: `relative`: `(*P)`, residual over the scale its tolerance refers to; `evaluations`:
            calls of the function on the whole batch; `stage`, from a cascade of linear solvers:
            `(*P)`, the place of the one that each problem ended with, above 0 after a fall-back.
        adjoint: The newest linear solve of the derivative, filled by the backward pass.

    Example:
        >>> import torch
        >>> from sciml.solvers import root
        >>> a = torch.tensor([[4.0], [-1.0]])  # the second has no root
        >>> found = root(lambda x: x**2 - a, torch.ones(2, 1), on_failure="best")
        >>> found.converged.tolist(), round(found.value[0].item(), 3)
        ([True, False], 2.0)
    """

    value: Any
    status: Tensor
    iterations: Tensor
    residual: Tensor
    stats: dict[str, Any] = field(default_factory=dict)
    adjoint: LinearReport = field(default_factory=LinearReport)

    @property
    def converged(self) -> Tensor:
        """Return `(*P)` booleans: multiply a loss per problem by it to leave failures out."""
        return self.status == Status.CONVERGED

    def log(self, layer: str) -> dict[str, Tensor]:
        """Return `implicit/<layer>/...` scalars for `LightningModule.log_dict`.

        `bwd_residual` and `bwd_iters` appear after a backward pass. Nothing is synchronised.
        """
        out = {
            "fail_frac": (~self.converged).double().mean(),
            "iters_mean": self.iterations.double().mean(),
            "iters_max": self.iterations.amax() if self.iterations.numel() else torch.tensor(0),
        }
        done = self.adjoint.outcome
        if done is not None and done.relative.numel():
            out |= {"bwd_residual": done.relative.amax(), "bwd_iters": done.iterations.amax()}
        return {f"implicit/{layer}/{name}": value for name, value in out.items()}


def check_policy(policy: str) -> None:
    """Refuse an unknown policy.

    Raises:
        InvalidArgument: Listing the known ones.
    """
    if str(policy) not in POLICIES:
        raise InvalidArgument(
            f"on_failure={policy!r}", f"one of {', '.join(POLICIES)}", "Type on_failure='raise'"
        )


def settle(
    outcome: Outcome,
    policy: Policy,
    what: str,
    tolerance: str,
    cures: Callable[[], str] | None = None,
) -> None:
    """Raise or warn if problems failed and the policy says so.

    Args:
        outcome: What the solver did.
        policy: `raise` and `warn` act here, `mask` and `best` where the derivative is attached.
        what: Name of the solve and its solver, for the message.
        tolerance: The tolerances in words.
        cures: Returns what to type; None takes the cures of a forward solve.

    Raises:
        ConvergenceError: Under `raise`, with counts, causes and cures.
    """
    if policy not in ("raise", "warn"):
        return
    failed = outcome.status != Status.CONVERGED
    if not bool(failed.any()):
        return
    if policy == "warn":
        # constant text: Python's own filter then shows it once
        warnings.warn(
            f"{what} left problems unsolved; Solution.status, .iterations and .residual say which. "
            "on_failure='raise' stops there, 'mask' drops their gradient",
            NumericalWarning,
            stacklevel=2,
        )
        return
    found = outcome.status[failed].unique().tolist()
    causes = "; ".join(f"{int((outcome.status == s).sum())} {MEANING[Status(s)]}" for s in found)
    worst = outcome.relative[failed]
    worst = worst[worst.isfinite()]
    residual = f"{float(worst.max()):.1e}" if worst.numel() else "not finite"
    longest = int(outcome.iterations.max())
    raise ConvergenceError(
        f"{what} failed for {int(failed.sum())} of {failed.numel()} problems after up to {longest} "
        f"iterations ({causes}); worst relative residual {residual}",
        tolerance,
        cures() if cures else CURES,
    )
