"""Files of The Well: shapes come from the attributes, since axes that do not vary are left out.

    dimensions           attribute `spatial_dims`; `time` and one array per direction
    boundary_conditions  `<name>` with attributes `bc_type`, `associated_dims`
    scalars              numbers, per sample where `sample_varying`
    t0_fields            scalars `(N, T, ...)`, `t1_fields` vectors `(..., D)`, `t2_fields`
                         `(..., D, D)`: no N where `sample_varying` is false, no T where
                         `time_varying` is, no direction d where `dim_varying[d]` is

Source: Ohana et al. 2024, arXiv 2412.00568, its data specification.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument

if TYPE_CHECKING:
    import h5py

SPACE = ("x", "y", "z")


def recognised(file: h5py.File, path: Path) -> Source | None:
    """Return the source of a file of The Well, None for another file.

    Raises:
        InvalidArgument: If a field has other axes than its attributes say.
    """
    known = "dimensions" in file and "t0_fields" in file
    if not known or "spatial_dims" not in file["dimensions"].attrs:
        return None
    dims = [_text(d) for d in file["dimensions"].attrs["spatial_dims"]]
    grid = {d: np.asarray(file["dimensions"][d][()], float) for d in dims}
    times = np.asarray(file["dimensions"]["time"][()], float)
    times = times[0] if times.ndim == 2 else times
    count = int(file.attrs["n_trajectories"])
    sizes = [grid[d].shape[-1] if grid[d].ndim == 1 else grid[d].shape[k]
             for k, d in enumerate(dims)]  # fmt: skip
    arrays: dict[str, Array] = {}
    attributes: dict[str, Any] = {}
    for order in range(3):
        group = file.get(f"t{order}_fields")
        for name in [] if group is None else _names(group):
            arrays[name] = _field(path, group[name], name, order, count, len(times), sizes)
    scalars = file.get("scalars")
    for name in [] if scalars is None else _names(scalars):
        node = scalars[name]
        if node.attrs.get("sample_varying", False) and not node.attrs.get("time_varying", False):
            arrays[name] = Array(
                name, (count,), node.dtype, lambda i, node=node: np.asarray(node[i])
            )
        elif not node.shape:
            attributes[name] = float(node[()])
    moving = tuple(n for n, a in arrays.items() if a.axes[:1] == ("t",))
    still = tuple(n for n in arrays if n not in moving)
    coordinates = {SPACE[k]: grid[d] for k, d in enumerate(dims) if grid[d].ndim == 1}
    attributes["periodic"] = [_periodic(file, d) for d in dims]
    return Source(
        path, "The Well", arrays, {**coordinates, "t": times}, attributes,
        [f"directions {', '.join(dims)} are called {', '.join(SPACE[: len(dims)])}"]
        if dims != list(SPACE[: len(dims)]) else [],
        inputs=(*moving, *still), outputs=moving,
    )  # fmt: skip


def _field(
    path: Path, node: h5py.Dataset, name: str, order: int, count: int, times: int, sizes: list[int]
) -> Array:
    dim = len(sizes)
    sampled, timed = (bool(node.attrs[f"{k}_varying"]) for k in ("sample", "time"))
    varies = [bool(v) for v in node.attrs["dim_varying"]]
    held = (
        [count] * sampled + [times] * timed + [n for n, v in zip(sizes, varies, strict=True) if v]
    )
    held += [dim] * order
    if tuple(held) != node.shape:
        raise InvalidArgument(
            f"{path}: {name} has shape {node.shape}", f"{tuple(held)}, as its attributes say"
        )
    # every axis there, of length one where nothing varies, and the tensor's entries as channels
    channels = [dim**order] if order else []
    full = [times] * timed + sizes + channels
    thin = [times] * timed + [n if v else 1 for n, v in zip(sizes, varies, strict=True)] + channels

    def read(index: Any) -> np.ndarray:
        rows = np.arange(count)[index]
        values = np.asarray(node[index] if sampled else node[()])
        values = values.reshape(len(rows) if sampled else 1, *thin)
        return np.broadcast_to(values, (len(rows), *full))

    axes = ("t",) * timed + SPACE[:dim] + ("c",) * bool(order)
    return Array(name, (count, *full), node.dtype, read, axes)


def _names(group: h5py.Group) -> list[str]:
    return [_text(name) for name in group.attrs.get("field_names", list(group))]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _periodic(file: h5py.File, dim: str) -> bool:
    found = file.get("boundary_conditions")
    for node in [] if found is None else found.values():
        over = [_text(d) for d in np.atleast_1d(node.attrs.get("associated_dims", []))]
        if dim in over and "periodic" in _text(node.attrs.get("bc_type", "")).lower():
            return True
    return False
