"""Writing trajectories in the layouts of PDEBench."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from sciml.data.trajectories.pdebench import Layout
from sciml.errors import InvalidArgument, optional
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    import h5py


@typed
def write_pdebench(
    path: str | Path,
    inputs: Tensor,
    values: Tensor,
    times: Tensor,
    grids: Sequence[Tensor],
    *,
    layout: Layout,
    attributes: dict[str, float] | None = None,
) -> None:
    """Write trajectories in a layout of PDEBench (float32), as a whole or not at all.

    Args:
        path: File to write; an earlier one is replaced.
        inputs: `(N, 1, *grid)`; of `darcy` files the coefficient, else the values at time 0 say
            the same.
        values: `(N, nt, *grid)`.
        times: `(nt,)`.
        grids: Coordinates per direction of space.
        layout: `grouped` (1 or 2 directions), `tensor` (1) or `darcy` (2, nt = 1).
        attributes: Numbers for the file's root.

    Raises:
        MissingPackage: If h5py is not installed.
        InvalidArgument: If the shapes do not fit the layout: several
            input channels, for instance, have no place in it.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.data import read_pdebench, write_pdebench
        >>> times, x = torch.linspace(0, 1, 5), torch.linspace(0, 1, 8)
        >>> values, known = torch.rand(3, 5, 8), {"Nu": 0.5}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/burgers.hdf5"
        ...     write_pdebench(
        ...         file, values[:, :1], values, times, [x], layout="tensor", attributes=known
        ...     )
        ...     read_pdebench(file).attributes
        {'Nu': 0.5}
    """
    wanted = (len(values), len(times), *(len(grid) for grid in grids))
    directions = {"grouped": (1, 2), "tensor": (1,), "darcy": (2,)}
    if (
        tuple(values.shape) != wanted
        or tuple(inputs.shape) != (wanted[0], 1, *wanted[2:])
        or len(grids) not in directions[layout]
        or (layout == "darcy") != (len(times) == 1)
    ):
        raise InvalidArgument(
            f"inputs {tuple(inputs.shape)}, values {tuple(values.shape)}, {len(times)} times and "
            f"{len(grids)} grids for layout={layout!r}",
            "inputs (N, 1, *grid), values (N, nt, *grid), one direction of space for 'tensor', one "
            "or two for 'grouped', two and a single time for 'darcy'",
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with optional("h5py", "hdf5", f"{path}, an HDF5 file").File(draft, "w") as file:
            file.attrs.update(attributes or {})
            _put(file, layout, *(_plain(v) for v in (inputs, values, times)), grids)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _put(
    file: h5py.File,
    layout: Layout,
    inputs: np.ndarray,
    values: np.ndarray,
    times: np.ndarray,
    grids: Sequence[Tensor],
) -> None:
    axes = dict(zip("xyz", (_plain(grid) for grid in grids), strict=False))
    if layout == "grouped":
        for i, value in enumerate(values):
            group = file.create_group(f"{i:04d}")
            group.create_dataset("data", data=value[..., None], compression="lzf")
            group["grid/t"] = times
            for name, axis in axes.items():
                group[f"grid/{name}"] = axis
        return
    file["tensor"] = values
    for name, axis in axes.items():
        file[f"{name}-coordinate"] = axis
    if layout == "tensor":
        file["t-coordinate"] = times
    else:
        file["nu"] = inputs[:, 0]


def _plain(value: Tensor) -> np.ndarray:
    return value.detach().cpu().float().numpy()
