"""Layouts of PDEBench, told by the names in the file.

    tensor          `tensor` (N, T, X), `x-coordinate`, `t-coordinate`, often one longer than T
    compressible    `density`, `pressure`, `Vx`, ... (N, T, X[, Y, Z])
    darcy           `nu` (N, X, Y), `tensor` (N, 1, X, Y)
    grouped         groups `0000`, ...: `data` (T, X[, Y], V), `grid/x`, ...; numbers may have gaps
    incompressible  `velocity` (N, T, X, Y, 2), `particles`, `force` (N, X, Y, 2), `t` (N, T);
                    frames behind the attribute `latestIndex` were never written

Split as the official loaders do: the last 10 % of grouped files are the test, else the first 10 %.

Source: Takamoto et al. 2022, arXiv 2210.07182, its generators and loaders.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.data.readers.hdf5_nodes import numbers_of
from sciml.data.sources.source import Array, Source
from sciml.data.trajectories.pdebench import official_split
from sciml.errors import InvalidArgument

if TYPE_CHECKING:
    import h5py

SPACE = ("x", "y", "z")
FLUID = ("density", "pressure", "Vx", "Vy", "Vz")


def recognised(file: h5py.File, path: Path) -> Source | None:
    """Return the source of a PDEBench file, None for another file.

    Raises:
        InvalidArgument: If its arrays do not fit each other.
    """
    if "tensor" in file and "nu" in file:
        found = _darcy(file, path)
    elif "tensor" in file and "t-coordinate" in file:
        found = _evolution(file, path, ("tensor",), "scalar")
    elif "density" in file and "Vx" in file and len(file["density"].shape) >= 3:
        found = _evolution(file, path, tuple(n for n in FLUID if n in file), "compressible")
    elif "velocity" in file and "particles" in file and "force" in file:
        found = _incompressible(file, path)
    else:
        names = sorted((name for name in file if name.isdigit()), key=int)
        if not names or "data" not in file[names[0]] or "grid/t" not in file[names[0]]:
            return None
        found = _grouped(file, path, names)
    count = next(iter(found.arrays.values())).shape[0]
    layout = "grouped" if "grouped" in found.format else "tensor"
    if count >= 10:
        train, test = official_split(count, layout)
        if layout == "grouped":  # whose loader trains on the test samples too
            train = range(test.start)
        found.parts = {"train": np.asarray(train), "test": np.asarray(test)}
        found.notes.append("split as PDEBench's loaders do; data.split=random for another")
    found.attributes |= numbers_of(file)
    return found


def _evolution(file: h5py.File, path: Path, names: tuple[str, ...], kind: str) -> Source:
    shape = file[names[0]].shape
    axes = ("t", *SPACE[: len(shape) - 2])
    coordinates, notes = _coordinates(file, axes[1:]), []
    times = file.get("t-coordinate")
    if times is not None:
        if len(times) not in (shape[1], shape[1] + 1):
            raise InvalidArgument(
                f"{path} with {names[0]} {shape} and {len(times)} times",
                "(samples, times, points); the times may be one more",
            )
        if len(times) == shape[1] + 1:
            notes.append(f"t-coordinate has {len(times)} entries for {shape[1]} times: an edge")
        coordinates["t"] = np.asarray(times[: shape[1]], float)
    arrays = {}
    for name in names:
        if file[name].shape != shape:
            raise InvalidArgument(f"{path} with {name} {file[name].shape}", f"{shape}")
        arrays[name] = _array(file, name, axes)
    chunk = file[names[0]].chunks
    return Source(
        path, f"PDEBench, {kind}", arrays, coordinates, {}, notes, inputs=names, outputs=names,
        chunked=chunk[0] if chunk else 0,
    )  # fmt: skip


def _darcy(file: h5py.File, path: Path) -> Source:
    media, flow = file["nu"].shape, file["tensor"].shape
    if flow != (media[0], 1, *media[1:]):
        raise InvalidArgument(
            f"{path} with nu {media} and tensor {flow}", "(samples, x, y) and (samples, 1, x, y)"
        )
    arrays = {
        "nu": _array(file, "nu", ("x", "y")),
        "tensor": _array(file, "tensor", ("c", "x", "y")),
    }
    return Source(
        path, "PDEBench, Darcy", arrays, _coordinates(file, ("x", "y")), inputs=("nu",),
        outputs=("tensor",),
    )  # fmt: skip


def _incompressible(file: h5py.File, path: Path) -> Source:
    shape = file["velocity"].shape
    written = min(int(np.ravel(file.attrs.get("latestIndex", shape[1] - 1))[0]) + 1, shape[1])
    notes = []
    if written < shape[1]:
        notes.append(f"frames {written} to {shape[1] - 1} were never written and are left out")

    def frames(node: Any) -> Callable[[Any], np.ndarray]:
        return lambda index: np.asarray(node[index, :written])

    arrays = {}
    for name in ("velocity", "particles"):
        node = file[name]
        held = (node.shape[0], written, *node.shape[2:])
        arrays[name] = Array(name, held, node.dtype, frames(node), ("t", "x", "y", "c"))
    arrays["force"] = _array(file, "force", ("x", "y", "c"))
    coordinates = {}
    if "t" in file:
        coordinates["t"] = np.asarray(file["t"][0, :written], float)
    outputs = ("velocity", "particles")
    return Source(
        path, "PDEBench, incompressible", arrays, coordinates, {}, notes,
        inputs=(*outputs, "force"), outputs=outputs,
    )  # fmt: skip


def _grouped(file: h5py.File, path: Path, names: list[str]) -> Source:
    first = file[names[0]]
    space = tuple(a for a in SPACE if f"grid/{a}" in first)
    shape = first["data"].shape
    coordinates = {a: np.asarray(first[f"grid/{a}"][()], float) for a in (*space, "t")}
    wanted = (len(coordinates["t"]), *(len(coordinates[a]) for a in space))
    if shape[:-1] != wanted:
        raise InvalidArgument(
            f"{path} with data {shape} in sample {names[0]}",
            f"{wanted} and the variables, by its grid",
        )

    def read(index: Any) -> np.ndarray:
        found = []
        for name in np.asarray(names)[index]:
            node = file[name]["data"]
            if node.shape != shape:
                raise InvalidArgument(
                    f"{path} with data {node.shape} in sample {name}", f"{shape}, as {names[0]}"
                )
            found.append(np.asarray(node[()]))
        return np.stack(found) if found else np.zeros((0, *shape), first["data"].dtype)

    array = Array("data", (len(names), *shape), first["data"].dtype, read, ("t", *space, "c"))
    notes = []
    if int(names[-1]) - int(names[0]) + 1 != len(names):
        notes.append(f"group numbers have gaps: {len(names)} of {names[0]} to {names[-1]}")
    if "config" in first.attrs:
        notes.append("the attribute config of a sample has the generator's settings")
    return Source(
        path, "PDEBench, grouped", {"data": array}, coordinates, {}, notes, inputs=("data",),
        outputs=("data",),
    )  # fmt: skip


def _array(file: h5py.File, name: str, axes: tuple[str, ...]) -> Array:
    node = file[name]
    if len(node.shape) != len(axes) + 1:
        raise InvalidArgument(f"{name} {node.shape}", f"samples and the axes {', '.join(axes)}")
    return Array(name, tuple(node.shape), node.dtype, lambda index: np.asarray(node[index]), axes)


def _coordinates(file: h5py.File, axes: tuple[str, ...]) -> dict[str, np.ndarray]:
    named = {a: file.get(f"{a}-coordinate") for a in axes}
    return {a: np.asarray(v[()], float) for a, v in named.items() if v is not None}
