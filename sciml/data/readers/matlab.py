"""`.mat`: versions up to 7.2 by SciPy; 7.3 is HDF5, in which all axes stand reversed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sciml.data.readers.generic import assemble
from sciml.data.readers.source import Array, Source, whole
from sciml.errors import InvalidArgument, optional


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
    arrays = {n: whole(n, v) for n, v in held.items() if isinstance(v, np.ndarray)}
    arrays = {n: a for n, a in arrays.items() if not n.startswith("__")}
    return assemble(path, "MATLAB file", arrays)


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
    arrays = {}
    for name, node in file.items():
        if isinstance(node, h5py.Dataset) and not name.startswith("#"):
            shape = tuple(node.shape[::-1])
            arrays[name] = Array(name, shape, node.dtype, _rows(node), cuts=True)
    source = assemble(path, "MATLAB 7.3 file (HDF5, axes turned round)", arrays)
    source.chunked = 1
    return source


def _rows(node: Any) -> Any:
    def read(index: Any) -> np.ndarray:
        key = index if isinstance(index, tuple) else (index,)  # of the axes that MATLAB shows
        return node[(..., *key[::-1])].T if node.shape else node[()]

    return read
