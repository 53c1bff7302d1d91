"""One file, read by the reader of its ending."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from sciml.data.sources.source import Source
from sciml.errors import InvalidArgument

# ending -> (module, function); imported when such a file is read
READERS: dict[str, tuple[str, str]] = {
    ".npz": ("numpy_files", "read_npz"),
    ".npy": ("numpy_files", "read_npy"),
    ".pt": ("torch_files", "read"),
    ".pth": ("torch_files", "read"),
    ".mat": ("matlab", "read"),
    ".h5": ("hdf5_files", "read"),
    ".hdf5": ("hdf5_files", "read"),
    ".nc": ("netcdf", "read"),
    ".zarr": ("zarr_store", "read"),
    ".csv": ("csv_table", "read"),
}


def open_file(path: Path) -> Source:
    """Return what one file holds.

    Raises:
        InvalidArgument: If there is no such file, its format is unknown or its library missing, or
            it cannot be read.
    """
    if not path.exists():
        beside = [p.name for p in sorted(path.parent.glob("*")) if p.suffix.lower() in READERS]
        found = f"There are {', '.join(beside[:8])}" if beside else ""
        raise InvalidArgument(f"there is no file {path}", "a file of arrays, or a folder", found)
    if path.suffix.lower() not in READERS:
        raise InvalidArgument(
            f"{path}, whose name ends in {path.suffix or 'nothing'}",
            f"a name ending in {', '.join(READERS)}, or a folder of such files",
        )
    if path.is_file() and not path.stat().st_size:
        raise InvalidArgument(f"{path} is empty", "a file with arrays", "Copy it again")
    if path.is_dir() and path.suffix.lower() != ".zarr":
        raise InvalidArgument(f"{path}, which is a folder", "a file", "Rename it, or type a file")
    module, name = READERS[path.suffix.lower()]
    reader: Callable[[Path], Source] = getattr(import_module(f"sciml.data.readers.{module}"), name)
    return reader(path)
