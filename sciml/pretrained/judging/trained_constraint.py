"""Trained operators whose output obeys an equation: how wrong they are, and what their experts did.

Their equation knows its problem, which samples inputs and solves them by a method of its own
(`sciml.physics.evolution`). Fresh instances are solved both ways; the residual of the equation
stands beside the error, for the operator and for the solver's own solution, whose residual is what
the discretisation of the rows leaves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.spectral.constrained_fno import ConstrainedOperator
from sciml.physics.evolution.evolution_problem import training_levels
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator


@dataclass(frozen=True)
class Horizon:
    """What was found for n instances up to one time.

    Attributes:
        times: First and last time that is judged; None without time.
        error: `(n,)` relative L2 error against the problem's own solver.
        residual: `(n,)` root mean square of the equation over the assembled field, all levels.
        own: `(n,)` the same of the solver's solution.
        converged: `(n, K)` experts.
        iterations: `(n, K)`.
        jump: `(n,)` root mean square of the jumps between experts.
    """

    times: tuple[float, float] | None
    error: Tensor
    residual: Tensor
    own: Tensor
    converged: Tensor
    iterations: Tensor
    jump: Tensor


@dataclass(frozen=True)
class ConstrainedVerification:
    """Errors of a constrained operator on fresh instances.

    Attributes:
        problem: Name of the problem.
        horizons: In the time of training, and beyond it where the problem goes on.
        seconds: Wall time of one instance: the operator, and the problem's solver.
    """

    problem: str
    horizons: tuple[Horizon, ...]
    seconds: tuple[float, float]

    def within(self, tolerance: float) -> bool:
        """Return whether the mean error in the time of training is at most `tolerance`."""
        return float(self.horizons[0].error.mean()) <= tolerance


def is_constrained(model: object) -> bool:
    """Return whether a model is an operator that `verify_constrained` can judge."""
    return isinstance(getattr(model, "network", None), ConstrainedOperator)


@torch.no_grad()
def verify_constrained(
    model: PretrainedOperator, count: int, generator: torch.Generator
) -> ConstrainedVerification:
    """Solve fresh instances by the operator and by its problem's own solver.

    Args:
        model: The operator.
        count: Instances, n.
        generator: Their source, on the CPU.

    Raises:
        InvalidArgument: For another kind of model, or no instance.
        ConvergenceError: If the problem's own solver fails.
    """
    if not is_constrained(model) or count < 1:
        raise InvalidArgument(
            f"{count} instances for {type(getattr(model, 'network', model)).__name__}",
            "at least one, for an operator with a constraint",
        )
    equation = model.network.equation
    problem = equation.problem
    inputs = problem.sample(count, generator)
    started = time.perf_counter()
    exact = problem.solve(inputs).value
    solver = (time.perf_counter() - started) / count
    timed = len(problem.times) > 1
    recipe = model.spec["data"].get("recipe") or {}
    levels = training_levels(problem.times, float(recipe.get("share", 1.0))) if timed else 1
    ends = [levels, *([len(problem.times)] if levels < len(problem.times) else [])]
    horizons, seconds, first = [], 0.0, 0
    layer = model.network.constraint
    for end in ends:
        given = {"field": inputs}
        if timed:
            given["times"] = equation.level_times(end)
        started = time.perf_counter()
        out = model.predict(**given)
        seconds = seconds or (time.perf_counter() - started) / count
        truth = exact[:, :end] if timed else exact[:, 0]
        own = layer.residual(truth, inputs).flatten(1).square().mean(1).sqrt()
        gap = out["value"].double().cpu() - truth
        if timed:  # beyond training, what lies there
            gap, truth = gap[:, first:], truth[:, first:]
        horizons.append(
            Horizon(
                (float(problem.times[first]), float(problem.times[end - 1])) if timed else None,
                gap.flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1),
                out["residual"].double().cpu(),
                own,
                out["converged"].cpu(),
                out["iterations"].cpu(),
                out["jump"].double().cpu(),
            )
        )
        first = end
    return ConstrainedVerification(type(problem).__name__, tuple(horizons), (seconds, solver))
