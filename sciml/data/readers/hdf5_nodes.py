"""Datasets and attributes of HDF5 files, as arrays read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.data.readers.source import KINDS

if TYPE_CHECKING:
    import h5py


def rows_of(node: h5py.Dataset) -> Callable[[Any], np.ndarray]:
    """Return what reads rows of a dataset."""
    return lambda index: np.asarray(node[index])


def numbers_of(file: h5py.File) -> dict[str, float]:
    """Return the attributes of the root that are single numbers."""
    found = {name: np.asarray(value) for name, value in file.attrs.items()}
    return {
        name: float(value.item())
        for name, value in found.items()
        if value.size == 1 and value.dtype.kind in KINDS
    }
