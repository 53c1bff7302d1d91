"""What networks are told of a layout: entries per array, increments, statistics per channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.data.files.statistics import Moments, spread
from sciml.data.layouts.field_layout import SPACE, Layout
from sciml.data.layouts.windows import known_times, time_step
from sciml.data.sources.source import Array
from sciml.errors import InvalidArgument
from sciml.networks.fields.description import FieldSet

TAKEN = {"chunk", "correct", "seed", "values", "steps", "self"}  # arguments of predict


def skeleton(
    layout: Layout, steps: Mapping[str, int], units: Mapping[str, str], history: int, bundle: int
) -> dict[str, Any]:
    """Return names, axes, sizes and units, with statistics that change nothing.

    Args:
        layout: What was recognised.
        steps: Of subsampling, by axis.
        units: By name, in place of those of the file.
        history: States of trajectories that go in.
        bundle: States that come out.

    Raises:
        InvalidArgument: For units of unknown arrays, and names that predict cannot take.
    """
    every = {a.name: a for a in (*layout.inputs, *layout.outputs)}
    unknown = [name for name in units if name not in every]
    if unknown:
        raise InvalidArgument(f"data.units of {unknown[0]}", f"one of {', '.join(every)}")
    taken = sorted(every.keys() & TAKEN)
    if taken:
        raise InvalidArgument(
            f"an array called {taken[0]}", "another name: this one is an argument of predict"
        )

    def kept(array: Array, axis: str) -> int:
        return -(-array.shape[1 + array.axes.index(axis)] // steps.get(axis, 1))

    def entry(array: Array, states: int) -> dict[str, Any]:
        moving = array.name in layout.moving
        axes = [a for a in array.axes if a != "t" or not moving or states != 1]
        sizes = {a: kept(array, a) for a in axes if a in ("t", "c")}
        if moving and "t" in sizes:
            sizes["t"] = states
        unit = units.get(array.name) or array.unit or "1"
        found = {"name": array.name, "axes": axes, "sizes": sizes, "unit": unit}
        found["names"] = list(array.names)
        if moving:
            found["trajectory"] = list(array.axes)
        if array.name in layout.named:
            found["named"] = True
        if array.unit not in ("", unit):
            found["unit_of_file"] = array.unit
        return found

    first = next(a for a in layout.outputs if any(s in a.axes for s in SPACE))
    size = [kept(first, s) for s in SPACE[: len(layout.space)]]
    plain: dict[str, Any] = {
        "inputs": [entry(a, history) for a in layout.inputs],
        "outputs": [entry(a, bundle) for a in layout.outputs],
        "size": size,
        "grid": ["left"] * len(size),
        "periodic": False,
        "thinned": {axis: every for axis, every in steps.items() if every > 1},
    }
    step = time_step(known_times(layout, steps.get("t", 1)))
    if step is not None:
        plain["time_step"] = step
    before, after = (
        sum(e["sizes"].get("t", 1) * e["sizes"].get("c", 1) for e in plain[side])
        for side in ("inputs", "outputs")
    )
    plain |= {"mean": [0.0] * before, "std": [1.0] * before}
    return plain | {key: [1.0] * after for key in ("out_mean", "out_std", "scale")}


def increments(
    look: FieldSet, given: Tensor, target: Tensor, asked: bool | None, notes: list[str]
) -> list[int]:
    """Return the input channel that each output channel is a change of, -1 for none.

    That is the last state known, in trajectories, and the input with which an output begins.

    Args:
        look: The arrays.
        given: Inputs of some samples `(B, C, *space)`.
        target: Their outputs.
        asked: What the user says; None to look.
        notes: Takes a sentence on what was seen.

    Raises:
        InvalidArgument: If increments are asked for and there is no such input.
    """
    starts, at = {}, 0
    for f in look.inputs:
        starts[f.name] = (at, f)
        at += f.channels
    base: list[int] = []
    for f in look.outputs:
        source, c = starts.get(f.name), f.sizes.get("c", 1)
        if source is None and len(look.outputs) == 1 and f.channels > 1:
            for start, g in starts.values():
                k = g.channels
                known = given[:, start : start + k]
                if g.space and not f.channels % k and torch.equal(known, target[:, :k]):
                    source, c = (start, g), k
                    if asked is not False:
                        said = f"{f.name} begins with {g.name}: changes are learned"
                        notes.append(f"{said} (data.increment=false if they should not be)")
        if source is None or asked is False:
            base += [-1] * f.channels
        else:
            last = source[0] + source[1].channels - c
            base += [last + k % c for k in range(f.channels)]
    if asked and -1 in base:
        raise InvalidArgument(
            "data.increment=true, and no input is the state that outputs change",
            "a trajectory, or an output that begins with the input",
        )
    return base


@dataclass(frozen=True)
class Statistics:
    """Of the training part.

    Attributes:
        plain: `mean`, `std`, `out_mean`, `out_std`, `scale`, as networks are told.
        inputs: Moments of the inputs.
        outputs: Moments of the outputs.
    """

    plain: dict[str, list[float]]
    inputs: Moments
    outputs: Moments

    def ranges(self, fields: FieldSet) -> dict[str, tuple[float, float]]:
        """Return least and greatest value of every input."""
        found, at = {}, 0
        for f in fields.inputs:
            part = slice(at, at + f.channels)
            found[f.name] = (
                float(self.inputs.low[part].min()),
                float(self.inputs.high[part].max()),
            )
            at += f.channels
        return found


def statistics(
    fields: FieldSet, pairs: Iterable[tuple[Tensor, Tensor]], notes: list[str]
) -> Statistics:
    """Return means and deviations per channel.

    Args:
        fields: The arrays, with increments.
        pairs: Inputs (coarse solves behind them) and outputs `(B, C, *space)` of all training
            samples, in pieces.
        notes: Takes a sentence for every input that never changes.

    Raises:
        InvalidArgument: If no output ever changes.
    """
    before, change, after = Moments(), Moments(), Moments()
    base = torch.tensor(fields.base)
    if fields.solved:  # what is learned are corrections of the coarse solve
        base = fields.in_channels + torch.arange(fields.out_channels)
    mask = (base >= 0).reshape(-1, *[1] * fields.dim)
    for packed, target in pairs:
        packed, target = packed.double(), target.double()
        before.add(packed)
        after.add(target)
        change.add(target - packed[:, base.clamp_min(0)] * mask)
    if len(after.constant()) == fields.out_channels:
        raise InvalidArgument(
            f"the output {fields.outputs[0].name} is {float(after.low[0]):g} in all "
            f"{fields.plain['samples']} training samples",
            "an output that depends on the input",
            "Choose another one with data.outputs=[NAME]",
        )
    scale, at = [], 0
    for f in fields.outputs:
        rms = float(after.size[at : at + f.channels].square().mean().sqrt())
        scale += [rms or 1.0] * f.channels
        at += f.channels
    names = labels(fields)
    plain = {
        "mean": before.mean.tolist(),
        "std": spread(before, names.__getitem__, notes),
        "out_mean": change.mean.tolist(),
        "out_std": spread(change, str, []),
        "scale": scale,
    }
    return Statistics(plain, before, after)


def labels(fields: FieldSet) -> list[str]:
    """Return a name for every channel of the inputs, and of the coarse solve behind them."""
    named = [
        f.name if f.channels == 1 else f"{f.name}, channel {k}"
        for f in fields.inputs
        for k in range(f.channels)
    ]
    return named + [f"the coarse solve, channel {k}" for k in range(fields.solved)]


def per_input(fields: FieldSet) -> dict[str, float]:
    """Return the standard deviation of each input over all its channels."""
    found, at = {}, 0
    for f in fields.inputs:
        std = torch.tensor(fields.plain["std"][at : at + f.channels])
        found[f.name] = float(std.square().mean().sqrt())
        at += f.channels
    return found


def noisy(
    fields: FieldSet, given: Mapping[str, Tensor], share: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return inputs with normal noise, a share of the standard deviation of each in training."""
    size = per_input(fields)
    kicks = {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in given.items()
    }
    return {name: value + share * size[name] * kicks[name] for name, value in given.items()}
