"""What the pictures of an operator on files show, see `sciml.callbacks.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sciml.data.field_files import FieldFiles
from sciml.networks.fields import FieldSet

SHOWN = 3  # test samples
FEW = 3  # channels of a line from which on they are drawn as a picture


def pictures(
    fields: FieldSet,
    files: FieldFiles,
    shown: Sequence[tuple[np.ndarray, ...]],
    rollout: Mapping[str, Sequence[float]],
    spectrum: Tensor | None,
) -> dict[str, Any]:
    """Return fields and curves.

    Args:
        fields: The data's description.
        files: The data module.
        shown: Inputs, target and prediction of some samples, as channels.
        rollout: Errors of all calls of a roll-out by name; empty without one.
        spectrum: Sums of squares `(2, K)` of errors and of targets by wave number.
    """
    curves: dict[str, Any] = {}
    if rollout:
        count = len(next(iter(rollout.values())))
        at = [fields.history + (k + 1) * fields.bundle - 1 for k in range(count)]
        curves["rollout"] = {
            "x": [float(files.times[i]) for i in at], "y": dict(rollout),
            "xlabel": "time of the data", "ylabel": "relative L2 error", "log": "y",
        }  # fmt: skip
    if spectrum is not None and spectrum.shape[1] > 2:
        size = (spectrum / spectrum[1].sum().clamp_min(1e-300)).sqrt().numpy()
        curves["spectrum"] = {
            "x": np.arange(size.shape[1]), "y": {"error": size[0], "reference": size[1]},
            "xlabel": "wave number, waves per grid", "ylabel": "amplitude over that of all waves",
            "log": "y",
        }  # fmt: skip
    rows = []
    for i, sample in enumerate(shown):
        if fields.dim > 1:
            rows.append({"title": f"test sample {i}", **_plane(fields, files, sample, rollout)})
        elif len(sample[1]) < FEW:
            curves[f"sample_{i}"] = _line(fields, files, sample, rollout)
        else:
            row = {"reference": sample[1], "prediction": sample[2]}
            axes = _space_time(fields, files, sample[1])
            out = fields.outputs[-1 if rollout else 0]
            rows.append({"title": f"test sample {i}", "symbol": out.name, **row, **axes})
    return {"fields": rows, "curves": curves}


def _line(fields: FieldSet, files: FieldFiles, sample: tuple, rollout: Mapping) -> dict[str, Any]:
    """Return one channel over the points, the last one of a roll-out."""
    _, target, prediction = sample
    k, x = -1 if rollout else 0, files.axis(0)
    x = x if len(x) == target.shape[-1] else np.arange(target.shape[-1])
    y = {"reference": target[k], "prediction": prediction[k]}
    name = fields.outputs[-1 if rollout else 0].name
    return {"x": x, "y": y, "xlabel": "x", "ylabel": name}


def _plane(fields: FieldSet, files: FieldFiles, sample: tuple, rollout: Mapping) -> dict[str, Any]:
    """Return one channel in the plane, the last one of a roll-out, at the first z."""
    packed, target, prediction = sample
    k = -1 if rollout else 0
    cut = (slice(None), slice(None), *([0] if fields.dim == 3 else []))
    row: dict[str, Any] = {"reference": target[k], "prediction": prediction[k]}
    row = {n: v[cut].T for n, v in row.items()}
    ends = [*_ends(files.axis(0)), *_ends(files.axis(1))]
    row |= {"extent": ends, "xlabel": "x", "ylabel": "y"}
    row["symbol"] = fields.outputs[-1 if rollout else 0].name
    if packed.shape[1:] == target.shape[1:]:
        row["inputs"] = {f"input {fields.inputs[0].name}": packed[0][cut].T}
    return row


def _space_time(fields: FieldSet, files: FieldFiles, target: np.ndarray) -> dict[str, Any]:
    """Return the axes of a picture `(times or channels, x)`."""
    times = files.times
    c, x = fields.outputs[0].sizes.get("c", 1), files.axis(0)
    if len(fields.outputs) > 1 or c > 1 or times is None or len(x) != target.shape[-1]:
        return {"xlabel": "x", "ylabel": "channel"}
    first = fields.history if fields.bundle else len(times) - len(target)
    shown = times[first : first + len(target)]
    return {"extent": [*_ends(x), *_ends(shown)], "xlabel": "x", "ylabel": "t"}


def _ends(points: np.ndarray) -> list[float]:
    """Return the ends of an axis on which first and last point are in the middle of pixels."""
    half = (points[1] - points[0]) / 2 if len(points) > 1 else 0.5
    return [float(points[0] - half), float(points[-1] + half)]
