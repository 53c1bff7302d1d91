"""`.nc`: NetCDF 3 by SciPy, NetCDF 4 (which is HDF5) by h5py; dimensions name the axes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import netcdf_file

from sciml.data.readers import hdf5_files
from sciml.data.sources.named_axes import axis_of, named
from sciml.data.sources.packing import decoded, decoded_values
from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument


def read(path: Path) -> Source:
    """Return the variables of a NetCDF file, with units.

    Raises:
        InvalidArgument: If it is damaged, or h5py is missing for version 4.
    """
    with path.open("rb") as file:
        classic = file.read(3) == b"CDF"
    if not classic:
        return hdf5_files.read(path)
    try:
        held = netcdf_file(path, "r", mmap=True)
    except (ValueError, TypeError, OSError, EOFError, IndexError) as error:
        raise InvalidArgument(
            f"{path} cannot be read ({str(error).splitlines()[0][:120]})",
            "a NetCDF file",
            "It may be truncated: copy it again",
        ) from error
    arrays, coordinates = {}, {}
    for name, v in held.variables.items():
        dims, unit = tuple(v.dimensions), _text(getattr(v, "units", b""))
        if dims == (name,):
            coordinates[axis_of(name)] = decoded_values(np.array(v[:]), v._attributes)
            continue
        data = v.data
        raw = Array(name, tuple(v.shape), data.dtype, _copied(data), dims, unit=unit)
        arrays[name] = decoded(raw, v._attributes)
    with warnings.catch_warnings():  # that the file stays mapped, as it should
        warnings.simplefilter("ignore", RuntimeWarning)
        held.close()
    return named(path, "NetCDF file", arrays, coordinates)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _copied(data: np.ndarray) -> Callable[[Any], np.ndarray]:
    return lambda index: np.array(data[index])
