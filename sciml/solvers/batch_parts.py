"""Large batches solved part by part, so that the vectors of a part stay in the cache.

An iteration passes over its vectors dozens of times. Once a batch is larger than the cache, every
pass goes to memory, and its temporaries, tens of megabytes each, are taken from the system anew; a
batch is then slower per problem than a problem by itself. Problems do not depend on each other, so
parts give the same numbers, and a part ends with its own slowest problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.solvers.solution import Outcome

UNKNOWNS = 2**19  # of a part: a vector of 4 MB in float64


def parts_of(count: int, each: int) -> list[slice]:
    """Return slices of a batch of `count` problems with `each` unknowns, one at least in each.

    Example:
        >>> from sciml.solvers.batch_parts import parts_of
        >>> parts_of(5, 2**18)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, UNKNOWNS // max(each, 1))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def parts_of_vector(like: Tensor) -> list[slice]:
    """Return slices of the leading axis; a single one on devices other than the CPU."""
    if like.dim() == 0 or like.device.type != "cpu" or like.numel() <= UNKNOWNS:
        return [slice(None)]
    return parts_of(len(like), like.numel() // len(like))


def joined(parts: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a batch from those of its parts, in their order."""
    names = ("value", "status", "iterations", "residual", "relative")
    found = [torch.cat([getattr(part, name) for part in parts]) for name in names]
    return Outcome(*found, max(part.evaluations for part in parts))
