"""Results of a verification by walks: errors with confidence intervals, and the worst points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy.stats import t as student
from torch import Tensor

from sciml.physics.walks.estimate import Estimate

# The one definition of a relative error here, in print and in records.
DEFINITION = "root of mean squared error over mean square, over all problems and points together"


@dataclass(frozen=True)
class ErrorInterval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the value with the interval behind it."""
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class WorstPoint:
    """A point where the value looks worst, walked to again with fresh walks.

    Attributes:
        problem: Number of the problem.
        point: Its coordinates.
        predicted: The value judged.
        estimate: The walks' mean.
        standard_error: Of the estimate.
    """

    problem: int
    point: tuple[float, ...]
    predicted: float
    estimate: float
    standard_error: float


@dataclass(frozen=True)
class Verification:
    """What walks say about an approximate solution.

    Attributes:
        rel_l2: `DEFINITION`: the root of the mean squared error over the mean square of the
            solution, means over all problems and their points together.
        rms: Square root of the mean squared error.
        confidence: Of the intervals.
        points: `(B, P, d)`, predicted and `estimate.mean` `(B, P)`: what the pictures show.
        predicted: `(B, P)`.
        estimate: The walks.
        squared: `(B,)` unbiased squared error of every problem; may be negative.
        worst: Points where value and walks differ most, walked to again.
    """

    rel_l2: ErrorInterval
    rms: ErrorInterval
    confidence: float
    points: Tensor
    predicted: Tensor
    estimate: Estimate
    squared: Tensor
    worst: list[WorstPoint]

    def rescaled(self, place: Callable[[Tensor], Tensor], unit: float) -> Verification:
        """Return the same with points and values in other units.

        Args:
            place: Of points `(B, P, d)`.
            unit: What values are multiplied with.
        """
        e, u = self.estimate, unit
        moved = replace(e, mean=e.mean * u, squares=e.squares * u**2, halves=e.halves * u)
        worst = [
            WorstPoint(
                w.problem,
                tuple(place(torch.tensor([[w.point]], dtype=torch.float64))[0, 0].tolist()),
                w.predicted * u,
                w.estimate * u,
                w.standard_error * u,
            )
            for w in self.worst
        ]
        return replace(
            self,
            rms=ErrorInterval(self.rms.value * u, self.rms.low * u, self.rms.high * u),
            points=place(self.points),
            predicted=self.predicted * u,
            estimate=moved,
            squared=self.squared * u**2,
            worst=worst,
        )

    def verdict(self, tolerance: float) -> str:
        """Return "within", "beyond" or "undecided": where the interval of rel_l2 lies."""
        if self.rel_l2.high <= tolerance:
            return "within"
        return "beyond" if self.rel_l2.low > tolerance else "undecided"


def intervals(
    error: Tensor, size: Tensor, confidence: float
) -> tuple[ErrorInterval, ErrorInterval]:
    """Return the intervals of the root mean square error and of the relative one.

    Args:
        error: Unbiased squared errors per problem `(B,)`.
        size: Unbiased squares of the solution per problem `(B,)`.
        confidence: Of the intervals.
    """
    count = len(error)
    quantile = float(student.ppf(0.5 + confidence / 2, count - 1))
    mean, scale = float(error.mean()), float(size.mean())
    half = quantile * float(error.std()) / math.sqrt(count)
    rms = _root(mean, half)
    if scale <= 0:
        return rms, ErrorInterval(math.nan, 0.0, math.inf)
    ratio = mean / scale
    spread = quantile * float((error - ratio * size).std()) / math.sqrt(count) / scale
    return rms, _root(ratio, spread)


def _root(value: float, half: float) -> ErrorInterval:
    low, middle, high = (math.sqrt(max(v, 0.0)) for v in (value - half, value, value + half))
    return ErrorInterval(middle, low, high)
