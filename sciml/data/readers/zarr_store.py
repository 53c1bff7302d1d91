"""`.zarr`: arrays of a store, named axes where `_ARRAY_DIMENSIONS` says so; needs zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sciml.data.sources.named_axes import axis_of, named
from sciml.data.sources.packing import attributes_of, decoded, decoded_values
from sciml.data.sources.source import Array, Source
from sciml.errors import InvalidArgument, optional


def read(path: Path) -> Source:
    """Return the arrays of a store.

    Raises:
        MissingPackage: If zarr is not installed.
        InvalidArgument: If it is no store.
    """
    zarr = optional("zarr", "zarr", f"{path}, a zarr store")
    try:
        store = zarr.open_group(str(path), mode="r")
        nodes = dict(store.members(max_depth=None))  # those of groups inside too
        nodes = {name: node for name, node in nodes.items() if hasattr(node, "dtype")}
    except Exception as error:  # any: families differ between versions of zarr
        raise InvalidArgument(f"{path} cannot be read ({error})", "a zarr group") from error
    arrays, coordinates = {}, {}
    for name, node in nodes.items():
        dims = tuple(node.attrs.get("_ARRAY_DIMENSIONS", ()))  # of xarray, in format 2
        dims = dims or tuple(getattr(node.metadata, "dimension_names", None) or ())
        if dims == (name.rpartition("/")[2],):
            coordinates[axis_of(name)] = decoded_values(np.asarray(node[:]), _packing(node))
            continue
        raw = Array(
            name,
            tuple(node.shape),
            np.dtype(node.dtype),
            lambda index, node=node: np.asarray(node.oindex[index] if node.shape else node[()]),
            dims,
            unit=str(node.attrs.get("units", "")),
        )
        arrays[name] = decoded(raw, _packing(node))
    source = named(path, "zarr store", arrays, coordinates)
    source.chunked = max((node.chunks[0] for node in nodes.values() if node.shape), default=0)
    return source


def _packing(node: Any) -> dict[str, Any]:
    """Return what an array says of packing; its fill value is xarray's `_FillValue` in format 2.

    A fill value of 0 is what every other program writes, and no number that is missing.
    """
    found = attributes_of(node)
    if "_ARRAY_DIMENSIONS" in node.attrs and node.fill_value not in (None, 0):
        found.setdefault("_FillValue", node.fill_value)
    return found
