"""The HDF5 library, which is an extra."""

from __future__ import annotations

from typing import Any

from sciml.errors import optional


def library() -> Any:
    """Return h5py.

    Raises:
        MissingPackage: If it is not installed, with the command that installs it.
    """
    return optional("h5py", "hdf5", "an HDF5 file")
