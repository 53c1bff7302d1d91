"""Files that people bring, read into named arrays: one reader per format behind one table.

A reader looks at names and shapes only and returns a `Source`, whose arrays are read in rows when
they are asked for. No reader runs what a file says: torch files are read with `weights_only`, numpy
files without pickles.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from sciml.data.readers.source import Array as Array
from sciml.data.readers.source import Source as Source
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


def open_source(path: str | Path) -> Source:
    """Return what a file or a folder of files holds.

    Args:
        path: The file; a folder with `train`, `valid` and `test` inside; or a folder of files of
            one format.

    Raises:
        InvalidArgument: If there is no such file, its format is unknown or its library missing, or
            it cannot be read.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from sciml.data.readers import open_source
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"x": torch.rand(20, 16, 16)}, f"{folder}/darcy.pt")
        ...     source = open_source(f"{folder}/darcy.pt")
        ...     shape = source.arrays["x"].rows([3, 0]).shape
        >>> tuple(shape)
        (2, 16, 16)
    """
    path = Path(path)
    if path.suffix.lower() not in READERS and path.is_dir():
        from sciml.data.readers.sample_folder import read

        return read(path)
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
    module, name = READERS[path.suffix.lower()]
    reader: Callable[[Path], Source] = getattr(import_module(f"{__name__}.{module}"), name)
    return reader(path)
