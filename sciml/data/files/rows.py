"""Samples of the arrays in use: in memory where they fit, else read in blocks of neighbours.

Reading a single row of a chunked or compressed file costs as much as reading its whole chunk, so
larger files are read in blocks, which are kept for a while. The order of an epoch is one of blocks;
within a window of some blocks it is shuffled row by row (`window_places`). Every rank has a piece
of the blocks for itself.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.data.layouts.field_layout import SPACE, Layout
from sciml.data.sources.source import Array
from sciml.errors import InvalidArgument

WINDOW = 8  # blocks among whose rows the order is shuffled
LEAST = 8  # rows that are computed with at once, however large they are
ROOM = 2**24  # bytes that there is always room for
BLOCK_BYTES = 2**23  # read at once, where the file has no larger chunks


class FileRows:
    """The arrays in use, thinned out, by row numbers of the file.

    Args:
        arrays: With axes; those of the same name are read once.
        every_point: Keep every so many-th point along each direction of space.
        every_time: Keep every so many-th time.
        memory: Bytes up to which all of it is kept in memory.
        chunk: Rows of a chunk of the file.

    Attributes:
        held: Whether everything is in memory.
        block: Rows per block.
        waited: Seconds spent on reading so far.
        touched: Blocks read so far, in order, for tests and for the log.
    """

    def __init__(
        self,
        arrays: Sequence[Array],
        every_point: Mapping[str, int],
        every_time: int,
        memory: int,
        chunk: int = 0,
    ) -> None:
        self.arrays = {a.name: a for a in arrays}
        self.steps = {**every_point, "t": every_time}
        self.count = next(iter(self.arrays.values())).shape[0]
        size = sum(a.bytes for a in self.arrays.values())
        per_row = max(size // max(self.count, 1), 1)
        block = min(BLOCK_BYTES, max(memory // (WINDOW + 2), BLOCK_BYTES // 8))
        self.block = max(1, chunk, min(self.count, block // per_row))
        self.held, self.memory = size <= memory, memory
        self.waited, self.touched = 0.0, []
        self._blocks: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        if self.held:
            self._all = {n: self._thin(a, a.rows(slice(None))) for n, a in self.arrays.items()}

    def fitting(self, most: int, least: int = LEAST) -> int:
        """Return how many rows are computed with at once: `most`, or what memory has room for.

        That is in float64, whatever the file has, and four times: as they are read, as inputs and
        outputs, as channels, and as what is computed. There are `least` rows of any size, and
        as many as 16 MB hold.
        """
        every = [(a, self.steps.get(x, 1), n) for a in self.arrays.values()
                 for x, n in zip(a.axes, a.shape[1:], strict=True)]  # fmt: skip
        numbers = {a.name: 1 for a in self.arrays.values()}
        for a, step, n in every:
            numbers[a.name] *= -(-n // step)
        room = max(self.memory, ROOM) // (4 * 8 * max(sum(numbers.values()), 1))
        return max(least, min(most, room))

    def __getitem__(self, rows: Sequence[int] | np.ndarray | Tensor) -> dict[str, Tensor]:
        """Return rows by name, `(len(rows), *axes)`, in the types of the file."""
        rows = np.asarray(rows, dtype=np.int64)
        if self.held:
            return {n: torch.from_numpy(v[rows]) for n, v in self._all.items()}
        began = time.perf_counter()
        numbers = rows // self.block
        parts = {n: None for n in self.arrays}
        for k in np.unique(numbers):
            here, block = np.flatnonzero(numbers == k), self._read(int(k))
            for name, values in block.items():
                found = values[rows[here] - k * self.block]
                if parts[name] is None:
                    parts[name] = np.empty((len(rows), *found.shape[1:]), found.dtype)
                parts[name][here] = found
        self.waited += time.perf_counter() - began
        return {n: torch.from_numpy(v) for n, v in parts.items()}

    def _read(self, k: int) -> dict[str, np.ndarray]:
        if k in self._blocks:
            self._blocks.move_to_end(k)
            return self._blocks[k]
        self.touched.append(k)
        piece = slice(k * self.block, min((k + 1) * self.block, self.count))
        found = {n: self._thin(a, a.rows(piece)) for n, a in self.arrays.items()}
        self._blocks[k] = found
        while len(self._blocks) > WINDOW + 2:
            self._blocks.popitem(last=False)
        return found

    def _thin(self, array: Array, values: np.ndarray) -> np.ndarray:
        step = [slice(None, None, self.steps.get(a, 1)) for a in array.axes]
        return np.ascontiguousarray(values[(slice(None), *step)])


def window_places(
    seed: int, rows: np.ndarray, block: int, batch: int, step: int, rank: int, world: int
) -> np.ndarray:
    """Return the row numbers `(batch,)` of what a rank takes in a step, neighbours near in time.

    An epoch puts the blocks into a random order and cuts the rows, in that order, into one piece
    per rank; each rank shuffles its own piece within windows of `WINDOW` blocks. So ranks read
    disjoint parts of the file, and a remainder smaller than their number rests in that epoch.

    Args:
        seed: Of the order.
        rows: Rows of the training part, increasing.
        block: Rows of a block of the file.
        batch: Rows per step and rank.
        step: Number of the step.
        rank: Number of the rank.
        world: Ranks.
    """
    own = len(rows) // world
    place = np.arange(step * batch, (step + 1) * batch)
    epochs = range(int(place[0]) // own, int(place[-1]) // own + 1)
    orders = [_epoch(seed, e, rows, block, rank, own) for e in epochs]
    return np.concatenate(orders)[place - epochs[0] * own]


def _epoch(seed: int, epoch: int, rows: np.ndarray, block: int, rank: int, own: int) -> np.ndarray:
    draw = Streams(seed, epoch).generator("blocks", common=True)
    numbers = rows // block
    blocks = np.unique(numbers)
    order = blocks[torch.randperm(len(blocks), generator=draw).numpy()]
    turn = np.empty(len(blocks), np.int64)  # of each block in the order
    turn[np.searchsorted(blocks, order)] = np.arange(len(order))
    ordered = rows[np.argsort(turn[np.searchsorted(blocks, numbers)], kind="stable")]
    piece = ordered[rank * own : (rank + 1) * own]
    within = Streams(seed, epoch, rank).generator("window", cpu=True)
    width = WINDOW * block
    found = []
    for start in range(0, own, width):
        window = piece[start : start + width]
        found.append(window[torch.randperm(len(window), generator=within).numpy()])
    return np.concatenate(found)


def rows_of(
    layout: Layout, every_point: int | Sequence[int], every_time: int, memory: int, chunk: int
) -> FileRows:
    """Return the rows of the inputs and outputs that were recognised; the rest as for `FileRows`.

    Raises:
        InvalidArgument: For another number of directions.
    """
    letters = SPACE[: len(layout.space)]
    points = [every_point] * len(letters) if isinstance(every_point, int) else list(every_point)
    if len(points) != len(letters) or min(points, default=1) < 1:
        raise InvalidArgument(
            f"data.subsample={every_point} for {len(letters)} directions",
            "a positive integer, or one per direction",
        )
    arrays = {a.name: a for a in (*layout.inputs, *layout.outputs)}
    steps = dict(zip(letters, points, strict=True))
    return FileRows(list(arrays.values()), steps, every_time, memory, chunk)
