"""Step lengths along a direction: strong Wolfe with gradients, a grid of halvings without.

Along `phi(a) = L(theta + a d)` the strong Wolfe conditions are

    phi(a) <= phi(0) + c1 a phi'(0)          sufficient decrease,
    |phi'(a)| <= c2 |phi'(0)|                curvature.

The first search brackets such a length, then shrinks the bracket by cubic interpolation; with
c2 < 1 every length found satisfies `y^T s > 0`. The second evaluates the loss alone.

Reference: Nocedal, Wright 2006, "Numerical Optimization", algorithms 3.5 and 3.6, equation (3.59).
Departures: the bracket is grown by interpolation within [1.1, 10] times the last length; a trial
near an end of the bracket is moved inside by a tenth of its width, and the bracket is halved when
interpolation has not shrunk it by a third; a loss that is not finite counts as infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

# The grid of 2405.15603: thirty halvings.
HALVINGS = 30
# A rise of the loss below this share of it is rounding, not a rise.
ROUNDING = 1e-15


class Point(NamedTuple):
    """One evaluated length.

    Attributes:
        length: a.
        loss: phi(a).
        slope: phi'(a).
        extra: Whatever else the evaluation returned, the gradient for example.
    """

    length: float
    loss: float
    slope: float
    extra: Any = None


class Search(NamedTuple):
    """What a search came to.

    Attributes:
        point: The length found, else the lowest point with sufficient decrease, else the start.
        found: Whether the strong Wolfe conditions hold there.
        reason: Why not, in words; empty if found.
        evaluations: Number of evaluations of the loss.
    """

    point: Point
    found: bool
    reason: str
    evaluations: int

    @property
    def lower(self) -> bool:
        """Whether the loss fell at all."""
        return self.point.length > 0


def strong_wolfe(
    evaluate: Callable[[float], tuple[float, float, Any]],
    start: Point,
    *,
    first: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    limit: int = 25,
) -> Search:
    """Search a length that satisfies the strong Wolfe conditions.

    Args:
        evaluate: Maps a length to loss, slope along the direction, and anything to keep.
        start: Loss and slope at length 0.
        first: Length tried first.
        c1: Share of the predicted decrease that must be reached.
        c2: Share of the initial slope that may remain.
        limit: Largest number of evaluations.
    """
    if not start.slope < 0:
        return Search(start, False, f"the slope {start.slope:.3g} is not downhill", 0)
    best, count, low, high = start, 0, start, None
    length, width = first, math.inf
    while count < limit:
        loss, slope, extra = evaluate(length)
        count += 1
        trial = Point(length, loss if math.isfinite(loss) else math.inf, slope, extra)
        bound = start.loss + c1 * length * start.slope + ROUNDING * abs(start.loss)
        enough = trial.loss <= bound and math.isfinite(slope)
        if enough and trial.loss < best.loss:
            best = trial
        if (
            enough
            and abs(slope) <= -c2 * start.slope
            and trial.loss < low.loss + ROUNDING * abs(low.loss)
        ):
            return Search(trial, True, "", count)
        if not enough or trial.loss >= low.loss:
            high = trial  # the conditions hold somewhere between low and here
        elif high is None:
            if slope >= 0:
                low, high = trial, low
            else:  # still going down: further out
                last, low = low, trial
                step = _cubic(last, trial)
                reach = (1.1 * length, 10 * length)
                length = min(max(step, reach[0]), reach[1]) if math.isfinite(step) else reach[1]
                continue
        else:
            if slope * (high.length - low.length) >= 0:
                high = low
            low = trial
        length, width, stuck = _inside(low, high, width)
        if stuck:
            return Search(best, False, "the bracket shrank to rounding", count)
    return Search(best, False, f"no length found in {limit} evaluations", count)


def _inside(low: Point, high: Point, width: float) -> tuple[float, float, bool]:
    """Return the next trial in the bracket, the bracket's width, and whether it is exhausted."""
    left, right = sorted((low.length, high.length))
    now = right - left
    length = _cubic(low, high)
    margin = 0.1 * now
    if not left < length < right or now > 0.67 * width:
        length = 0.5 * (left + right)
    length = min(max(length, left + margin), right - margin)
    return length, now, now <= 1e-14 * right


def _cubic(a: Point, b: Point) -> float:
    """Return the minimiser of the cubic through two points and slopes; nan if there is none."""
    if not (math.isfinite(b.loss) and math.isfinite(b.slope)) or a.length == b.length:
        return math.nan
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.length - b.length)
    square = d1 * d1 - a.slope * b.slope
    if square < 0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.length - a.length)
    below = b.slope - a.slope + 2 * d2
    if below == 0:
        return math.nan
    return b.length - (b.length - a.length) * (b.slope + d2 - d1) / below


def halvings(
    loss_at: Callable[[float], Tensor],
    start: Tensor,
    *,
    first: float = 1.0,
    count: int = HALVINGS,
    stop_early: bool = True,
) -> tuple[float, Tensor, int]:
    """Return the best of `first`, `first / 2`, ..., its loss and the number of evaluations.

    Args:
        loss_at: Loss at a length, without graph.
        start: Loss at length 0; where no length of the grid is lower, the length is 0.
        first: Longest length.
        count: Number of halvings.
        stop_early: Whether to stop at the first rise after a fall below `start`. Without it the
            whole grid is evaluated, and lengths are compared once, on the device.
    """
    lengths = [first * 0.5**k for k in range(count + 1)]
    if not stop_early:
        losses = torch.stack([start, *(loss_at(length).to(start) for length in lengths)])
        chosen = int(losses.nan_to_num(math.inf, math.inf).argmin())
        return [0.0, *lengths][chosen], losses[chosen], len(lengths)
    best, lowest = 0.0, start
    for used, length in enumerate(lengths, 1):
        loss = loss_at(length)
        if loss < lowest:
            best, lowest = length, loss
        elif best:
            return best, lowest, used
    return best, lowest, len(lengths)
