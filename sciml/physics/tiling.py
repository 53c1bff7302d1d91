"""Elementwise work on large arrays, tile by tile, so that temporaries stay in cache."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor


class Scratch:
    """Reused memory for the temporaries of a tile.

    Fresh temporaries of this size cost page faults, which take longer than the arithmetic.

    Args:
        like: Tensor that gives dtype and device.
        count: Number of temporaries.
    """

    def __init__(self, like: Tensor, count: int = 6) -> None:
        self._like, self._count = like, count
        self._memory: list[Tensor] = []
        self._views: dict[tuple[int, ...], list[Tensor]] = {}

    def __call__(self, shape: tuple[int, ...]) -> list[Tensor]:
        """Return the temporaries as contiguous tensors of `shape`, contents undefined."""
        shape = tuple(shape)
        if shape not in self._views:
            size = math.prod(shape)
            if not self._memory or self._memory[0].numel() < size:
                self._memory = [self._like.new_empty(size) for _ in range(self._count)]
                self._views.clear()
            self._views[shape] = [m[:size].view(shape) for m in self._memory]
        return self._views[shape]


def tiles(rows: int, columns: int, device: torch.device) -> Iterator[tuple[slice, int, int]]:
    """Cut a `(rows, columns)` array into tiles that stay in cache while being worked on.

    Yields:
        Row slice, first and one-past-last column.
    """
    # 2^16 elements per core, ten passes deep, is about where the cache still helps and the
    # cost of a call has faded; an accelerator wants few launches instead
    budget = 2**16 * torch.get_num_threads() if device.type == "cpu" else 2**24
    width = min(columns, budget // 4)
    height = budget // width
    for top in range(0, rows, height):
        for first in range(0, columns, width):
            yield slice(top, min(top + height, rows)), first, min(first + width, columns)
