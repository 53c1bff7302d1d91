"""Which arrays of a source are inputs and outputs, and what their axes are.

In order: what the user says (`data.inputs`, `data.outputs`, `data.axes`), what the format says,
names (`x, a, coeff, ...` are inputs, `y, u, sol, ...` outputs), and shapes: samples are the first
axis, and where lengths speak against that, `doubts` says so; an axis that only the
output has is time, one of at most eight entries beside longer ones is channels, all others are
space. What was recognised is shown by `sciml inspect FILE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sciml.data.layouts.array_names import check_counts_of, guessed, names_to_type
from sciml.data.layouts.reading_doubts import reading_doubts
from sciml.data.layouts.sample_axis import doubt, samples_last, to_type, with_axes
from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument

FEW = 8  # entries of an axis of channels at most, where nobody names it
SPACE = ("x", "y", "z")


@dataclass(frozen=True)
class Layout:
    """Arrays with known axes.

    Attributes:
        inputs: With axes; without directions of space they are numbers for the whole sample.
        outputs: With axes. In a roll-out they are among the inputs, with "t" in front.
        moving: Names of trajectories: inputs and outputs at once.
        space: Points per direction.
        doubts: Sentences on what may well be read wrongly, with what to type.
        named: Names of arrays whose axes the file or the user says.
        times: Along the axis of times, where the file says them.
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    moving: tuple[str, ...]
    space: tuple[int, ...]
    doubts: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    times: np.ndarray | None = field(default=None, compare=False)

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return self.outputs[0].shape[0]


def recognise(
    source: Source,
    inputs: str | Sequence[str] | None = None,
    outputs: str | Sequence[str] | None = None,
    axes: Mapping[str, Sequence[str]] | None = None,
) -> Layout:
    """Return inputs and outputs of a source with their axes.

    Args:
        source: From `open_source`.
        inputs: Names of arrays, or one name; None for what is recognised.
        outputs: The same. One name in both is a trajectory.
        axes: Per name all axes, with "n" of samples anywhere, as `[n, t, x, y]` or `[x, y, n]`.

    Raises:
        InvalidArgument: If names are unknown, or nothing is recognised, with what to type.
    """
    if source.clouds is not None:
        raise InvalidArgument(
            f"{source.path} is a list of {len(source.clouds)} samples of points",
            "fields on grids for this model",
            "Type model=cloud_unet",
        )
    inputs = [inputs] if isinstance(inputs, str) else inputs
    outputs = [outputs] if isinstance(outputs, str) else outputs
    told = with_axes(source, axes or {})
    found = _recognised(told, inputs, outputs)
    used = {a.name: a for a in (*found.inputs, *found.outputs)}
    unknown = [name for name in axes or () if name not in used]
    if unknown:
        raise InvalidArgument(
            f"data.axes of {unknown[0]}", f"one of the arrays in use: {', '.join(used)}"
        )
    said = (
        "" if axes else doubt(source, used.values(), _if_last(source, found.inputs, found.outputs))
    )
    sides = (found.inputs, found.outputs)
    more = reading_doubts(source, *sides, found.space, free=inputs is None and outputs is None)
    return replace(
        found,
        doubts=(*filter(None, (said,)), *more),
        named=tuple(name for name in used if told.arrays[name].axes),
        times=source.coordinates.get("t"),
    )


def _if_last(source: Source, ins: Iterable[Array], outs: Iterable[Array]) -> dict[str, list[str]]:
    """Return all axes by name if samples come last; empty if that is no question, or no layout."""
    inputs, outputs = [a.name for a in ins], [a.name for a in outs]
    turned = samples_last(source, [*inputs, *outputs])
    if turned is None:
        return {}
    try:
        other = _recognised(turned, inputs, outputs)
    except InvalidArgument:
        return {}
    return {a.name: [*a.axes, "n"] for a in (*other.inputs, *other.outputs)}


