"""Ranks that share the points of a step and split the dimensions of a sampled operator."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def joined(estimate: Tensor) -> Tensor:
    """Return the mean of all ranks' estimates in value, this rank's part in gradient.

    Every rank's draw is an unbiased estimate of the whole sum, so the mean over ranks is the
    estimate from the union. Gradients are averaged over ranks by DDP, which makes
    `mean_p 2 r grad(trace_p) = 2 r grad(mean trace)`: exact, and the bias of algorithm 3 falls
    with the number of ranks. The same holds for what is linear in the trace, as slopes of r are.
    """
    total = estimate.detach().clone()
    dist.all_reduce(total)
    return estimate + (total / dist.get_world_size() - estimate.detach())
