"""What training points cover together, where each coordinate and the time alone say too little.

Points x at time t are summarised by few numbers: |x|, the sums of x_i and of |x_i| over the root of
d, the largest |x_i|, and in up to three dimensions the coordinates. In every interval of time their
mean and covariance over the training points give a distance (Mahalanobis 1936), and the largest
distance of a training point is how far training went: an ellipsoid that moves with time. A point
may lie in the range of |x| and in that of t and still be where no training point was, such as far
out at a time when all of them were close, or have a direction that random ones never have.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

INTERVALS = 8  # of time
FEWEST = 64  # points in an interval, for a covariance
COORDINATES = 3  # up to so many dimensions coordinates count themselves
RIDGE = 1e-6  # of the mean variance: in one dimension the summaries are the same number
SLACK = 1.1  # of the largest distance: it was found by sampling


def summary(x: Tensor) -> Tensor:
    """Return the numbers `(N, k)`, in float64, that points `x (N, d)` are judged by."""
    x = x.double()
    d = x.shape[1]
    size = torch.linalg.vector_norm(x, dim=1)
    parts = [size, x.sum(1) / d**0.5, x.abs().sum(1) / d**0.5, x.abs().amax(1)]
    return torch.stack([*parts, *(x.unbind(1) if d <= COORDINATES else ())], 1)


def joint_range(x: Tensor, t: Tensor | None = None) -> dict[str, list] | None:
    """Return what training points cover together, as plain numbers.

    Args:
        x: Points `(N, d)`.
        t: Times `(N, 1)` or None.

    Returns:
        `times`, the ends of the intervals; for each of them `mean`, `whiten` (the inverse of a
        Cholesky factor of the covariance) and `limit`, the largest distance. None where an interval
        has too few points.
    """
    rows = summary(x)
    time = torch.zeros_like(rows[:, 0]) if t is None else t[:, 0].double()
    count = 1 if t is None else INTERVALS
    ends = torch.linspace(float(time.min()), float(time.max()), count + 1, dtype=torch.float64)
    place = _interval(time, ends)
    found: dict[str, list] = {"times": ends.tolist(), "mean": [], "whiten": [], "limit": []}
    for k in range(count):
        own = rows[place == k]
        if len(own) < FEWEST:
            return None
        mean, spread = own.mean(0), own.T.cov()
        ridge = RIDGE * spread.diagonal().mean().clamp_min(1e-300)
        factor = torch.linalg.cholesky(spread + ridge * torch.eye(len(spread), dtype=rows.dtype))
        whiten = torch.linalg.inv(factor)
        limit = ((own - mean) @ whiten.T).square().sum(1).max().sqrt()
        found["mean"].append(mean.tolist())
        found["whiten"].append(whiten.tolist())
        found["limit"].append(float(limit))
    return found


def beyond(joint: Mapping[str, list], x: Tensor, t: Tensor | None = None) -> Tensor:
    """Return which points `(N,)` are farther from the training points than any of these.

    Args:
        joint: From `joint_range`.
        x: Points `(N, d)`.
        t: Times `(N, 1)` or None.
    """
    rows = summary(x.detach())
    kind = {"dtype": rows.dtype, "device": rows.device}
    ends, mean, whiten, limit = (
        torch.tensor(joint[name], **kind) for name in ("times", "mean", "whiten", "limit")
    )
    time = torch.zeros_like(rows[:, 0]) if t is None else t[:, 0].detach().double()
    place = _interval(time, ends)
    away = torch.einsum("nij,nj->ni", whiten[place], rows - mean[place])
    return away.square().sum(1).sqrt() > SLACK * limit[place]


def _interval(time: Tensor, ends: Tensor) -> Tensor:
    """Return the interval each time lies in, the first or last one beyond them."""
    return torch.bucketize(time, ends[1:-1].to(time))
