"""`sciml predict` for operators on grids, trained on people's own files: predict, compare, draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sciml.cli.verbs.point_files import write_fields

if TYPE_CHECKING:
    from sciml.networks.fields.description import FieldSpec
    from sciml.pretrained import PretrainedOperator


@dataclass(frozen=True)
class FieldRequest:
    """What is to be predicted.

    Attributes:
        path: File or folder of inputs.
        output: An npz file; the picture stands beside it.
        samples: First samples that are read; None for all.
        rollout: States of a trajectory; None for one answer.
        chunk: Samples evaluated at once; None for what keeps memory moderate.
    """

    path: Path
    output: Path
    samples: int | None = None
    rollout: int | None = None
    chunk: int | None = None


@dataclass(frozen=True)
class Pair:
    """What is predicted beside what is known, of the same states.

    Attributes:
        found: The prediction.
        known: What the file holds.
        letters: Axes behind the samples.
        over: How many states were compared, in words; empty for what does not move.
    """

    found: np.ndarray
    known: np.ndarray
    letters: tuple[str, ...]
    over: str = ""


def predict_fields(
    model: PretrainedOperator,
    asked: FieldRequest,
    evaluating: Callable[[Path], AbstractContextManager],
) -> list[str]:
    """Predict for a file of fields, and return sentences on it.

    Where the file holds what is predicted too, they say how wrong it is.

    Args:
        model: Trained on `data=fields`.
        asked: What is to be predicted.
        evaluating: Turns what a network refuses into a message.

    Raises:
        InvalidArgument: If the file does not fit the operator.
    """
    from sciml.data.layouts.trained_reading import read_as_trained

    recipe, fields = (model.spec["data"] or {}).get("recipe") or {}, model.network.fields
    rows, every = slice(asked.samples), int(recipe.get("subsample_time") or 1)
    reading = read_as_trained(asked.path, fields, recipe.get("axes") or {}, rows, every)
    given = {name: torch.from_numpy(value) for name, value in reading.given.items()}
    with evaluating(asked.path):
        if asked.rollout:
            found = model.rollout(asked.rollout, **given)
        else:
            found = model.predict(**given, chunk=asked.chunk)
    arrays = {name: value.numpy() for name, value in found.items()}
    write_fields(asked.output, arrays)
    shapes = ", ".join(f"{k} {v.shape}" for k, v in arrays.items())
    said, pairs = [f"{shapes} -> {asked.output}", *reading.said], {}
    for f in fields.outputs:
        known = reading.known.get(f.name)
        if known is None:
            continue
        states = f.name in reading.states
        pair = beside(f, arrays[f.name], known, states, bool(asked.rollout))
        if pair is not None:
            pairs[f.name] = pair
            said.append(f"{asked.path} holds {f.name} too: {in_words(pair)}")
        elif known.size:
            said.append(f"{asked.path} holds {f.name} {known.shape} too, which has another shape "
                        "than what is predicted and is not compared")  # fmt: skip
    picture = asked.output.with_suffix(".png")
    _draw(picture, model, reading.given, arrays, pairs, bool(asked.rollout))
    return [*said, f"picture: {picture}"]


def beside(
    f: FieldSpec, found: np.ndarray, known: np.ndarray, states: bool, rolled: bool
) -> Pair | None:
    """Return a prediction beside what a file holds, None where they cannot be compared.

    Args:
        f: The output.
        found: As the operator says it.
        known: As `FieldReading.known` has it.
        states: Whether it is the states behind those that were given.
        rolled: Whether `found` is a roll-out, which has an axis of times.
    """
    letters, over = f.whole if states or rolled else f.axes, ""
    if states:
        axis = 1 + letters.index("t")
        if not rolled and "t" not in f.axes:  # a single state
            found = np.expand_dims(found, axis)
        count, known_count = found.shape[axis], known.shape[axis] if known.ndim > axis else 0
        both = min(count, known_count)
        if not both:
            return None
        found, known = (np.take(v, range(both), axis) for v in (found, known))
        over = f"over {both} state{'s' * (both > 1)}"
        over += f" of {count}: the file has no more" if both < count else ""
    return Pair(found, known, letters, over) if found.shape == known.shape else None


def in_words(pair: Pair) -> str:
    """Return the mean relative error of the samples, and how many were left out and why."""
    known = pair.known.reshape(len(pair.known), -1).astype(np.float64)
    found = pair.found.reshape(len(known), -1)
    finite = np.isfinite(known).all(1)
    size = np.linalg.norm(np.where(finite[:, None], known, 0.0), axis=1)
    kept = finite & (size > 0)
    left = [(int((~finite).sum()), "with numbers that are none"),
            (int((finite & (size == 0)).sum()), "of zeros")]  # fmt: skip
    without = ", ".join(f"{count} {why}" for count, why in left if count)
    if not kept.any():
        return f"no relative error, since all samples are left out ({without})"
    errors = np.linalg.norm(found[kept] - known[kept], axis=1) / size[kept]
    said = f"relative L2 error {errors.mean():.4g}, mean"
    if without:
        said += f" of {int(kept.sum())} of {len(kept)} samples (left out: {without})"
    return f"{said}, {pair.over}" if pair.over else said


def _draw(
    path: Path,
    model: PretrainedOperator,
    given: dict[str, np.ndarray],
    found: dict[str, np.ndarray],
    pairs: dict[str, Pair],
    rolled: bool,
) -> None:
    """Draw the first sample: input, prediction, and reference where the file has one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fields = model.network.fields
    f, first = fields.outputs[0], fields.inputs[0]
    values, pair = found[f.name], pairs.get(f.name)
    letters = pair.letters if pair else f.whole if rolled else f.axes
    values = pair.found[0] if pair else values[0]
    panels = [(f"input {first.name}", given[first.name][0], first.axes, False)]
    panels.append((f"predicted {f.name}", values, letters, True))
    if pair:
        panels.append((f"{f.name} of the file", pair.known[0], letters, True))
        panels.append(("difference", values - pair.known[0], letters, False))
    same = [np.asarray(value, float) for _, value, _, scaled in panels if scaled]
    scale = {"vmin": min(map(np.nanmin, same)), "vmax": max(map(np.nanmax, same))}
    figure = Figure(figsize=(3.6 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    unit = model.spec["outputs"][f.name]["unit"]
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, value, names, scaled) in zip(axes, panels, strict=True):
        value, names = _plane(np.asarray(value, float), names)
        if value.ndim == 2:
            image = axis.imshow(value.T, origin="lower", aspect="auto", **scale if scaled else {})
            figure.colorbar(image, ax=axis)
            axis.set_xlabel(f"{names[0]}, index")
            axis.set_ylabel(f"{names[1]}, index")
        else:
            axis.plot(np.atleast_1d(value))
            axis.set_xlabel(f"{names[0]}, index" if len(names) == 1 else "index")
        axis.set_title(f"{title} [{unit}]" if scaled and unit != "1" else title, fontsize=10)
    figure.suptitle("the first sample of the file", fontsize=10)
    figure.savefig(path, dpi=120)


def _plane(value: np.ndarray, letters: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return at most two axes of a value: its first channel, last time and middle plane."""
    names = [a for a, n in zip(letters, value.shape, strict=True) if n > 1]
    value = np.squeeze(value)
    for letter in ("c", "t", "z"):
        if value.ndim > 2 and letter in names:
            axis = names.index(letter)
            place = {"c": 0, "t": -1, "z": value.shape[axis] // 2}[letter]
            value = np.take(value, place, axis)
            names.remove(letter)
    return value, names