def _recognised(
    source: Source, inputs: Sequence[str] | None, outputs: Sequence[str] | None
) -> Layout:
    """Return what `recognise` says of arrays whose samples come first."""
    named_in = [source.array(n, "data.inputs") for n in inputs or ()]
    named_out = [source.array(n, "data.outputs") for n in outputs or ()]
    sampled = {n: a for n, a in source.arrays.items() if a.sampled}
    guess_in, guess_out = guessed(source, sampled, [a.name for a in named_in + named_out])
    chosen_in = named_in or [sampled[n] for n in guess_in if n in sampled]
    chosen_out = named_out or [sampled[n] for n in guess_out if n in sampled]
    if named_out and not named_in and not source.inputs:
        chosen_in = [a for a in chosen_in if a.name not in outputs]
    if named_in and not named_out and not source.outputs:
        chosen_out = [a for a in chosen_out if a.name not in inputs]
    if not chosen_in or not chosen_out:
        check_counts_of(source)
        left = [text for text in source.notes if "left out" in text]
        raise InvalidArgument(
            "; ".join([f"{source.path} with {source.listed()}", *left[:3]]),
            "arrays whose names say which are inputs and which outputs (x and y, a and u, ...)",
            names_to_type(list(sampled or source.arrays), guess_out),
        )
    counts = {a.name: a.shape[0] for a in (*chosen_in, *chosen_out)}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{n} {source.arrays[n].shape}" for n in counts)
        last = _if_last(source, chosen_in, chosen_out)
        hint = f"If the last axis counts them, type {to_type(last)}. " if last else ""
        said = {a.name for a in (*chosen_in, *chosen_out) if a.axes}
        if said and len(said) < len(counts):  # of some arrays alone
            hint = f"Say data.axes of {', '.join(n for n in counts if n not in said)} too. "
        raise InvalidArgument(
            f"{source.path} with {shown}", "the same number of samples, along the first axis",
            f"{hint}Choose others with data.inputs=[NAME] data.outputs=[NAME]",
        )  # fmt: skip
    known = {a.name: a for a in (*chosen_in, *chosen_out)}
    both = {a.name for a in chosen_in} & {a.name for a in chosen_out}
    outs = [_with_axes(known[a.name], source, trajectory=a.name in both) for a in chosen_out]
    moving = tuple(a.name for a in outs if a.name in both and "t" in a.axes)
    still = [a.name for a in outs if a.name in both and "t" not in a.axes]
    if still:
        raise InvalidArgument(
            f"{still[0]} {source.arrays[still[0]].shape} as input and output, in which no axis of "
            "time is known",
            "a trajectory",
            f"Type data.axes={{{still[0]}: [n, t, x]}}, or another data.outputs",
        )
    outs = [a if a.name in both else _as_time(a, chosen_in, known) for a in outs]
    first = next((a for a in outs if _space(a)), outs[0])
    grid = tuple(first.shape[1 + first.axes.index(s)] for s in SPACE if s in first.axes)
    if not grid:
        raise InvalidArgument(
            f"the output {first.describe()}, which has no axis of space",
            "a field on points for every sample, (samples, points) at least",
            "Choose another one with data.outputs=[NAME]. What is one number per sample is no "
            "field; several of them put side by side, (samples, numbers), are read as points",
        )
    ins = [
        next((o for o in outs if o.name == a.name), None) or _like(known[a.name], outs, grid)
        for a in chosen_in
    ]
    for a in outs:
        if tuple(a.shape[1 + a.axes.index(s)] for s in SPACE if s in a.axes) != grid:
            raise InvalidArgument(
                f"outputs on different grids: {first.describe()} and {a.describe()}",
                "one grid for all outputs",
                f"Type data.outputs=[{first.name}]",
            )
    return Layout(tuple(ins), tuple(outs), moving, grid)


def _space(array: Array) -> tuple[str, ...]:
    return tuple(a for a in array.axes if a in SPACE)


