"""`.h5` and `.hdf5`: PDEBench and The Well by their names, anything else as named arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sciml.data.readers import pdebench_layouts, well
from sciml.data.readers.hdf5_nodes import datasets, numbers_of, rows_of
from sciml.data.sources.generic import assemble
from sciml.data.sources.named_axes import axis_of, named
from sciml.data.sources.packing import attributes_of, decoded, decoded_values
from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument, optional

if TYPE_CHECKING:
    import h5py


def read(path: Path) -> Source:
    """Return what an HDF5 file holds; its handle stays open.

    Raises:
        MissingPackage: If h5py is not installed.
        InvalidArgument: If the file is damaged.
    """
    try:
        file = optional("h5py", "hdf5", f"{path}, an HDF5 file").File(path, "r")
    except OSError as error:
        raise InvalidArgument(
            f"{path} cannot be read ({str(error).splitlines()[0][:120]})",
            "an HDF5 file",
            "It may be truncated: copy it again",
        ) from error
    for layout, title in ((well, "The Well"), (pdebench_layouts, "PDEBench")):
        try:
            found = layout.recognised(file, path)
        except KeyError as error:
            raise InvalidArgument(
                f"{path}, which looks like a file of {title}, but for {str(error.args[0])[:160]}",
                f"a whole file of {title}, or arrays with other names",
            ) from error
        if found is not None:
            return found
    return _any(file, path)


def _any(file: h5py.File, path: Path) -> Source:
    """Return all arrays of a file by their full names, with axes where dimensions have names."""
    nodes, notes = datasets(file)
    arrays, coordinates, chunked = {}, {}, 0
    for name, node in nodes.items():
        if node.attrs.get("CLASS") == b"DIMENSION_SCALE":
            if node.shape and b"This is a netCDF dimension" not in (
                node.attrs.get("NAME") or b""
            ):  # fmt: skip
                coordinates[axis_of(name)] = decoded_values(node[()], attributes_of(node))
            continue
        dims = _dims(node)
        unit = node.attrs.get("units", "")
        unit = unit.decode() if isinstance(unit, bytes) else str(unit)
        shape, read = tuple(node.shape), rows_of(node)
        raw = Array(name, shape, node.dtype, read, dims, unit, cuts=True)
        arrays[name] = decoded(raw, attributes_of(node))
        if node.chunks and node.shape:
            chunked = max(chunked, node.chunks[0])
    source = named(path, "HDF5 arrays", arrays, coordinates) if arrays else assemble(path, "", {})
    source.attributes |= numbers_of(file)
    source.notes += notes
    source.chunked = chunked
    return source


def _dims(node: h5py.Dataset) -> tuple[str, ...]:
    """Return the names of the dimensions of a dataset, as NetCDF 4 keeps them."""
    try:
        scales = [dim[0].name.rpartition("/")[2] if len(dim) else dim.label for dim in node.dims]
    except (RuntimeError, KeyError):
        return ()
    return tuple(scales) if all(scales) else ()
