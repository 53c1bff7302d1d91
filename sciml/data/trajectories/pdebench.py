"""PDEBench files of trajectories: read from a path, and written in the same layouts.

    grouped     one group per sample (numbers are seeds, gaps occur): `data` (T, X[, Y], V),
                `grid/t`, `grid/x`[, `grid/y`]; diffusion-sorption, diffusion-reaction
    tensor      `tensor` (N, T, X), `x-coordinate`, `t-coordinate` (often one longer than T);
                attributes Nu, beta, rho, where the generator stored them; Burgers, advection
    darcy       `nu` (N, X, Y), `tensor` (N, 1, X, Y), attribute beta; no time

The layout is told by the names in the file. Periods are not stored in any of them. Only the samples
and steps that are asked for are read.

The library's own loaders test on the last 10 % of grouped files and on the first 10 % of others,
which is what `official_split` returns.

Source: Takamoto et al. 2022, arXiv 2210.07182, its generators and loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, optional
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    import h5py

Layout = Literal["grouped", "tensor", "darcy"]


@dataclass(frozen=True)
class Trajectories:
    """Samples of a file.

    Attributes:
        layout: Of the file.
        inputs: `(N, C, *grid)`: the initial state, or the coefficient of Darcy flow.
        values: `(N, nt, *grid)` of one variable, `(N, nt, *grid, V)` of several; Darcy flow has
            nt = 1.
        times: `(nt,)`; 0 without time.
        grids: Coordinates per direction of space.
        count: Samples in the file, read or not.
        attributes: Numbers stored in the file's root by name (`Nu`, `beta`, ...).

    Example:
        >>> import torch
        >>> from sciml.data import Trajectories
        >>> made = Trajectories(
        ...     layout="tensor", inputs=torch.rand(4, 1, 16), values=torch.rand(4, 5, 16),
        ...     times=torch.linspace(0, 1, 5), grids=(torch.linspace(0, 1, 16),), count=4,
        ... )
        >>> made.layout, tuple(made.values.shape)
        ('tensor', (4, 5, 16))
    """

    layout: Layout
    inputs: Tensor
    values: Tensor
    times: Tensor
    grids: tuple[Tensor, ...]
    count: int
    attributes: dict[str, float] = field(default_factory=dict)


@typed
def read_pdebench(
    path: str | Path,
    *,
    samples: Sequence[int] | slice | None = None,
    every_time: int = 1,
    every_point: int = 1,
) -> Trajectories:
    """Return samples of a PDEBench file, in the precision of the file.

    Args:
        path: An HDF5 file.
        samples: Which ones, counted from 0 in the order of the file; None for all.
        every_time: Keep every so many-th time, from the first one.
        every_point: Keep every so many-th point per direction, from the first one.

    Raises:
        MissingPackage: If h5py is not installed.
        InvalidArgument: If the file cannot be read or has another layout,
            a sample is not in it or not finite, or samples stand on different grids.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.data import read_pdebench, write_pdebench
        >>> times, x = torch.linspace(0, 1, 5), torch.linspace(0, 1, 8)
        >>> values = torch.rand(3, 5, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/made.hdf5"
        ...     write_pdebench(file, values[:, :1], values, times, [x], layout="tensor")
        ...     found = read_pdebench(file, samples=[0, 2], every_time=2)
        >>> found.layout, tuple(found.values.shape), found.times.tolist()
        ('tensor', (2, 3, 8), [0.0, 0.5, 1.0])
    """
    for name, value in (("every_time", every_time), ("every_point", every_point)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidArgument(f"{name}={value}", "a positive integer")
    try:
        with optional("h5py", "hdf5", f"{path}, an HDF5 file").File(path, "r") as file:
            layout = _layout(file, path)
            found = _READERS[layout](file, path, samples, every_time, every_point)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read ({error})", "an HDF5 file") from error
    bad = (~found.values.isfinite().flatten(1).all(1)).nonzero()[:, 0].tolist()
    if bad:
        raise InvalidArgument(
            f"{path} with values that are not finite in {len(bad)} of {len(found.values)} samples, "
            f"the first one number {bad[0]} of those read",
            "finite values",
            "Leave them out with samples=[...]",
        )
    return found


def official_split(count: int, layout: Layout) -> tuple[range, range]:
    """Return the samples to train and to test on by the convention of PDEBench's loaders.

    Args:
        count: Samples in the file.
        layout: Its layout.
    """
    held = count // 10
    if layout == "grouped":
        return range(count - held), range(count - held, count)
    return range(held, count), range(held)


# --- layouts --------------------------------------------------------------------------------
def _layout(file: h5py.File, path: str | Path) -> Layout:
    """Return the layout by the names in the file."""
    if "tensor" in file:
        return "darcy" if "nu" in file else "tensor"
    groups = [name for name in file if name.isdigit()]
    if groups and "data" in file[groups[0]] and "grid" in file[groups[0]]:
        return "grouped"
    held = ", ".join(
        f"{name} {getattr(node, 'shape', 'group')}" for name, node in list(file.items())[:8]
    )
    raise InvalidArgument(
        f"{path} with {held or 'nothing in it'}",
        "groups 0000, 0001, ... with data and grid, or tensor with x-coordinate and t-coordinate, "
        "or tensor with nu: the layouts of PDEBench's files of one field",
        "Velocities and densities of its compressible and incompressible files are not read here",
    )


def _grouped(
    file: h5py.File, path: str | Path, samples: Any, every_time: int, every_point: int
) -> Trajectories:
    names = sorted((name for name in file if name.isdigit()), key=int)
    chosen = [names[i] for i in _chosen(samples, len(names), path)]
    first = file[chosen[0]] if chosen else file[names[0]]
    axes = [name for name in "xyz" if f"grid/{name}" in first]
    times, *grids = (_array(first[f"grid/{a}"]) for a in ("t", *axes))
    kept = [(times, every_time), *((grid, every_point) for grid in grids)]
    place = tuple(slice(None, None, step) for _, step in kept)
    values = []
    for name in chosen:
        group = file[name]
        for a, known in zip(("t", *axes), (times, *grids), strict=True):
            node = group.get(f"grid/{a}")
            if node is None or not np.array_equal(node[()], known):
                raise InvalidArgument(
                    f"{path} with another grid/{a} in sample {name} than in {chosen[0]}",
                    "samples on one grid",
                    "Read them apart with samples=[...]",
                )
        wanted = (len(times), *(len(grid) for grid in grids))
        if group["data"].shape[:-1] != wanted:
            raise InvalidArgument(
                f"{path} with data {group['data'].shape} in sample {name}",
                f"{wanted} and the variables, by its grid",
            )
        values.append(_array(group["data"])[place])
    held = (*(len(axis[::step]) for axis, step in kept), *first["data"].shape[-1:])
    stacked = torch.from_numpy(np.stack(values)) if values else torch.zeros(0, *held)
    start = stacked[:, 0].movedim(-1, 1)
    stacked = stacked[..., 0] if held[-1] == 1 else stacked
    return Trajectories(
        "grouped",
        start.contiguous(),
        stacked,
        torch.from_numpy(times[::every_time]),
        tuple(torch.from_numpy(grid[::every_point]) for grid in grids),
        len(names),
        _numbers(file),
    )


def _tensor(
    file: h5py.File, path: str | Path, samples: Any, every_time: int, every_point: int
) -> Trajectories:
    node, x = _node(file, "tensor", 3, path), _array(_node(file, "x-coordinate", 1, path))
    times = _array(_node(file, "t-coordinate", 1, path))
    if len(times) not in (node.shape[1], node.shape[1] + 1) or len(x) != node.shape[2]:
        raise InvalidArgument(
            f"{path} with tensor {node.shape}, {len(times)} times and {len(x)} points",
            "(samples, times, points); the times may be one more",
        )
    times = times[: node.shape[1]]  # the last one is an edge, not a stored time
    rows = _chosen(samples, len(node), path)
    values = torch.from_numpy(_rows(node, rows)[:, ::every_time, ::every_point].copy())
    return Trajectories(
        "tensor",
        values[:, :1].clone(),
        values,
        torch.from_numpy(times[::every_time].copy()),
        (torch.from_numpy(x[::every_point].copy()),),
        len(node),
        _numbers(file),
    )


def _darcy(
    file: h5py.File, path: str | Path, samples: Any, every_time: int, every_point: int
) -> Trajectories:
    media, node = _node(file, "nu", 3, path), _node(file, "tensor", 4, path)
    if node.shape != (len(media), 1, *media.shape[1:]):
        raise InvalidArgument(
            f"{path} with nu {media.shape} and tensor {node.shape}",
            "(samples, x, y) and (samples, 1, x, y)",
        )
    rows = _chosen(samples, len(node), path)
    step = slice(None, None, every_point)
    grids = []
    for name, size in zip("xy", media.shape[1:], strict=True):
        known = file.get(f"{name}-coordinate")
        # without coordinates: centres of the cells of the unit square
        axis = (np.arange(size) + 0.5) / size if known is None else _array(known)
        grids.append(torch.from_numpy(axis[step].copy()))
    return Trajectories(
        "darcy",
        torch.from_numpy(_rows(media, rows)[:, None, step, step].copy()),
        torch.from_numpy(_rows(node, rows)[..., step, step].copy()),
        torch.zeros(1, dtype=torch.float64),
        tuple(grids),
        len(node),
        _numbers(file),
    )


_READERS: dict[str, Callable[..., Trajectories]] = {
    "grouped": _grouped,
    "tensor": _tensor,
    "darcy": _darcy,
}


def _chosen(samples: Any, count: int, path: str | Path) -> list[int]:
    """Return sample numbers from 0 to `count` - 1."""
    if samples is None or isinstance(samples, slice):
        return list(range(count))[samples or slice(None)]
    rows = [int(i) for i in samples]
    outside = [i for i in rows if not 0 <= i < count]
    if outside:
        raise InvalidArgument(
            f"sample {outside[0]} of {path}", f"0 to {count - 1}, since it holds {count}"
        )
    return rows


def _rows(node: h5py.Dataset, rows: list[int]) -> np.ndarray:
    """Return rows of a dataset, in any order; a run of neighbours is read as one piece."""
    if not rows:
        return node[:0]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return node[rows[0] : rows[0] + len(rows)]
    unique = sorted(set(rows))  # h5py wants increasing ones
    place = {row: i for i, row in enumerate(unique)}
    return node[unique][[place[row] for row in rows]]


def _node(file: h5py.File, name: str, rank: int, path: str | Path) -> h5py.Dataset:
    """Return a dataset of the right rank."""
    if name not in file:
        raise InvalidArgument(f"{path} without {name}", f"{name} beside {', '.join(file)}")
    if len(file[name].shape) != rank:
        raise InvalidArgument(f"{path} with {name} {file[name].shape}", f"{rank} axes")
    return file[name]


def _array(node: h5py.Dataset) -> np.ndarray:
    return np.asarray(node[()])


def _numbers(file: h5py.File) -> dict[str, float]:
    """Return the attributes of the root that are single numbers."""
    found = {name: np.asarray(value) for name, value in file.attrs.items()}
    return {
        name: float(value.item())
        for name, value in found.items()
        if value.size == 1 and value.dtype.kind in "iuf"
    }
