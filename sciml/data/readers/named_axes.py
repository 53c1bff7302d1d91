"""Arrays whose dimensions have names: which axis each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sciml.data.readers.generic import COORDINATES, assemble
from sciml.data.readers.source import Array, Source

SAMPLES = ("n", "sample", "samples", "member", "ensemble", "realization", "batch", "case")
CHANNELS = ("c", "channel", "channels", "variable", "component")


def named(
    path: Path, kind: str, arrays: dict[str, Array], coordinates: dict[str, np.ndarray]
) -> Source:
    """Return a source whose arrays know their axes; names behind the samples stay."""
    source = assemble(path, kind, arrays)
    for name, array in source.arrays.items():
        if name in arrays and len(array.axes) == len(array.shape):
            source.arrays[name] = replace(array, axes=array.axes[1:])
    source.coordinates |= coordinates
    return source


def axes_of(dims: Sequence[str]) -> tuple[str, ...]:
    """Return the names of axes for the names of dimensions; empty where one is not known."""
    found = []
    for dim in dims:
        name = axis_of(dim)
        if name not in ("n", "t", "c", "x", "y", "z"):
            return ()
        found.append(name)
    return tuple(found) if found and found[0] == "n" and len(set(found)) == len(found) else ()


def axis_of(dim: str) -> str:
    """Return the axis that a dimension is: "n" of samples, "t", "c", "x", "y", "z"."""
    low = dim.lower()
    if low in SAMPLES:
        return "n"
    return "c" if low in CHANNELS else COORDINATES.get(low, low)
