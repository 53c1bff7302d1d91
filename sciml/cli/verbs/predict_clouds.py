"""`sciml predict` for operators between fields at the points of clouds, one cloud after another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from sciml.cli.verbs.point_files import write_fields
from sciml.pretrained import PretrainedOperator


def predict_clouds(
    model: PretrainedOperator, path: Path, output: Path, count: int | None
) -> list[str]:
    """Predict for every cloud of a file or folder, and return sentences on it.

    One array `(N, P, C)` is written where all clouds have as many points, else one a cloud, called
    `NAME_0`, `NAME_1`, ... Where the file holds what is predicted too, its error is said and drawn.

    Args:
        model: Trained on `data=clouds`.
        path: Of any format that is read.
        output: An npz file; the picture stands beside it.
        count: Clouds at most; None for all.

    Raises:
        InvalidArgument: If an input is missing.
    """
    from sciml.data.files.cloud_samples import cloud_source, samples_of

    about = model.network.clouds
    where, features, name = about["points"], tuple(about["features"]), about["output"]
    source = cloud_source(path, where)
    source.clouds = source.clouds[:count]
    for needed in (where, *features):
        source.array(needed)
    known = all(name in cloud for cloud in source.clouds)
    clouds = samples_of(source, where, features, name if known else None)
    found = []
    for cloud in clouds:
        given = {key: cloud[key][None] for key in (where, *features)}
        found.append(model.predict(**given)[name][0].numpy())
    if len({len(values) for values in found}) == 1:
        arrays = {name: np.stack(found)}
    else:
        arrays = {f"{name}_{i}": values for i, values in enumerate(found)}
    write_fields(output, arrays)
    sizes = sorted({len(values) for values in found})
    between = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    said = [f"{len(found)} clouds of {between} points, {', '.join([*arrays][:3])}"
            f"{', ...' * (len(arrays) > 3)} -> {output}"]  # fmt: skip
    if known:
        errors = [_relative(u, cloud[name].numpy()) for u, cloud in zip(found, clouds, strict=True)]
        said.append(f"{path} holds {name} too: relative L2 error {np.nanmean(errors):.4g}, mean")
    picture = output.with_suffix(".png")
    _draw(picture, clouds[0], found[0], where, name, model.spec["outputs"][name]["unit"])
    return [*said, f"picture: {picture}"]


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    size = np.linalg.norm(wanted)
    return float(np.linalg.norm(found - wanted) / size) if size else np.nan


def _draw(
    path: Path, cloud: Mapping[str, Tensor], found: np.ndarray, where: str, name: str, unit: str
) -> None:
    """Draw the first cloud: prediction, and reference and difference where they are known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    place = cloud[where].numpy()
    kept = np.sort(np.argsort(-np.ptp(place, axis=0), kind="stable")[:2])
    at = [place[:, k] for k in kept]
    panels = [(f"predicted {name}", found[:, 0])]
    if name in cloud:
        wanted = cloud[name].numpy()[:, 0]
        panels += [(f"{name} of the file", wanted), ("difference", found[:, 0] - wanted)]
    same = [value for title, value in panels if title != "difference"]
    scale = {"vmin": min(map(np.min, same)), "vmax": max(map(np.max, same))}
    figure = Figure(figsize=(4.2 * len(panels), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, value) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels,
                                    strict=True):  # fmt: skip
        colours = {} if title == "difference" else scale
        if len(at) == 2:
            axis.set_aspect("equal")
            figure.colorbar(axis.scatter(*at, c=value, s=6, **colours), ax=axis)
            axis.set_ylabel(f"{where}[{kept[1]}]")
        else:
            axis.plot(at[0], value, ".")
        axis.set_xlabel(f"{where}[{kept[0]}]")
        axis.set_title(f"{title} [{unit}]" if unit != "1" else title, fontsize=10)
    figure.suptitle("the first cloud of the file", fontsize=10)
    figure.savefig(path, dpi=120)
