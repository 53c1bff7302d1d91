"""The HDF5 library, which is an extra."""

from __future__ import annotations

from typing import Any

from sciml.errors import InvalidArgument


def library() -> Any:
    """Return h5py.

    Raises:
        InvalidArgument: If it is not installed, with the command that installs it.
    """
    try:
        import h5py
    except ImportError as error:
        raise InvalidArgument(
            "an HDF5 file, but h5py is not installed",
            "the library that reads and writes it",
            "pip install 'sciml[hdf5]', in a clone pip install -e '.[hdf5]'",
        ) from error
    return h5py
