"""Random indices without replacement, at a cost that does not grow with the range."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument


def distinct(d: int, k: int, generator: torch.Generator, rows: int = 1) -> Tensor:
    """Return `rows` independent draws of k distinct integers below d, uniformly.

    For k << sqrt(d) whole rows are drawn and the few with a repetition drawn again; else the
    k smallest of d random keys are taken.

    Args:
        d: Range.
        k: Number of integers, at most d.
        generator: CPU generator.
        rows: Number of independent draws.

    Returns:
        Integers `(rows, k)`.

    Raises:
        InvalidArgument: If k exceeds d.
    """
    if k > d:
        raise InvalidArgument(
            f"{k} distinct terms out of {d}", "at most as many as there are", "Sample fewer"
        )
    if k * k > 4 * d:
        return torch.rand(rows, d, generator=generator).topk(k, dim=1).indices
    out = torch.randint(d, (rows, k), generator=generator)
    while True:
        ordered = out.sort(1).values
        repeated = (ordered[:, 1:] == ordered[:, :-1]).any(1)
        count = int(repeated.sum())
        if count == 0:
            return out
        out[repeated] = torch.randint(d, (count, k), generator=generator)
