"""What may well be meant otherwise in a file: arrays left out, uneven grids, files as samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sciml.data.sources.source import KINDS, Array, Source

SPACE = ("x", "y", "z")
UNEVEN = 1e-2  # by which steps differ from their mean
FEW = 20  # files up to which each may be a batch of samples


def reading_doubts(
    source: Source,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    space: Sequence[int],
    free: bool,
) -> list[str]:
    """Return sentences on what a run begins with, each with what to type.

    Args:
        source: The file.
        inputs: With their axes.
        outputs: Likewise.
        space: Points per direction.
        free: Whether the user has named neither inputs nor outputs.
    """
    found = _left_out(source, inputs, outputs, space) if free and not source.outputs else []
    return found + _uneven(source, space) + _batches(source, [*inputs, *outputs])


def _left_out(
    source: Source, inputs: Sequence[Array], outputs: Sequence[Array], space: Sequence[int]
) -> list[str]:
    """Name arrays that could be inputs, and places of points that are read as an even grid."""
    count, used = outputs[0].shape[0], {a.name for a in (*inputs, *outputs)}
    others = [a for n, a in source.arrays.items() if n not in used and a.dtype.kind in KINDS]
    samples = [a for a in others if a.sampled and a.shape and a.shape[0] == count]
    said = []
    if samples:
        names = ", ".join(a.describe() for a in samples[:3]) + (", …" if len(samples) > 3 else "")
        ins, outs, more = ([a.name for a in group] for group in (inputs, outputs, samples))
        is_, it = ("is", "it") if len(samples) == 1 else ("are", "them")
        said.append(
            f"{names} {is_} not used: data.inputs=[{','.join([*ins, *more])}] "
            f"data.outputs=[{','.join(outs)}] gives {it} to the network, "
            f"data.inputs=[{','.join(ins)}] data.outputs=[{','.join([*outs, *more])}] asks for {it}"
        )
    points = math.prod(space)
    for a in others:
        if a not in samples and len(a.shape) == 2 and a.shape[0] == points and a.shape[1] <= 3:
            grid = " x ".join(map(str, space))
            said.append(
                f"{a.describe()} is not used: the output is read as an even grid of {grid} points. "
                "Where it holds the places of points that are not even, put it into every sample "
                "and take model=cloud_unet"
            )
    return said


def _uneven(source: Source, space: Sequence[int]) -> list[str]:
    """Name coordinates whose steps differ: networks take grids as even."""
    said = []
    for letter, n in zip(SPACE, space, strict=False):
        known = source.coordinates.get(letter)
        if known is None or len(known) != n or n < 3:
            continue
        steps = np.abs(np.diff(known))
        if not np.isfinite(steps).all() or np.ptp(steps) > UNEVEN * steps.mean() or not steps.any():
            said.append(
                f"the points along {letter} are {steps.min():.4g} to {steps.max():.4g} apart, and "
                "are read as an even grid: put the fields on one where that matters"
            )
    return said


def _batches(source: Source, used: Sequence[Array]) -> list[str]:
    """Say where files of a folder, read as one sample each, look like batches of samples."""
    each, files = {a.shape[1] for a in used if len(a.shape) > 1}, used[0].shape[0]
    if not source.one_each or len(each) != 1 or files > FEW:
        return []
    inside = each.pop()
    if inside <= files or any(len(a.shape) < 3 for a in used):
        return []
    return [
        f"every one of {files} files is read as one sample. Where each holds {inside} samples, let "
        "the names of all files begin with train_ (and those for the test with test_)"
    ]
