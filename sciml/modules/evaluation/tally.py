"""Means and maxima of what solvers did in an evaluation: sums over chunks and ranks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.modules.evaluation.scores import everyone
from sciml.solvers import Solution


class Tally:
    """Figures by name, each the mean or the largest of all values noted under it."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}
        self._peaks: dict[str, float] = {}

    def mean(self, name: str, values: Tensor | float) -> None:
        """Note values of which the mean is wanted; booleans count as 0 and 1."""
        values = torch.as_tensor(values, dtype=torch.float64)
        self._add(name, float(values.sum()), values.numel())

    def peak(self, name: str, values: Tensor | float) -> None:
        """Note values of which the largest is wanted; NaN counts as the largest."""
        values = torch.as_tensor(values, dtype=torch.float64)
        if values.numel():
            self._raise(name, float(values.max()))

    def solve(self, name: str, solution: Solution) -> None:
        """Note iterations, residuals and failures of an equilibrium under `<name>/...`."""
        self.mean(f"{name}/iters_mean", solution.iterations)
        self.peak(f"{name}/iters_max", solution.iterations)
        self.peak(f"{name}/residual_max", solution.stats["relative"])
        self.mean(f"{name}/fail_frac", ~solution.converged)

    def _add(self, name: str, total: float, count: int) -> None:
        old = self._sums.get(name, (0.0, 0))
        self._sums[name] = old[0] + total, old[1] + count

    def _raise(self, name: str, value: float) -> None:
        old = self._peaks.get(name, value)
        self._peaks[name] = value if math.isnan(value) else max(old, value)  # max(nan, 1.0) is nan

    def gathered(self) -> dict[str, float]:
        """Return the figures of all ranks together."""
        whole = Tally()
        for sums, peaks in everyone((self._sums, self._peaks)):
            for name, (total, count) in sums.items():
                whole._add(name, total, count)
            for name, value in peaks.items():
                whole._raise(name, value)
        means = {name: total / max(count, 1) for name, (total, count) in whole._sums.items()}
        return means | whole._peaks


def step_figures(solution: Solution) -> dict[str, float]:
    """Return what the solve of a training step and its adjoint did, as `deq/...`."""
    found = {k.rpartition("/")[2]: float(v) for k, v in solution.log("z").items()}
    found["residual_max"] = float(solution.stats["relative"].amax())
    return {f"deq/{name}": value for name, value in found.items()}
