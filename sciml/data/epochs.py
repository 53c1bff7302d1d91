"""The order in which ranks go through a training set."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.arguments import takes, whole
from sciml.autodiff.streams import Streams


@takes(n=whole, batch=whole, step=whole, rank=whole, world=whole)
def epoch_places(seed: int, n: int, batch: int, step: int, rank: int, world: int) -> Tensor:
    """Return the places `(batch,)` in a set of n of what a rank takes in a step.

    Every epoch is one permutation that all ranks share; ranks take neighbouring pieces of the
    endless sequence of epochs.

    Args:
        seed: Of the order.
        n: Samples of the set.
        batch: Samples per step and rank.
        step: Number of the step.
        rank: Number of the rank.
        world: Ranks.
    """
    start = (step * world + rank) * batch
    place = torch.arange(start, start + batch)
    first, last = start // n, (start + batch - 1) // n
    orders = [_order(seed, epoch, n) for epoch in range(first, last + 1)]
    return torch.cat(orders)[place - first * n]


def _order(seed: int, epoch: int, n: int) -> Tensor:
    generator = Streams(seed, epoch).generator("order", common=True)
    return torch.randperm(n, generator=generator)
