"""Problems in space and time: axes, random inputs, and a solver of their own."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.checks import check_number
from sciml.solvers import Outcome, Solution, Status
from sciml.solvers.solution import Policy, check_policy, settle


class EvolutionProblem(Protocol):
    """A family of problems with fields in and one field in space and time out.

    Attributes:
        times: Stored times `(nt,)`, the first one is that of the initial state.
        grids: One tensor of coordinates per direction of space, `(n_x,)`, `(n_y,)`, ...
        periods: Length of the period of every direction; None where it is not periodic.
        channels: Names of the fields that `sample` returns.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import EvolutionProblem, Heat
        >>> problem: EvolutionProblem = Heat(points=32, time_count=5)
        >>> problem.channels, problem.periods, tuple(problem.times.shape)
        (('initial',), (1.0,), (5,))
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> tuple(inputs.shape), tuple(problem.solve(inputs).value.shape)
        ((2, 1, 32), (2, 5, 32))
    """

    times: Tensor
    grids: tuple[Tensor, ...]
    periods: tuple[float | None, ...]
    channels: tuple[str, ...]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return inputs `(count, channels, *grid)`, float64."""

    def solve(self, inputs: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return values `(count, nt, *grid)`, float64, with status and residual per problem."""


def check_inputs(problem: EvolutionProblem, inputs: Tensor) -> Tensor:
    """Return inputs in float64 after comparing their shape with what the problem samples.

    Raises:
        InvalidType: If they are no tensor of real numbers.
        InvalidArgument: For another shape.
    """
    name, channels = type(problem).__name__, ", ".join(problem.channels)
    if not isinstance(inputs, Tensor) or inputs.is_complex():
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InvalidType(f"inputs of type {kind}", "a tensor of real numbers")
    wanted = (len(problem.channels), *(len(grid) for grid in problem.grids))
    if tuple(inputs.shape[1:]) != wanted or inputs.dim() != len(wanted) + 1:
        raise InvalidArgument(
            f"inputs of shape {tuple(inputs.shape)} for {name}",
            f"(samples, {', '.join(map(str, wanted))}) with the channels {channels}",
            "problem.sample(n, generator) returns that shape",
        )
    return inputs.double()


def stored_times(horizon: float, count: int, grading: float = 1.0) -> Tensor:
    """Return `count` times from 0 to `horizon`, float64: horizon (i / (count - 1))^grading.

    Raises:
        InvalidArgument: For fewer than two, or a grading below 1.
    """
    if not isinstance(count, int) or isinstance(count, bool) or not 2 <= count < 2**31:
        raise InvalidArgument(f"problem.time_count={count}", "an integer of at least 2, below 2^31")
    grading = check_number("problem.grading", grading, 1.0)
    return horizon * torch.linspace(0, 1, count, dtype=torch.float64) ** grading


def training_levels(times: Tensor, share: float) -> int:
    """Return how many of the stored times `(nt,)` make up a share of the horizon, at least 3."""
    nearest = int((times - share * times[-1]).abs().argmin())
    return min(max(nearest + 1, 3), len(times))


def check_cells(name: str, value: int, least: int = 4) -> int:
    """Return a number of cells or points, or refuse what is no integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise InvalidArgument(
            f"problem.{name}={value}", f"an integer of at least {least}, below 2^31"
        )
    return value


def exact_solution(value: Tensor, on_failure: Policy, what: str) -> Solution:
    """Return values `(count, nt, ...)` of a formula; samples that are not finite have failed.

    Raises:
        ConvergenceError: Under `raise`, if there are such.
    """
    check_policy(on_failure)
    finite = value.isfinite().flatten(1).all(1)
    status = torch.where(finite, int(Status.CONVERGED), int(Status.NONFINITE))
    none = torch.zeros_like(status)
    residual = torch.where(finite, 0.0, torch.nan).double()
    outcome = Outcome(value, status, none, residual, residual)
    settle(outcome, on_failure, f"the exact solution of {what}", "finite inputs")
    return Solution(value, status, none, residual, {"relative": residual, "evaluations": 0})


def no_solution(problem: EvolutionProblem) -> Solution:
    """Return the solution of no samples, for which Fourier transforms have no answer."""
    shape = (0, len(problem.times), *(len(grid) for grid in problem.grids))
    return exact_solution(torch.zeros(shape, dtype=torch.float64), "raise", "no sample")
