"""`.nc`: NetCDF 3 by SciPy, NetCDF 4 (which is HDF5) by h5py; dimensions name the axes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sciml.data.readers.generic import COORDINATES, assemble
from sciml.data.readers.source import Array, Source

SAMPLES = ("n", "sample", "samples", "member", "ensemble", "realization", "batch", "case")
CHANNELS = ("c", "channel", "channels", "variable", "component")


def read(path: Path) -> Source:
    """Return the variables of a NetCDF file, with units.

    Raises:
        InvalidArgument: If it is damaged, or h5py is missing for version 4.
    """
    with path.open("rb") as file:
        classic = file.read(3) == b"CDF"
    if not classic:
        from sciml.data.readers.hdf5_files import read as read_hdf5

        return read_hdf5(path)
    from scipy.io import netcdf_file

    from sciml.errors import InvalidArgument

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
        if dims == (name,) and name.lower() not in SAMPLES:
            coordinates[axis_of(name)] = np.asarray(v[:], float)
            continue
        data = v.data
        arrays[name] = Array(
            name, tuple(v.shape), data.dtype, _copied(data), axes_of(dims), unit=unit
        )
    with warnings.catch_warnings():  # that the file stays mapped, as it should
        warnings.simplefilter("ignore", RuntimeWarning)
        held.close()
    return named(path, "NetCDF file", arrays, coordinates)


def named(
    path: Path, kind: str, arrays: dict[str, Array], coordinates: dict[str, np.ndarray]
) -> Source:
    """Return a source whose arrays know their axes; names behind the samples stay."""
    source = assemble(path, kind, arrays)
    for name, array in source.arrays.items():
        if name in arrays and len(array.axes) == len(array.shape):
            source.arrays[name] = replace(array, axes=array.axes[1:])
    source.coordinates |= coordinates
    return source


def axes_of(dims: Sequence[str]) -> tuple[str, ...]:
    """Return the names of axes for the names of dimensions; empty where one is not known."""
    found = []
    for dim in dims:
        name = axis_of(dim)
        if name not in ("n", "t", "c", "x", "y", "z"):
            return ()
        found.append(name)
    return tuple(found) if found and found[0] == "n" and len(set(found)) == len(found) else ()


def axis_of(dim: str) -> str:
    """Return the axis that a dimension is: "n" of samples, "t", "c", "x", "y", "z"."""
    low = dim.lower()
    if low in SAMPLES:
        return "n"
    return "c" if low in CHANNELS else COORDINATES.get(low, low)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _copied(data: np.ndarray):
    return lambda index: np.array(data[index])