def _with_axes(array: Array, source: Source, trajectory: bool) -> Array:
    """Return an output with axes; those without names by their lengths."""
    sizes = array.shape[1:]
    if array.axes or not sizes:
        return array
    names: list[str | None] = [None] * len(sizes)
    times = source.coordinates.get("t")
    if times is not None:
        fits = [k for k, n in enumerate(sizes) if n in (len(times), len(times) - 1)]
        others = {len(v) for a, v in source.coordinates.items() if a != "t"}
        fits = [k for k in fits if sizes[k] not in others] or fits
        if len(fits) == 1:
            names[fits[0]] = "t"
    if trajectory and "t" not in names and len(sizes) >= 2:
        # the axis that is unlike the others; in doubt the first
        odd = [k for k, n in enumerate(sizes) if sizes.count(n) == 1]
        rest = sizes.count(max(sizes, key=sizes.count)) > 1
        names[odd[-1] if rest and len(odd) == 1 else 0] = "t"
    left = [k for k, n in enumerate(names) if n is None]
    channel = _channel([sizes[k] for k in left])
    if channel is not None:
        names[left.pop(channel)] = "c"
    if len(left) > 3:
        raise InvalidArgument(
            f"{array.describe()}, with {len(left)} axes that may be space",
            "one to three directions of space",
            f"Type data.axes={{{array.name}: [n, t, c, x, y]}} with one letter for every axis",
        )
    for letter, k in zip(SPACE, left, strict=False):
        names[k] = letter
    return replace(array, axes=tuple(str(n) for n in names))


def _channel(sizes: Sequence[int]) -> int | None:
    """Return which of some axes holds channels: a short first or last one beside longer ones."""
    if len(sizes) < 2:
        return None
    for k in (0, len(sizes) - 1):
        others = [n for j, n in enumerate(sizes) if j != k]
        if sizes[k] == 1 or (sizes[k] <= FEW and min(others) >= max(2 * sizes[k], FEW)):
            return k
    return None


def _like(array: Array, outs: Sequence[Array], grid: tuple[int, ...]) -> Array:
    """Return an input with axes: space where it stands on the outputs' grid, else numbers."""
    sizes = array.shape[1:]
    if array.axes:
        return array
    if not sizes:
        return array
    if sizes == grid:
        return replace(array, axes=SPACE[: len(grid)])
    if len(sizes) == len(grid) + 1:
        for k in (0, len(sizes) - 1):
            if tuple(n for j, n in enumerate(sizes) if j != k) == grid:
                space = list(SPACE[: len(grid)])
                space.insert(k, "c")
                return replace(array, axes=tuple(space))
    if len(sizes) == 1:
        return replace(array, axes=("c",))
    shown = ", ".join(a.describe() for a in outs)
    raise InvalidArgument(
        f"the input {array.describe()} on another grid than the output {shown}",
        "inputs on the grid of the outputs, or one number or vector per sample",
        f"Type data.axes={{{array.name}: [n, ...]}} with n, t, c, x, y, z for its axes",
    )


def _as_time(out: Array, ins: Sequence[Array], known: Mapping[str, Array]) -> Array:
    """Return an output whose additional axis is time, where an input has its other ones."""
    if known[out.name].axes or "t" in out.axes:
        return out
    for a in ins:
        plain, sizes = known[a.name].shape[1:], out.shape[1:]
        if plain and len(sizes) == len(plain) + 1 and not known[a.name].axes:
            fits = [k for k in range(len(sizes)) if sizes[:k] + sizes[k + 1 :] == plain]
            if fits and not (len(sizes) > 1 and _channel(sizes) == fits[0]):
                # where several axes are as long, time comes first or last: the last, as in
                # the files of FNO, unless it is the first alone that fits
                k = fits[-1]
                names = list(SPACE[: len(plain)])
                names.insert(k, "t")
                return replace(out, axes=tuple(names))
    return out
