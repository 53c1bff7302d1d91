"""Samples of points from a source: one dictionary of arrays `(P, C)` each, whatever their sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sciml.data.files.statistics import check_finite
from sciml.data.readers import open_source
from sciml.data.readers.sample_folder import POINTS
from sciml.data.sources.source import Array, Source, whole
from sciml.errors import InvalidArgument

OUTPUTS = ("press", "pressure", "y", "u", "output", "target", "value")
FEW = 8  # numbers of a whole sample, at most


def cloud_source(path: str | Path, points: str | None = None) -> Source:
    """Return what a file or folder of point clouds holds.

    Arrays are cut into samples: points `(N, P, d)`, or `(P, d)` for all samples or for one alone.

    Args:
        path: File or folder.
        points: Name of the coordinates; None for what is recognised.

    Raises:
        InvalidArgument: If it is no list of samples.
    """
    source = open_source(path)
    if source.clouds is not None:
        return source
    names = [points] if points else [n for n in POINTS if n in source.arrays]
    where = next((n for n in names if n in source.arrays and _places(source.arrays[n])), None)
    if where is None:
        raise InvalidArgument(
            f"{path} is no list of samples: it holds {source.listed()}",
            "a list of dictionaries of points and values, a folder of one file per sample, or "
            "arrays with points (samples, points, 3) or (points, 3)",
            "For fields on grids type model=fno",
        )
    place = source.arrays[where]
    held = {name: a.rows(slice(None)) for name, a in source.arrays.items()}
    shared, count = len(place.shape) == 2, place.shape[-2]
    others = [a.shape[0] for n, a in held.items() if n != where and count in a.shape[1:]]
    number = (others or [1])[0] if shared else place.shape[0]
    same = {n: a for n, a in held.items() if len(a) != number or (shared and n == where)}
    same |= {n: np.asarray(v) for n, v in source.attributes.items() if isinstance(v, float)}
    apart = {n: a for n, a in held.items() if n not in same}
    clouds = [same | {n: a[i] for n, a in apart.items()} for i in range(number)]
    arrays = {n: whole(n, np.asarray(a), sampled=False) for n, a in clouds[0].items()}
    return replace(source, clouds=clouds, arrays=arrays)


def _places(array: Array) -> bool:
    """Return whether an array may hold coordinates of points."""
    return len(array.shape) in (2, 3) and 1 <= array.shape[-1] <= 3 < array.shape[-2]


def recognised(source: Source, points: str | None, outputs: Sequence[str]) -> tuple[str, str]:
    """Return the names of the coordinates and of the wanted field.

    Args:
        source: From `cloud_source`.
        points: As typed, or None.
        outputs: Likewise; empty for what is recognised.

    Raises:
        InvalidArgument: If they are not recognised, or not there.
    """
    where = points or next((n for n in POINTS if n in source.arrays), None)
    wanted = list(outputs) or [n for n in OUTPUTS if n in source.arrays and n != where][:1]
    if where is None or len(wanted) != 1:
        raise InvalidArgument(
            f"{source.path} with {source.listed()}", "the coordinates and one wanted field",
            "Type data.points=NAME data.outputs=[NAME]",
        )  # fmt: skip
    for name, key in ((where, "data.points"), (wanted[0], "data.outputs")):
        source.array(name, key)
    return where, wanted[0]


def samples_of(
    source: Source, where: str, features: Sequence[str], wanted: str | None
) -> list[dict[str, Tensor]]:
    """Return all samples as float32 arrays `(P, C)` by name.

    Args:
        source: From `cloud_source`.
        where: Name of the coordinates.
        features: Names of what is given at the points; a number, or up to eight, for a whole sample
            stand at each of its points.
        wanted: Name of the field, None for none.

    Raises:
        InvalidArgument: If an array is missing, has no entry per point, other channels than in
            the first sample, or numbers that are none.
    """
    path, found = source.path, []
    for i, held in enumerate(source.clouds or ()):
        sample = {}
        count = 0
        for name in (where, *features, *([wanted] if wanted else [])):
            if name not in held:
                raise InvalidArgument(f"{path}: sample {i} has no {name}", f"one of {_named(held)}")
            raw = np.asarray(held[name])
            count = len(raw) if name == where and raw.ndim else count
            sample[name] = value = _per_point(raw, count, name in features)
            if value is None:
                raise InvalidArgument(
                    f"{path}: sample {i} has {name} {raw.shape} for {count} points in {where}",
                    "one entry per point",
                )
            if found and value.shape[1] != found[0][name].shape[1]:
                raise InvalidArgument(
                    f"{path}: sample {i} has {value.shape[1]} numbers per point in {name}, the "
                    f"first has {found[0][name].shape[1]}",
                    "as many in all samples",
                )
            check_finite(name, value[None], [i], path)
        found.append(sample)
    return found


def _per_point(raw: np.ndarray, count: int, given: bool) -> Tensor | None:
    """Return an array as `(P, C)`, None if it has no entry per point."""
    value = torch.from_numpy(np.ascontiguousarray(raw)).float()
    if value.dim() and len(value) == count:
        return value.reshape(count, -1)
    if value.dim() and value.shape[-1] == count:
        return value.movedim(-1, 0).reshape(count, -1)
    if given and value.dim() < 2 and value.numel() <= FEW:  # of the whole sample
        return value.reshape(1, -1).expand(count, -1).contiguous()
    return None


def unused(source: Source, used: Sequence[str]) -> str:
    """Return a sentence on what stands at the points and is not used, empty if nothing does."""
    first = (source.clouds or [{}])[0]
    count = len(first[used[0]])
    left = [n for n, v in first.items() if n not in used and count in np.shape(v)[:1]]
    if not left:
        return ""
    return (
        f"{', '.join(left)} stand{'s' * (len(left) == 1)} at the points too, and "
        f"{'is' if len(left) == 1 else 'are'} not used: data.inputs=[{','.join(left)}] gives "
        f"{'it' if len(left) == 1 else 'them'} to the network"
    )


def _named(held: Mapping[str, np.ndarray]) -> str:
    return ", ".join(held) or "nothing"
