"""`.mat`: versions up to 7.2 by SciPy; 7.3 is HDF5, in which all axes stand reversed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sciml.data.readers.hdf5_nodes import datasets
from sciml.data.sources.generic import assemble
from sciml.data.sources.source import KINDS, Array, Source, whole
from sciml.errors import InvalidArgument, optional

SPARSE = 2**25  # entries up to which a sparse matrix is filled


def read(path: Path) -> Source:
    """Return the arrays of a MATLAB file, with the axes that MATLAB shows.

    Raises:
        InvalidArgument: If it is damaged.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path)
    except NotImplementedError:  # SciPy on version 7.3
        return _reversed(path)
    except (MatReadError, ValueError, TypeError, OSError, EOFError, KeyError, IndexError) as error:
        return _reversed(path, error)
    plain: dict[str, np.ndarray] = {}
    notes: list[str] = []
    for name, value in held.items():
        if not name.startswith("__"):
            _unfold(name, value, plain, notes)
    source = assemble(path, "MATLAB file", {n: whole(n, v) for n, v in plain.items()})
    source.notes += notes
    return source


def _unfold(name: str, value: Any, plain: dict[str, np.ndarray], notes: list[str]) -> None:
    """Add a variable: the fields of a structure, the rows of cells of one shape, a full matrix."""
    if hasattr(value, "toarray"):  # sparse
        if np.prod(value.shape) <= SPARSE:
            plain[name] = value.toarray()
        else:
            notes.append(f"{name} is a sparse matrix {value.shape} and is left out")
    elif not isinstance(value, np.ndarray):
        return
    elif value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            _unfold(f"{name}/{field}", value[field].item(), plain, notes)
    elif value.dtype == object and value.size > 1 and max(value.shape) == value.size:
        cells = [np.asarray(cell) for cell in value.ravel()]
        if len({c.shape for c in cells}) == 1 and cells[0].dtype.kind in KINDS:
            rows = np.stack(cells)
            thin = [1 + k for k, n in enumerate(cells[0].shape) if n == 1]
            plain[name] = rows.squeeze(tuple(thin)) if len(thin) < cells[0].ndim else rows[:, 0]
            notes.append(f"{name}: {len(cells)} cells are one sample each")
        else:
            notes.append(f"{name} is a cell array of several shapes and is left out")
    else:
        plain[name] = value


def _reversed(path: Path, before: Exception | None = None) -> Source:
    h5py = optional("h5py", "hdf5", f"{path}, a MATLAB 7.3 file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be read ({str(before or error).splitlines()[0][:120]})",
            "a MATLAB file",
            "It may be truncated: copy it again",
        ) from error
    nodes, notes = datasets(file)
    arrays = {}
    for name, node in nodes.items():
        if "MATLAB_empty" in node.attrs:
            notes.append(f"{name} holds nothing and is left out")
            continue
        arrays[name] = Array(name, tuple(node.shape[::-1]), node.dtype, _rows(node), cuts=True)
    source = assemble(path, "MATLAB 7.3 file (HDF5, axes turned round)", arrays)
    source.notes += notes
    source.chunked = 1
    return source


def _rows(node: Any) -> Any:
    def read(index: Any) -> np.ndarray:
        key = index if isinstance(index, tuple) else (index,)  # of the axes that MATLAB shows
        return node[(..., *key[::-1])].T if node.shape else node[()]

    return read
