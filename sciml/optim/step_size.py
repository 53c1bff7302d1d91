"""How far to go along a preconditioned direction: three rules, and the damping that adapts.

    KL clip           nu = min(1, sqrt(kappa / (lr^2 <F^-1 g, g>)))
    quadratic model   (alpha, mu) minimise the model of the loss with the exact Gauss-Newton matrix
                      over alpha d + mu delta, d the direction and delta the last update
    grid search       the best of 2^0, 2^-1, ..., 2^-30 by the loss of the batch itself

References: KL clip, Ba et al. 2017 and Pauloski et al. 2021, arXiv 2107.01739; quadratic model and
Levenberg-Marquardt rule, Martens and Grosse 2015, arXiv 1503.05671, sections 6.4-7; both in Dangel
et al. 2024, arXiv 2405.15603 (KFAC*). Departures: the very first step uses the model's own
minimiser alpha instead of 1e-6, and the grid is walked from the last step's best entry instead of
evaluated in full (some four evaluations instead of 31).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# The grid: exponents 0, -1, ..., -30.
LOWEST = -30
# A second direction with a larger squared cosine to the first one is left out of the model.
PARALLEL = 1 - 1e-10


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors, float64."""
    return sum((x.double() * y.double()).sum() for x, y in zip(a, b, strict=True))


def kl_factor(
    direction: Sequence[Tensor], gradient: Sequence[Tensor], lr: float, kappa: float
) -> Tensor:
    """Return the factor nu of the KL clip."""
    size = inner(direction, gradient).abs() * lr**2
    return (kappa / size.clamp_min(1e-300)).sqrt().clamp_max(1.0)


def quadratic_model(curvature: Tensor, linear: Tensor) -> Tensor:
    """Return the minimiser `(2,)` of `linear x + x curvature x / 2`.

    Args:
        curvature: Positive semi-definite `(2, 2)`, float64.
        linear: `(2,)`; a second direction that is zero or parallel to the first gets weight 0.
    """
    size = curvature.diagonal()
    tiny = torch.finfo(size.dtype).tiny
    alone = torch.stack([-linear[0] / size[0].clamp_min(tiny), torch.zeros_like(size[0])])
    root = size.clamp_min(tiny).sqrt()
    cosine = curvature[0, 1] / (root[0] * root[1])
    rest = 1 - cosine.square()
    a, b = -linear / root
    both = torch.stack([a - cosine * b, b - cosine * a]) / (rest * root)
    usable = (size[1] > tiny) & (cosine.square() < PARALLEL)
    return torch.where(usable, both, alone)


def walk(loss_at: Callable[[int], float], present: float, start: int = 0) -> tuple[int, float]:
    """Return the exponent with the least loss found on the grid, and that loss.

    From `start` downhill to a local minimum. If that does not lie below the present loss, from the
    best entry of the whole grid.

    Args:
        loss_at: Loss at step length 2^exponent.
        present: Loss at step length 0.
        start: First exponent tried.
    """
    seen: dict[int, float] = {}

    def loss(exponent: int) -> float:
        if not LOWEST <= exponent <= 0:
            return math.inf
        if exponent not in seen:
            value = loss_at(exponent)
            seen[exponent] = value if math.isfinite(value) else math.inf
        return seen[exponent]

    best = start
    while True:
        near = min((best, best - 1, best + 1), key=loss)
        if near == best:
            break
        best = near
    if not loss(best) < present:
        best = min(range(0, LOWEST - 1, -1), key=loss)
    return best, loss(best)


def adapted(
    damping: Tensor, change: Tensor, model: Tensor, every: int, low: float = 1e-20
) -> tuple[Tensor, Tensor]:
    """Return the new damping and the ratio rho of the loss's change to the model's."""
    ratio = change / torch.where(model < 0, model, torch.full_like(model, -1e-300))
    factor = (19 / 20) ** every
    up = (ratio < 0.25) | ~torch.isfinite(ratio)
    damping = torch.where(ratio > 0.75, damping * factor, damping)
    return torch.where(up, damping / factor, damping).clamp(low, 1e8), ratio


# Levenberg-Marquardt from one step to the next: first rise of lambda, its fall, the largest.
GROWTH, DECAY, MOST = 4.0, 10.0, 1e8
# Gain ratios below which lambda rises and above which it falls. Marquardt's methods have 1/4 and
# 3/4; behind a line search short steps of a small lambda get further than full ones of a large.
LOW, HIGH = 1e-3, 0.1


def levenberg_marquardt(
    damping: float, growth: float, ratio: float, least: float
) -> tuple[float, float]:
    """Return the next damping and the factor of its next rise.

    A ratio below `LOW` multiplies the damping by `growth`, which doubles, so that lambda is right
    after a few steps however wrong it was; one above `HIGH` divides it by `DECAY`. (Growing factors
    as in Nielsen 1999, "Damping parameter in Marquardt's method".)

    Args:
        damping: lambda of the last step.
        growth: Factor of the next rise.
        ratio: Fall of the loss over the fall that the model promised; nan counts as a rise.
        least: Smallest lambda.
    """
    if not ratio >= LOW:
        return max(damping, min(damping * growth, MOST)), 2 * growth
    if ratio > HIGH:
        return max(damping / DECAY, least), GROWTH
    return damping, GROWTH
