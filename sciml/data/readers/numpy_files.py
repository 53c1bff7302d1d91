"""`.npz` and `.npy`: mapped into memory where they are stored plainly, never unpickled."""

from __future__ import annotations

import math
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from sciml.data.sources.generic import assemble
from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument


def read_npz(path: Path) -> Source:
    """Return the arrays of an archive of `numpy.savez`; of `savez_compressed` when asked for.

    Raises:
        InvalidArgument: If it is damaged, or holds Python objects.
    """
    arrays, notes = {}, []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, fortran, dtype, start = _header(file)
                _no_objects(path, name, shape, dtype)
                if member.compress_type == zipfile.ZIP_STORED:
                    offset = _begin(path, member) + start
                    read = _mapped(path, shape, fortran, dtype, offset)
                else:
                    read = _unpacked(path, name)
                    notes.append(f"{name} is compressed: it is read whole, into memory")
                arrays[name] = Array(name, shape, dtype, read, cuts=True)
    except InvalidArgument:
        raise
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error) as error:
        raise _damaged(path, "an archive of numpy.savez", error) from error
    source = assemble(path, "numpy archive", arrays)
    source.notes += notes
    return source


def read_npy(path: Path) -> Source:
    """Return the array of a file of `numpy.save`, named after the file.

    Raises:
        InvalidArgument: If it is damaged, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            shape, fortran, dtype, start = _header(file)
        _no_objects(path, path.stem, shape, dtype)
        read = _mapped(path, shape, fortran, dtype, start)
    except (ValueError, OSError, EOFError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise _damaged(path, "a file of numpy.save", error) from error
    array = Array(path.stem, shape, dtype, read, cuts=True)
    source = assemble(path, "numpy array", {path.stem: array})
    beside = [p.name for p in sorted(path.parent.glob("*.npy")) if p != path]
    if beside and not path.stem[-1].isdigit():
        source.notes.append(
            f"{beside[0]} stands beside it: data.path={path.parent} reads one array from each file"
        )
    return source


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, order, type and where the numbers begin."""
    version = npy.read_magic(file)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"numpy format {version}")
    shape, fortran, dtype = reader(file)
    return tuple(shape), fortran, dtype, file.tell()


def _begin(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where a stored member's bytes begin: behind its local header."""
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + name + extra


def _mapped(
    path: Path, shape: tuple[int, ...], fortran: bool, dtype: np.dtype, offset: int
) -> Callable[[Any], np.ndarray]:
    order = "F" if fortran else "C"
    if not np.prod(shape):
        return np.zeros(shape, dtype).__getitem__
    if offset + np.prod(shape, dtype=np.int64) * dtype.itemsize > path.stat().st_size:
        raise ValueError(f"it ends before its {shape} numbers do")
    # mapped anew for every read: pages that were read then do not stay with this process
    return lambda index: np.array(np.memmap(path, dtype, "r", offset, shape, order)[index])


def _unpacked(path: Path, name: str) -> Callable[[Any], np.ndarray]:
    kept: list[np.ndarray] = []

    def read(index: Any) -> np.ndarray:
        if not kept:
            try:
                with np.load(path, allow_pickle=False) as file:
                    kept.append(file[name])
            except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
                raise _damaged(path, "an archive of numpy.savez_compressed", error) from error
        return kept[0][index]

    return read


def _no_objects(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse shapes that cannot be, and Python objects, with the line that makes arrays of them.

    Raises:
        InvalidArgument: With the line to run.
    """
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize >= 2**63:
        raise InvalidArgument(
            f"{path}: {name} with the shape {shape}", "lengths that can be", "The file is damaged"
        )
    if not dtype.hasobject:
        return
    load = f"d = np.load({str(path)!r}, allow_pickle=True)"
    new = str(path.with_name(f"{path.stem}_arrays.npz"))
    if path.suffix == ".npz" and shape == (2,):  # DeepONet: (branch, trunk), y
        save = f"np.savez({new!r}, branch=d['{name}'][0], trunk=d['{name}'][1], y=d['y'])"
        line = f"import numpy as np; {load}; {save}"
    else:
        part = f"d['{name}']" if path.suffix == ".npz" else "d"
        line = f"import numpy as np; {load}; np.savez({new!r}, {name}=np.stack(list({part})))"
    plain = not set(line) & set('$`"\\!')  # what a shell looks at between double quotes
    typed = f'"{line}"' if plain else shlex.quote(line)
    raise InvalidArgument(
        f"{path}: {name} {shape} holds Python objects, and reading them can run code",
        "arrays of numbers",
        f"If you trust the file, run once: python -c {typed}",
    )


def _damaged(path: Path, what: str, error: Exception) -> InvalidArgument:
    said = str(error).partition("\n")[0][:160] or type(error).__name__
    return InvalidArgument(
        f"{path} cannot be read ({said})", what, "It may be truncated: copy it again"
    )
