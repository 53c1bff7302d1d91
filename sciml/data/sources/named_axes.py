"""Arrays whose dimensions have names: which axis each of them is, and which counts samples.

Samples are the dimension of a name that is known for them, wherever it stands; else the one unknown
name beside known ones. Files without either hold one sample, as those of climate have it; where
several fields move in time there, the times are what counts samples of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sciml.data.sources.array_groups import put_together
from sciml.data.sources.array_moves import one_sample, samples_first
from sciml.data.sources.generic import sorted_out
from sciml.data.sources.source import COORDINATES, KINDS, Array, Source

LETTERS = ("n", "t", "c", "x", "y", "z")
SAMPLES = ("n", "sample", "samples", "member", "ensemble", "realization", "realisation", "batch",
           "case", "cases", "number", "sim", "simulation", "run", "trajectory",
           "trajectories")  # fmt: skip
CHANNELS = ("c", "channel", "channels", "variable", "variables", "component", "components")
MORE = {"nt": "t", "step": "t", "valid_time": "t", "date": "t", "nx": "x", "ny": "y", "nz": "z",
        "lev": "z", "level": "z", "plev": "z", "pressure_level": "z", "depth": "z", "height": "z",
        "altitude": "z"}  # fmt: skip
BOUNDS = ("bnds", "bounds", "nbnd", "nv")  # of the cells of a coordinate


@dataclass(frozen=True)
class SampleDimension:
    """What counts samples in a file.

    Attributes:
        name: A letter or the name of a dimension; empty if the file is one sample.
        said: What to tell, empty where the name is known for samples.
    """

    name: str
    said: str = ""


def named(
    path: Path, kind: str, arrays: Mapping[str, Array], coordinates: Mapping[str, np.ndarray]
) -> Source:
    """Return a source of arrays whose dimensions may have names, samples first.

    Args:
        path: For messages.
        kind: Format in words.
        arrays: By full names; their `axes` are the names of all dimensions, or empty.
        coordinates: Numbers, texts or dates along dimensions, by their axes.

    Raises:
        InvalidArgument: If nothing in the file is an array of numbers.
    """
    calls, said = _directions(arrays)
    arrays = {n: replace(a, axes=tuple(calls.get(axis_of(d), d) for d in a.axes))
              for n, a in arrays.items()}  # fmt: skip

    source = put_together(path, arrays, lambda held: _turned(path, kind, held))
    for axis, values in coordinates.items():
        if axis in LETTERS[1:]:
            _along(source, calls.get(axis, axis), values)
    source.notes += [said] if said else []
    return source


def _directions(arrays: Mapping[str, Array]) -> tuple[dict[str, str], str]:
    """Return what directions are called where x is missing, as for profiles over depth.

    Returns:
        New letters by old ones, and a sentence on them; nothing where x, y, z stand as they should.
    """
    used = {axis_of(d): d for a in arrays.values() if len(a.axes) == len(a.shape) for d in a.axes}
    found = sorted(used.keys() & set("xyz"))
    calls = {old: new for old, new in zip(found, "xyz", strict=False) if old != new}
    shown = " and ".join(f"the dimension {used[old]} is called {new}" for old, new in calls.items())
    return calls, shown


def _turned(path: Path, kind: str, arrays: Mapping[str, Array]) -> Source:
    """Return a source of arrays with the samples found by the names of dimensions."""
    letters = {n: tuple(map(axis_of, a.axes)) for n, a in arrays.items()
               if a.axes and len(a.axes) == len(a.shape) and a.dtype.kind in KINDS}  # fmt: skip
    bounds = [n for n, names in letters.items() if set(names) & set(BOUNDS)]
    letters = {n: v for n, v in letters.items() if n not in bounds and len(set(v)) == len(v)}
    plain = {n: replace(a, axes=()) for n, a in arrays.items() if n not in bounds}
    sample = _sample_dimension(letters, arrays)
    if sample is None:
        return sorted_out(path, kind, plain)
    turned = dict(plain)
    for name, names in letters.items():
        if sample.name in names:
            place = names.index(sample.name)
            rest = names[:place] + names[place + 1 :]
            axes = rest if set(rest) <= set(LETTERS) else ()
            turned[name] = replace(samples_first(plain[name], place), axes=axes)
        elif not sample.name:
            turned[name] = replace(one_sample(plain[name]), axes=names)
    source = sorted_out(path, kind, turned)
    for name in source.arrays.keys() & letters.keys():
        with_samples = not sample.name or sample.name in letters[name]
        source.arrays[name] = replace(source.arrays[name], sampled=with_samples)
    source.certain, source.counted = True, bool(sample.name)
    source.filed = {n: replace(plain[n], axes=letters[n]) for n in source.arrays if n in letters}
    moved = [n for n, names in letters.items() if sample.name in names[1:]]
    source.format += ", samples put first by the names of its dimensions" if moved else ""
    source.notes += [sample.said] if sample.said else []
    return source


def _sample_dimension(
    letters: Mapping[str, Sequence[str]], arrays: Mapping[str, Array]
) -> SampleDimension | None:
    """Return what counts samples by names; None where names do not say it."""
    used = {n for names in letters.values() for n in names}
    if "n" in used:
        return SampleDimension("n")
    if not used & set(LETTERS):
        return None
    largest = max(letters, key=lambda n: arrays[n].bytes)
    unknown = used - set(LETTERS)
    if unknown:
        if len(unknown) > 1 or not unknown <= set(letters[largest]) or len(letters[largest]) < 2:
            return None
        name = unknown.pop()
        return SampleDimension(
            name, f"the dimension {name} is read as that of samples, as no other has their name"
        )
    moving = [n for n, names in letters.items() if "t" in names and len(names) > 1]
    if len(moving) > 1:
        return SampleDimension(
            "t",
            f"no dimension of samples: the times count them, for pairs of {' and '.join(moving)}",
        )
    what = f"the file is one trajectory of {moving[0]}" if moving else "the file is one sample"
    return SampleDimension("", f"no dimension of samples: {what}")


def axis_of(dim: str) -> str:
    """Return the axis that a dimension is: "n" of samples, "t", "c", "x", "y", "z"."""
    low = dim.lower().rpartition("/")[2]
    if low in SAMPLES:
        return "n"
    return "c" if low in CHANNELS else COORDINATES.get(low, MORE.get(low, low))


def _along(source: Source, axis: str, values: np.ndarray) -> None:
    """Take the values along an axis: numbers, seconds since the first date, names of channels."""
    values = np.asarray(values)
    if values.dtype.kind in KINDS:
        source.coordinates[axis] = np.asarray(values, float)
    elif values.dtype.kind in "mM" and values.size:
        source.coordinates[axis] = (values - values.flat[0]) / np.timedelta64(1, "s")
    elif axis == "c" and values.ndim == 1:
        names = tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)
        for name, array in source.arrays.items():
            if "c" in array.axes and array.shape[1 + array.axes.index("c")] == len(names):
                source.arrays[name] = replace(array, names=names)
