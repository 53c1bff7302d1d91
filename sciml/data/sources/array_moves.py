"""Arrays put together or turned round before anything of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sciml.data.sources.source import Array


def samples_first(array: Array, place: int) -> Array:
    """Return an array whose axis of samples, now at `place`, comes first."""
    if place == 0:
        return array
    before = (slice(None),) * place

    def read(index: Any) -> np.ndarray:
        if array.cuts:
            return np.moveaxis(array.read((*before, index)), place, 0)
        return np.moveaxis(array.read(slice(None)), place, 0)[index]

    rest = array.shape[:place] + array.shape[place + 1 :]
    axes = array.axes
    return replace(array, shape=(array.shape[place], *rest), read=read, axes=axes, cuts=False)


def one_sample(array: Array) -> Array:
    """Return an array as the only row of one with an axis of samples in front."""

    def read(index: Any) -> np.ndarray:
        return np.asarray(array.read(slice(None) if array.shape else ()))[None][index]

    return replace(array, shape=(1, *array.shape), read=read, cuts=False)


def stacked(name: str, arrays: Sequence[Array]) -> Array:
    """Return arrays of one shape as the rows of one array.

    Args:
        name: Of the new array.
        arrays: At least one, one per sample; where axes have names, those of the first count.
    """
    first = arrays[0]
    every = slice(None) if first.shape else ()

    def read(index: Any) -> np.ndarray:
        found = [np.asarray(arrays[k].read(every)) for k in np.arange(len(arrays))[index]]
        return np.stack(found) if found else np.zeros((0, *first.shape), first.dtype)

    axes = ("n", *first.axes) if first.axes else ()
    shape = (len(arrays), *first.shape)
    return replace(first, name=name, shape=shape, read=read, axes=axes, cuts=False)
