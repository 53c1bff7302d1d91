"""What a file holds: named arrays that are read in rows, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sciml.errors import InvalidArgument, did_you_mean

KINDS = "biuf"  # booleans, integers, real numbers
# Names of coordinates, and the axis that they belong to.
COORDINATES = {
    "t": "t", "time": "t", "times": "t", "tt": "t", "tspan": "t", "t-coordinate": "t",
    "t_coordinate": "t", "t_coords": "t", "x": "x", "y": "y", "z": "z", "x-coordinate": "x",
    "y-coordinate": "y", "z-coordinate": "z", "x_coordinate": "x", "y_coordinate": "y",
    "z_coordinate": "z", "x_coords": "x", "y_coords": "y", "grid_x": "x", "grid_y": "y",
    "grid_z": "z", "lon": "x", "longitude": "x", "lat": "y", "latitude": "y",
}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """An array of a file, not read yet.

    Attributes:
        name: Its key.
        shape: Of the whole array, samples first.
        dtype: Of its numbers in the file.
        read: Rows `(k, ...)` for row numbers `(k,)` that increase, or for a slice.
        axes: Names of the axes behind the samples, of "t", "c", "x", "y", "z"; empty if the file
            does not say.
        unit: Empty if the file does not say.
        names: Names of channels, where the file has them.
        sampled: Whether the first axis counts samples; else the array is the same for all.
        cuts: Whether `read` takes a tuple as well, one index or slice per axis.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Any], np.ndarray]
    axes: tuple[str, ...] = ()
    unit: str = ""
    names: tuple[str, ...] = ()
    sampled: bool = True
    cuts: bool = False

    def rows(self, index: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Return rows in the order asked for, in the byte order of this machine.

        A run of neighbours is read as one piece; others once each.
        """
        if isinstance(index, slice):
            return native(self.read(index))
        index = np.asarray(index, dtype=np.int64)
        if not len(index):
            return native(self.read(slice(0, 0)))
        unique, place = np.unique(index, return_inverse=True)
        first, last = int(unique[0]), int(unique[-1])
        if last - first + 1 == len(unique):
            found = native(self.read(slice(first, last + 1)))
        else:
            found = native(self.read(unique))
        return found if np.array_equal(unique, index) else found[place]

    @property
    def bytes(self) -> int:
        """Return the size of the whole array."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def describe(self) -> str:
        """Return name, shape and type as text."""
        return f"{self.name} {self.shape} {self.dtype}"


def native(values: np.ndarray) -> np.ndarray:
    """Return numbers in the byte order of this machine, and of 64 bits at most, as torch wants."""
    values = np.asarray(values)
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        return values.astype(np.float64)
    return values.astype(values.dtype.newbyteorder("=")) if not values.dtype.isnative else values


@dataclass
class Source:
    """Arrays of a file, of several files of one kind, or of a list of samples.

    Attributes:
        path: Where it was read.
        format: In words, for people.
        arrays: By name.
        coordinates: Values along named axes, `(n,)` each.
        attributes: Numbers and texts that the file stores beside.
        notes: What was left out or put right, in sentences.
        parts: Rows of "train", "val" and "test" where files or their convention say so.
        inputs: Names of arrays that its format makes inputs; empty if it does not say.
        outputs: The same of outputs; the same name in both is a trajectory.
        clouds: Where samples are point clouds of different sizes: one dictionary per sample.
        chunked: Rows per chunk where reading single rows is slow; 0 elsewhere.
        one_each: Whether it is a folder of one file per sample.
        certain: Whether the first axes count samples for sure, since files were put together.
        counted: Whether a dimension counts samples by its name: a folder of such files is joined.
        filed: Where names of dimensions say the axes: the arrays as the file has them, with the
            names of all axes; samples need not be first, or there is one sample alone.
    """

    path: Path
    format: str
    arrays: dict[str, Array]
    coordinates: dict[str, np.ndarray] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    clouds: list[Mapping[str, np.ndarray]] | None = None
    chunked: int = 0
    certain: bool = False
    one_each: bool = False
    counted: bool = False
    filed: dict[str, Array] = field(default_factory=dict)

    def array(self, name: str, key: str = "") -> Array:
        """Return an array by its name.

        Args:
            name: Its name.
            key: The key by which a user typed it, for the message; empty if nobody did.

        Raises:
            InvalidArgument: If there is none of that name, with those there are.
        """
        if name not in self.arrays:
            said = f"{key}={name}" if key else name
            raise InvalidArgument(
                f"{said} is no array of {self.path}", self.listed(),
                did_you_mean(name, self.arrays),
            )  # fmt: skip
        return self.arrays[name]

    def listed(self) -> str:
        """Return names and shapes of all arrays as text."""
        return ", ".join(f"{a.name} {a.shape}" for a in self.arrays.values()) or "nothing"


def whole(name: str, values: np.ndarray, **about: Any) -> Array:
    """Return an array that is in memory, or mapped into it."""
    read = values.__getitem__
    return Array(name, tuple(values.shape), values.dtype, read, cuts=True, **about)


def joined(path: Path, sources: Sequence[Source]) -> dict[str, Array]:
    """Return the arrays of several sources one behind the other along the samples.

    Args:
        path: For messages.
        sources: At least one; all with the same names and shapes behind the samples.

    Raises:
        InvalidArgument: If names or shapes differ, naming the file.
    """
    first = sources[0]
    for other in sources[1:]:
        for name, array in first.arrays.items():
            found = other.arrays.get(name)
            if found is None or found.shape[array.sampled :] != array.shape[array.sampled :]:
                has = "no such array" if found is None else f"{name} {found.shape}"
                raise InvalidArgument(
                    f"{other.path} has {has}, and {first.path.name} has {array.describe()}",
                    "files of the same arrays, samples of the same shape",
                    f"Take {other.path.name} out of {path}; a test file on another grid can be "
                    "typed as data.test_path",
                )
    return {name: behind([s.arrays[name] for s in sources]) for name in first.arrays}


def behind(arrays: Sequence[Array]) -> Array:
    """Return arrays one behind the other along the samples; the first one, if it has none."""
    first = arrays[0]
    if not first.sampled:
        return first
    ends = np.cumsum([a.shape[0] for a in arrays])
    starts = ends - [a.shape[0] for a in arrays]

    def read(index: Any) -> np.ndarray:
        rows = np.arange(int(ends[-1]))[index]
        owner = np.searchsorted(ends, rows, side="right")
        held = [arrays[k].rows(rows[owner == k] - starts[k]) for k in np.unique(owner)]
        return np.concatenate(held) if held else first.read(slice(0, 0))

    return replace(first, shape=(int(ends[-1]), *first.shape[1:]), read=read, cuts=False)


def count_of(arrays: Mapping[str, Array]) -> int:
    """Return the number of samples: the first axis that the largest arrays share."""
    sizes: dict[int, int] = {}
    for array in arrays.values():
        if array.shape:
            sizes[array.shape[0]] = sizes.get(array.shape[0], 0) + array.bytes
    return max(sizes, key=sizes.__getitem__, default=0)
