"""A file to predict from, read as the file of the training was: axes, thinned times, first states.

What an operator predicts may stand in the same file: of a trajectory these are the states behind
those that are given, of everything else the outputs as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sciml.data.layouts.alike import check_step, check_unit, turned, turned_note
from sciml.data.layouts.sample_axis import as_trained
from sciml.data.layouts.windows import time_step
from sciml.data.readers import open_source
from sciml.data.sources.source import Array
from sciml.errors import InvalidArgument
from sciml.networks.fields.description import SPACE, FieldSet, FieldSpec


@dataclass(frozen=True)
class FieldReading:
    """What a file holds for an operator.

    Attributes:
        given: Inputs by name, as the operator takes them.
        known: Outputs that the file holds too; of trajectories the states behind those given, as
            `FieldSpec.whole` lays them.
        states: Names of those of them that are trajectories.
        said: Sentences on what was turned round or thinned out.
    """

    given: dict[str, np.ndarray] = field(default_factory=dict)
    known: dict[str, np.ndarray] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)


def read_as_trained(
    path: str | Path,
    fields: FieldSet,
    axes: Mapping[str, Sequence[str]],
    rows: slice,
    every: int = 1,
) -> FieldReading:
    """Return inputs and known outputs of a file.

    Args:
        path: File or folder.
        fields: Of the operator.
        axes: `data.axes` of its training.
        rows: Samples that are wanted.
        every: Which times training took, where `fields` does not say (`data.subsample_time`).

    Raises:
        InvalidArgument: If an input is missing, or axes, units or times are others than those of
            the training, with both.
    """
    inputs = {f.name: f for f in fields.inputs}
    outputs = {f.name: f for f in fields.outputs}
    source = open_source(path, list(inputs))
    source, said = as_trained(source, axes, {*inputs, *outputs}, fields.size)
    reading, every = FieldReading(said=said), fields.thinned.get("t", every)
    for name, f in {**inputs, **{k: o for k, o in outputs.items() if k not in inputs}}.items():
        if name not in source.arrays and name not in inputs:
            continue
        moves = name in fields.moving or (name not in inputs and fields.bundle > 0)
        array = _in_order(source.array(name), f, moves, path, reading.said)
        check_unit(str(path), array, (f.unit, f.unit_of_file))
        letters = array.axes or _letters(array, f, moves)
        values = array.rows(rows)
        if moves and "t" in letters:
            first, later = _states(
                values, letters, f, _history(fields), every, source.coordinates.get("t"),
                fields.time_step, path, reading.said,
            )  # fmt: skip
            if name in outputs:
                reading.known[name] = later
                reading.states.add(name)
            values = first
        elif "t" in letters:
            values = _thinned(values, letters, f, every, reading.said)
        if name in inputs:
            reading.given[name] = np.ascontiguousarray(values)
        elif not moves:
            reading.known[name] = values
    _say_grid(reading, fields)
    return reading


def _history(fields: FieldSet) -> int:
    """Return how many states of trajectories are given."""
    return max((f.sizes.get("t", 1) for f in fields.inputs if f.name in fields.moving), default=1)


def _letters(array: Array, f: FieldSpec, moves: bool) -> tuple[str, ...]:
    """Return the axes of an array without names: a trajectory has one more than a single state."""
    whole = moves and len(array.shape) == len(f.whole) + 1
    return f.whole if whole else f.axes


def _in_order(array: Array, f: FieldSpec, moves: bool, path: str | Path, said: list[str]) -> Array:
    """Return an array in the order of the training's axes, where the file names its own.

    Raises:
        InvalidArgument: If these are not those of the training.
    """
    own, state = array.axes, tuple(a for a in f.whole if a != "t")
    wanted = (f.whole, state) if moves else (f.axes,)
    fits = next((w for w in wanted if sorted(w) == sorted(own)), None)
    if not own or fits == own:
        return array
    if fits is None:
        each = " or ".join(f"({', '.join(('n', *w))})" for w in wanted)
        raise InvalidArgument(
            f"{path} with {array.name} stored as ({', '.join(('n', *own))})",
            f"{each}, as in training",
            "Turn the array round, or rename its dimensions",
        )
    if f.named:
        said.append(turned_note(array, fits))
        return turned(array, fits)
    if moves and not f.trajectory and tuple(a for a in own if a != "t") == state:
        return array  # a folder of an earlier version, which does not say where times were
    said.append(
        f"{array.name} is stored as (n, {', '.join(own)}) and read as (n, {', '.join(fits)}) in "
        "that order: the model does not say that the file of its training named axes"
    )
    return replace(array, axes=fits)


def _states(
    values: np.ndarray,
    letters: Sequence[str],
    f: FieldSpec,
    history: int,
    every: int,
    times: np.ndarray | None,
    trained: float | None,
    path: str | Path,
    said: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first states of trajectories, as the operator takes them, and those behind.

    Raises:
        InvalidArgument: If there are too few times, or others than in training.
    """
    axis = 1 + list(letters).index("t")
    count = values.shape[axis]
    if every > 1 and count == history > 1:  # these cannot be thinned: they must be what is wanted
        said.append(f"the {count} times of {f.name} are taken as they are, {every} of the file of "
                    "the training apart")  # fmt: skip
        every = 1
    elif every > 1:
        said.append(f"{f.name}: one of {every} times is taken, as in training "
                    f"(data.subsample_time={every})")  # fmt: skip
    kept = _every(values, axis, every)
    if kept.shape[axis] < history:
        raise InvalidArgument(
            f"{path} with {f.name} {values.shape}, {count} time{'s' * (count != 1)}",
            f"at least {(history - 1) * every + 1} times, of which the operator sees {history}",
        )
    known = None if times is None else times[::every][: kept.shape[axis]]
    if known is not None and len(known) == kept.shape[axis]:
        check_step(str(path), time_step(known), trained)
    first, later = np.split(kept, [history], axis)
    later = np.moveaxis(later, axis, 1 + f.whole.index("t"))
    return (first if "t" in f.axes else np.take(first, 0, axis)), later


def _every(values: np.ndarray, axis: int, step: int) -> np.ndarray:
    return values[(slice(None),) * axis + (slice(None, None, step),)]


def _thinned(
    values: np.ndarray, letters: Sequence[str], f: FieldSpec, every: int, said: list[str]
) -> np.ndarray:
    """Return what does not move with the times that training took, if it has more of them."""
    axis, wanted = 1 + list(letters).index("t"), f.sizes.get("t")
    count = values.shape[axis]
    if every == 1 or count == wanted or -(-count // every) != wanted:
        return values
    said.append(f"{f.name}: {wanted} of {count} times are taken, as in training "
                f"(data.subsample_time={every})")  # fmt: skip
    return _every(values, axis, every)


def _say_grid(reading: FieldReading, fields: FieldSet) -> None:
    """Say where a file has another grid than that of the training."""
    for f in fields.inputs:
        values = reading.given[f.name]
        if not f.space or values.ndim != len(f.axes) + 1:
            continue
        has = [values.shape[1 + f.axes.index(a)] for a in SPACE if a in f.space]
        if has != fields.size:
            thin = [str(fields.thinned[a]) for a in f.space if a in fields.thinned]
            why = f" (data.subsample={thin[0]})" if thin else ""
            grids = [" x ".join(map(str, n)) for n in (fields.size, has)]
            reading.said.append(f"trained on {grids[0]} points{why}, predicted on {grids[1]}")
        return
