"""Whether another file holds the same quantities as that of the training: axes, units, times."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sciml.data.layouts.field_layout import SPACE, Layout
from sciml.data.layouts.windows import known_times, time_step
from sciml.data.sources.source import Array
from sciml.errors import InvalidArgument


def turned(array: Array, axes: Sequence[str]) -> Array:
    """Return an array whose axes behind the samples have been put into another order.

    Args:
        array: With axes.
        axes: The same letters in the order that is wanted.
    """
    if tuple(axes) == array.axes:
        return array
    order = (0, *(1 + array.axes.index(a) for a in axes))

    def read(index: Any) -> np.ndarray:
        return np.transpose(array.read(index), order)

    shape = tuple(array.shape[k] for k in order)
    return replace(array, shape=shape, axes=tuple(axes), read=read, cuts=False)


def shown(array: Array) -> str:
    """Return name, axes, shape and type of an array as text."""
    axes = f" with the axes ({', '.join(('n', *array.axes))})" if array.axes else ""
    return f"{array.describe()}{axes}"


def like_training(
    layout: Layout, theirs: Layout, path: str | Path, units: Mapping[str, str]
) -> Layout:
    """Return the layout of a test file in the order of axes of the training; `doubts` says so.

    Args:
        layout: Of the file of training samples.
        theirs: Of the test file.
        path: Of the test file, for messages.
        units: That the user typed, in place of those of the training file.

    Raises:
        InvalidArgument: If arrays, axes, units or times differ, with those of both files.
    """
    wanted = {a.name: a for a in (*layout.inputs, *layout.outputs)}
    sides = ("inputs", "outputs")
    for side in sides:
        ours, has = getattr(layout, side), getattr(theirs, side)
        fits = [a.name for a in ours] == [a.name for a in has] and all(
            a.axes == b.axes or _same_axes(a, b, layout, theirs)
            for a, b in zip(ours, has, strict=True)
        )
        if not fits:
            raise InvalidArgument(
                f"data.test_path={path} with the {side} {', '.join(map(shown, has))}",
                f"arrays like those of training: {', '.join(map(shown, ours))}",
            )
    for a in (*theirs.inputs, *theirs.outputs):
        _check_lengths(path, wanted[a.name], a, moving=a.name in layout.moving)
        ours = wanted[a.name].unit or units.get(a.name, "")
        check_unit(f"data.test_path={path}", a, (ours, units.get(a.name, "")))
    steps = [time_step(known_times(of)) for of in (theirs, layout)]
    check_step(f"data.test_path={path}", *steps)
    said = [
        f"{path}: {turned_note(a, wanted[a.name].axes)}"
        for a in {b.name: b for b in (*theirs.inputs, *theirs.outputs)}.values()
        if a.axes != wanted[a.name].axes
    ]
    moved = {
        side: tuple(turned(a, wanted[a.name].axes) for a in getattr(theirs, side)) for side in sides
    }
    first = next(a for a in moved["outputs"] if any(s in a.axes for s in SPACE))
    space = tuple(first.shape[1 + first.axes.index(s)] for s in SPACE if s in first.axes)
    return replace(theirs, **moved, space=space, doubts=(*theirs.doubts, *said))


def _check_lengths(path: str | Path, ours: Array, other: Array, moving: bool) -> None:
    """Refuse other numbers of channels or of times, which a network has a weight for each."""
    for axis in ("c",) if moving else ("c", "t"):
        has = other.shape[1 + other.axes.index(axis)] if axis in other.axes else None
        wanted = ours.shape[1 + ours.axes.index(axis)] if axis in ours.axes else None
        if has != wanted:
            word = {"c": "channels", "t": "times"}[axis]
            raise InvalidArgument(
                f"data.test_path={path} with {has} {word} in {shown(other)}",
                f"{wanted} {word} as in training: {shown(ours)}",
            )


def _same_axes(ours: Array, other: Array, layout: Layout, theirs: Layout) -> bool:
    """Return whether axes that both files name differ in their order alone."""
    named = ours.name in layout.named and other.name in theirs.named
    return named and sorted(ours.axes) == sorted(other.axes)


def turned_note(array: Array, axes: Sequence[str]) -> str:
    """Return a sentence on an array that is turned into the order of the training."""
    return (
        f"{array.name} is stored as (n, {', '.join(array.axes)}) and turned to "
        f"(n, {', '.join(axes)}), as in training"
    )


def check_unit(where: str, array: Array, units: Collection[str]) -> None:
    """Refuse an array in another unit than that of the training; no unit in one of them passes.

    Args:
        where: The file, for messages.
        array: Of the file.
        units: All that stand for the unit of the training.

    Raises:
        InvalidArgument: Naming both units.
    """
    known = [u for u in units if u not in ("", "1")]
    if array.unit in ("", "1") or not known:
        return
    if not any(same_unit(array.unit, u) for u in known):
        raise InvalidArgument(
            f"{where} with {array.name} in {array.unit}",
            f"{array.name} in {known[0]}, as in training",
            f"Convert its numbers, or write {known[0]} as its unit if that is what they are in",
        )


def same_unit(one: str, other: str) -> bool:
    """Return whether two units are the same in other spelling, as m/s and m s-1 are."""
    return one == other or _powers(one) == _powers(other)


def _powers(unit: str) -> dict[str, int]:
    """Return the power of every symbol of a unit."""
    found: dict[str, int] = {}
    text = unit.replace("**", "^").replace("·", " ").replace("*", " ").replace("²", "2")
    for mark, word in re.findall(r"(/?)\s*([^\s/]+)", text):
        parts = re.fullmatch(r"(.*?)\^?([-+]?\d+)", word)
        name, power = (parts[1], int(parts[2])) if parts and parts[1] else (word, 1)
        found[name] = found.get(name, 0) + (-power if mark else power)
    return {name: power for name, power in found.items() if power and name != "1"}


def check_step(where: str, step: float | None, trained: float | None) -> None:
    """Refuse times that are other steps apart than in training; what no file says passes.

    Raises:
        InvalidArgument: Naming both steps.
    """
    if step is None or trained is None or np.isclose(step, trained, rtol=1e-2):
        return
    raise InvalidArgument(
        f"{where} with times {step:.6g} apart",
        f"times {trained:.6g} apart, as in training",
        "Take those times out of it, or first states alone",
    )
