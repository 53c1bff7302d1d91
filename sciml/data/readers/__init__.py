"""Files that people bring, read into named arrays: one reader per format behind one table.

A reader looks at names and shapes only and returns a `Source`, whose arrays are read in rows when
they are asked for. No reader runs what a file says: torch files are read with `weights_only`, numpy
files without pickles.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sciml.data.readers import sample_folder
from sciml.data.readers.single_files import open_file
from sciml.data.sources.source import Array as Array
from sciml.data.sources.source import Source as Source


def open_source(path: str | Path, names: Collection[str] = ()) -> Source:
    """Return what a file or a folder of files holds.

    Args:
        path: The file; a folder with `train`, `valid` and `test` inside; or a folder of files of
            one format.
        names: Arrays that are looked for: in a folder of npy files, one called like one of them is
            that array, and no sample.

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
    if path.suffix.lower() != ".zarr" and path.is_dir():
        return sample_folder.read(path, names)
    return open_file(path)
