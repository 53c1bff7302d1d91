"""Saved states: read whole or refused by one message, whatever was done to the file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sciml.errors import InvalidArgument

DAMAGED = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, TypeError)
HINT = "It is damaged, or of another run: start anew in another folder"


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; nothing in it is run.

    Raises:
        InvalidArgument: If it cannot be read to its end.
    """
    try:
        with np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (*DAMAGED, AttributeError, NotImplementedError) as error:
        raise InvalidArgument(
            f"the state file {file} cannot be read ({str(error)[:120]})",
            "a file written by an earlier run",
            HINT,
        ) from error


def check_arrays(
    file: Path, found: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]
) -> None:
    """Refuse a state whose arrays are not those of a run's first one, or not finite.

    Raises:
        InvalidArgument: With the name of the first array.
    """
    for name, wanted in like.items():
        wanted = np.asarray(wanted)
        if name not in found:
            raise InvalidArgument(f"the state file {file} holds no {name}", hint=HINT)
        value = found[name]
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            raise InvalidArgument(
                f"the state file {file} holds {name} of {value.dtype}, {value.shape}",
                f"{wanted.dtype}, {wanted.shape}",
                HINT,
            )
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InvalidArgument(
                f"the state file {file} holds {name} with entries that are not finite",
                "a state to go on from",
                HINT,
            )
