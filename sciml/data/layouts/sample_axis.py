"""Which axis counts the samples: the first, or the one that the user calls n.

MATLAB and Fortran put samples last, `(32, 32, 400)` for 400 samples on 32 x 32 points, and such a
file reads well as 32 samples on 32 x 400. Where lengths speak for that, it is said, or refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from sciml.data.sources.array_moves import samples_first
from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument

LETTERS = ("n", "t", "c", "x", "y", "z")
FEW = 8  # entries of a last axis up to which it is one of channels rather than of samples


def with_axes(source: Source, axes: Mapping[str, Sequence[str]]) -> Source:
    """Return a source whose arrays have the axes that the user typed, samples first.

    Args:
        source: From `open_source`.
        axes: Letters of all axes by name, one of them "n"; names of other arrays are not looked at.

    Raises:
        InvalidArgument: If letters do not fit an array.
    """
    arrays, counts = dict(source.arrays), set()
    for name, letters in axes.items():
        if name not in arrays:
            continue
        array, given = arrays[name], [str(g) for g in letters]
        together = source.parts or (source.certain and not source.filed)
        filed = source.filed.get(name, array)  # where samples may stand elsewhere, or be one
        if len(given) == len(filed.shape) and (given[0] != "n" or len(given) != len(array.shape)):
            array = filed
        fits = len(given) == len(array.shape) and len(set(given)) == len(given)
        if not fits or not set(given) <= set(LETTERS) or "n" not in given:
            raise InvalidArgument(
                f"data.axes.{name}={given} for {name} {array.shape}",
                f"{len(array.shape)} different letters of n, t, c, x, y, z, among them n (samples)",
            )
        if set(given) & set("xyz") != set("xyz"[: len(set(given) & set("xyz"))]):
            raise InvalidArgument(
                f"data.axes.{name}={given}", "x for one direction, x and y for two, z for a third"
            )
        place = given.index("n")
        if place and together:
            raise InvalidArgument(
                f"data.axes.{name}={given} for {source.format}, put together along first axes",
                "samples first in each file",
                "Turn the arrays round, or put them into one file",
            )
        del given[place]
        arrays[name] = replace(samples_first(array, place), axes=tuple(given), sampled=True)
        counts |= {arrays[name].shape[0]} if place else set()
    for name, array in arrays.items() if len(counts) == 1 else ():
        if name not in axes:
            arrays[name] = replace(array, sampled=bool(array.shape) and array.shape[0] in counts)
    return replace(source, arrays=arrays)


def doubt(source: Source, arrays: Iterable[Array], other: Mapping[str, Sequence[str]]) -> str:
    """Return what to say where lengths speak for samples along the last axis, empty elsewhere.

    Args:
        source: The file.
        arrays: Those in use, with the axes that were recognised behind the samples.
        other: Letters of all axes by name if samples come last; empty if that cannot be read.

    Raises:
        InvalidArgument: For a MATLAB file in which the first two axes are as long, and the last is
            longer, in all arrays: samples that number as many as points of a grid on which no two
            sides are equal are a rare chance, and MATLAB's habit is samples last.
    """
    matlab, arrays = "MATLAB" in source.format, list(arrays)
    shapes = [a.shape for a in arrays]
    if not other or not all(_speaks(shape, matlab) for shape in shapes):
        return ""
    shown = ", ".join(f"{a.name} {a.shape}" for a in arrays)
    first, last = shapes[0][0], shapes[0][-1]
    as_last = to_type(other)
    as_first = to_type({a.name: ["n", *a.axes] for a in arrays})
    if matlab and all(len(s) > 2 and s[0] == s[1] and s[-1] > max(s[:-1]) for s in shapes):
        raise InvalidArgument(
            f"{source.path} with {shown}, which looks like {last} samples along the last axis",
            "samples along the first axis, or their axis named",
            f"Type {as_last}, or, if it is {first} samples, {as_first}",
        )
    return (
        f"{shown}: read as {first} samples along the first axis. If the last one counts the "
        f"samples ({last}), type {as_last}"
    )


def _speaks(shape: Sequence[int], matlab: bool) -> bool:
    """Return whether the lengths of an array speak for samples along its last axis."""
    if len(shape) < 2 or shape[-1] <= FEW:
        return False
    square = len(shape) > 2 and shape[0] == shape[1] and shape[-1] not in shape[:-1]
    cube = len(shape) > 2 and len(set(shape)) == 1
    return square or (matlab and (cube or shape[-1] > max(shape[:-1])))


def _points(letters: Sequence[str], shape: Sequence[int]) -> list[int]:
    return [shape[letters.index(a)] for a in ("x", "y", "z") if a in letters]


def to_type(letters: Mapping[str, Sequence[str]]) -> str:
    """Return the argument that says the axes of arrays, as a shell takes it."""
    each = ", ".join(f"{name}: [{', '.join(axes)}]" for name, axes in letters.items())
    return f'"data.axes={{{each}}}"'


def samples_last(source: Source, names: Sequence[str]) -> Source | None:
    """Return a source whose arrays are read with samples along the last axis.

    None where that is no question: axes have names, files are samples, or last axes differ.

    Args:
        source: From `open_source`.
        names: Of the arrays in use.
    """
    used = [source.arrays[name] for name in dict.fromkeys(names)]
    if source.certain or source.inputs or any(a.axes or len(a.shape) < 2 for a in used):
        return None
    if len({a.shape[-1] for a in used}) > 1:
        return None
    moved = {a.name: replace(samples_first(a, len(a.shape) - 1), sampled=True) for a in used}
    return replace(source, arrays={**source.arrays, **moved})


def as_trained(
    source: Source, axes: Mapping[str, Sequence[str]], names: Collection[str], grid: Sequence[int]
) -> tuple[Source, list[str]]:
    """Return a source with the axes that training was told, and sentences on arrays turned round.

    Args:
        source: What is predicted from.
        axes: `data.axes` of the training. An array without the axis of times is a first state; one
            that has the grid of the training only if its samples come first is read so.
        names: Of inputs and outputs; other arrays stay as they are.
        grid: Points per direction in training.
    """
    source, counted = _times_as_samples(source, names)
    said: dict[str, list[str]] = {}
    for name in sorted(set(names) & source.arrays.keys() & axes.keys()):
        letters, shape = [str(a) for a in axes[name]], source.arrays[name].shape
        if len(letters) == len(shape) + 1 and "t" in letters:
            letters.remove("t")
        if len(letters) != len(shape):
            continue
        first = ["n", *(a for a in letters if a != "n")]
        as_first = _points(first, shape) == list(grid) != _points(letters, shape)
        said[name] = first if as_first else letters
    turned = [n for n, letters in said.items() if letters[:1] != ["n"]]
    shown = [
        f"{n} {source.arrays[n].shape} is read as ({', '.join(said[n])}), as in training; "
        f"what is predicted has samples first"
        for n in turned
    ]
    return with_axes(source, said), [*counted, *shown]


def _times_as_samples(source: Source, names: Collection[str]) -> tuple[Source, list[str]]:
    """Return a file of inputs without outputs, in which times count samples as in that of both.

    A field alone that moves in time is read as one trajectory, which holds inputs and outputs.

    Args:
        source: What is predicted from.
        names: Of inputs and outputs.
    """
    moving = {n: a for n, a in source.filed.items() if n in names and "t" in a.axes}
    if source.counted or not moving or set(names) <= source.arrays.keys():
        return source, []
    arrays = {}
    for name, array in moving.items():
        place = array.axes.index("t")
        rest = array.axes[:place] + array.axes[place + 1 :]
        arrays[name] = replace(samples_first(array, place), axes=rest, sampled=True)
    said = (
        f"the times of {' and '.join(moving)} count samples, as {source.path.name} has no outputs"
    )
    return replace(source, arrays={**source.arrays, **arrays}), [said]
