"""From named arrays without further meaning to a source: what are samples, what coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from sciml.data.sources.array_groups import put_together
from sciml.data.sources.source import COORDINATES, KINDS, Array, Source, count_of
from sciml.errors import InvalidArgument


def assemble(path: Path, kind: str, arrays: Mapping[str, Array]) -> Source:
    """Return a source of arrays: parts and numbered groups joined, and as `sorted_out` has them.

    Args:
        path: For messages.
        kind: Format in words.
        arrays: As the file has them, by their full names.

    Raises:
        InvalidArgument: If nothing in the file is an array of numbers.
    """
    return put_together(path, arrays, lambda held: sorted_out(path, kind, held))


def sorted_out(path: Path, kind: str, arrays: Mapping[str, Array]) -> Source:
    """Return a source of arrays: coordinates and single numbers apart, texts left out.

    An array is a coordinate if its name is one's, it is a vector, and another array has an axis of
    its length (of one less for times: PDEBench stores edges).

    Args:
        path: For messages.
        kind: Format in words.
        arrays: As the file has them.

    Raises:
        InvalidArgument: If nothing in the file is an array of numbers.
    """
    left = [a for a in arrays.values() if a.dtype.kind not in KINDS]
    notes = [_why(a) for a in left]
    usable = {n: a for n, a in arrays.items() if a.dtype.kind in KINDS}
    single = {n: a for n, a in usable.items() if np.prod(a.shape) == 1}
    numbers = {n: float(np.ravel(a.rows(slice(None)) if a.shape else a.read(()))[0])
               for n, a in single.items()}  # fmt: skip
    usable = {n: a for n, a in usable.items() if n not in single}
    if not usable:
        held = ", ".join(a.describe() for a in arrays.values()) or "nothing"
        hint = f"Note: {'; '.join(notes[:2])}" if notes else ""
        raise InvalidArgument(f"{path} holds {held}", "arrays of numbers, samples first", hint)
    empty = [a for a in usable.values() if 0 in a.shape]
    if empty:
        raise InvalidArgument(f"{path}: {empty[0].describe()} is empty", "at least one sample")
    largest = max(usable.values(), key=lambda a: a.bytes)
    kept: dict[str, Array] = {}
    coordinates: dict[str, np.ndarray] = {}
    for name, array in usable.items():
        axis = COORDINATES.get(name.lower())
        sizes = [n for n in array.shape if n > 1]
        row = len(array.shape) > 1 and array.shape[0] == largest.shape[0]  # of a single sample
        if axis is not None and len(sizes) == 1 and array is not largest and not row:
            fits = sizes[0] in largest.shape[1:]
            if fits or (axis == "t" and sizes[0] - 1 in largest.shape[1:]):
                coordinates[axis] = np.asarray(array.rows(slice(None)), float).reshape(-1)
                continue
        kept[name] = array
    count = count_of(kept)
    kept = {n: replace(a, sampled=a.shape[0] == count) for n, a in kept.items()}
    return Source(path, kind, kept, coordinates, numbers, notes)


def _why(array: Array) -> str:
    """Return why an array is left out, and what to write in its place."""
    fields = array.dtype.names or ()
    if array.dtype.kind == "c" or set(fields) == {"real", "imag"}:  # MATLAB 7.3 has the latter
        return (
            f"{array.name} {array.shape} is complex and is left out: write real and imaginary "
            f"parts as channels, np.stack([{array.name}.real, {array.name}.imag], 1)"
        )
    if fields:
        return f"{array.name} is a table of {', '.join(fields)} and is left out: write each alone"
    return f"{array.name} ({array.dtype}) holds no real numbers and is left out"
