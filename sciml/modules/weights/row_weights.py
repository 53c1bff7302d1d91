"""Weights of single rows of the equations, which follow from the residuals as training goes on.

Row n of every equation is multiplied by a factor f_n, so the loss becomes mean f_n^2 r_n^2. Factors
are constants of a step: every evaluation of the loss in it, by a line search or for curvature, sees
the same ones, and the loss is one of ordinary least squares. They follow from the residuals of the
step before, which costs no evaluation of its own, and are kept in checkpoints.

causal      earlier times first
attention   points where the residual stays large
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor, nn

from sciml.autodiff.streams import Streams
from sciml.physics.systems import PointSet


class RowWeights(nn.Module):
    """Base of the rules.

    A rule sees `begin` before the first evaluation of a step, `factor` in every evaluation, and
    `update` once, with the residuals of the first evaluation.
    """

    def begin(self, p: PointSet, streams: Streams) -> None:
        """Make the factors of the step from what was seen in the last one."""
        raise NotImplementedError

    def factor(self, name: str, p: PointSet) -> Tensor:
        """Return the factors `(N,)` of an equation's rows on this rank."""
        raise NotImplementedError

    def update(self, p: PointSet, residuals: Mapping[str, Tensor], streams: Streams) -> None:
        """Take what the next step needs from the residuals, which have no factors."""
        raise NotImplementedError

    def numbers(self) -> dict[str, Tensor]:
        """Return numbers worth a log line."""
        return {}


def summed(value: Tensor) -> Tensor:
    """Return a tensor added up over ranks."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(value)
    return value
