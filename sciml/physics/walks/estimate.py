"""Estimates of walks, and the running moments they are made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """What walks found at P points of B domains; all tensors float64.

    Attributes:
        mean: `(B, P)`; NaN at points outside.
        squares: `(B, P)` sum of the squared deviations of the samples from `mean`.
        halves: `(2, B, P)` means over two independent halves of the samples; NaN with one sample.
        samples: Independent samples per point: the walks, or the antithetic pairs.
        walks: Walks per point.
        steps: `(B, P)` mean number of steps of a walk.
        truncated: `(B, P)` share of the walks that were stopped by `max_steps` and projected.
        inside: `(B, P)` whether the point lies in the domain, or within `eps` of it.
        max_weight: Largest weight of any walk: far above 1, a few walks decide the mean.
        farthest: Largest distance between the end of a walk and its boundary point, in units of
            `eps`: 1, or more where the domain knows a bound of its distance only. Walks that were
            truncated do not count.

    Example:
        >>> import torch
        >>> from sciml.physics import Dirichlet, WalkOnSpheres
        >>> from sciml.physics.geometry import Ball
        >>> problem = Dirichlet(boundary=lambda x, i: x[0])
        >>> points, generator = torch.zeros(1, 3, 2), torch.Generator().manual_seed(0)
        >>> found = WalkOnSpheres(walks=400)(Ball(), problem, points, generator)
        >>> tuple(found.mean.shape), bool((found.standard_error < 0.1).all())
        ((1, 3), True)
    """

    mean: Tensor
    squares: Tensor
    halves: Tensor
    samples: int
    walks: int
    steps: Tensor
    truncated: Tensor
    inside: Tensor
    max_weight: float
    farthest: float

    @property
    def variance(self) -> Tensor:
        """Variance of `mean`, `(B, P)`; NaN with one sample.

        Estimated from the samples: close to the boundary, where hardly any walk ends elsewhere,
        a hundred walks may all agree and still be wrong. Means over many points are safe.
        """
        if self.samples == 1:
            return torch.full_like(self.mean, torch.nan)
        return self.squares / (self.samples * (self.samples - 1))

    @property
    def standard_error(self) -> Tensor:
        """Standard error of `mean`, `(B, P)`; NaN with one sample."""
        return self.variance.sqrt()

    def squared_error(self, value: Tensor) -> Tensor:
        """Return unbiased estimates `(B, P)` of `(value - u)^2`, which may be negative.

        The product of the deviations from two independent halves: their noise averages out.
        """
        first, second = self.halves
        return (value - first) * (value - second)


class WalkMoments:
    """Running moments of samples `(S, N)` that arrive in parts, kept in rows of `(6, N)`.

    Args:
        rows: Zeros to fill: mean, squares, two half means, steps, truncated.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.count, self.walks, self.half = rows, 0, 0, [0, 0]

    def add(self, value: Tensor, steps: Tensor, stopped: Tensor) -> None:
        """Add `value (S, N)`, and `steps` and `stopped` `(W, N)` (Chan's update)."""
        n, total = len(value), self.count + len(value)
        mean, squares, *halves, step_sum, stopped_sum = self.rows
        change = value.mean(0) - mean
        squares += (value - value.mean(0)).square_().sum(0)
        squares += change.square() * (self.count * n / total)
        mean += change * (n / total)
        for k, half in enumerate(halves):
            half += value[(self.count + k) % 2 :: 2].sum(0)
            self.half[k] += len(value[(self.count + k) % 2 :: 2])
        step_sum += steps.sum(0)
        stopped_sum += stopped.sum(0)
        self.count, self.walks = total, self.walks + len(steps)

    def finish(self) -> None:
        """Turn sums into means."""
        for half, count in zip(self.rows[2:4], self.half, strict=True):
            half /= count if min(self.half) else torch.nan
        self.rows[4:] /= self.walks
