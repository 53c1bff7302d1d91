"""Datasets and attributes of HDF5 files, as arrays read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.data.sources.source import KINDS
from sciml.errors import optional

if TYPE_CHECKING:
    import h5py


def datasets(root: h5py.Group) -> tuple[dict[str, h5py.Dataset], list[str]]:
    """Return all datasets below a group by their full names, and sentences on what is left out.

    Links inside the file are followed to datasets; those into other files are not, since a file
    from elsewhere does not say what else is read. MATLAB's own groups, `#refs#`, are left out.
    """
    h5py = optional("h5py", "hdf5", "an HDF5 file")
    found: dict[str, Any] = {}
    notes: list[str] = []
    seen: set[int] = set()

    def visit(group: Any, before: str) -> None:
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # a group may be a member of itself
            return
        seen.add(address)
        for key in group:
            name, link = f"{before}{key}", group.get(key, getlink=True)
            if key.startswith("#"):
                continue
            if isinstance(link, h5py.ExternalLink):
                notes.append(f"{name} is a link into {link.filename} and is left out")
                continue
            node = group.get(key)
            if isinstance(node, h5py.Dataset) and node.shape is not None:
                found[name] = node
            elif isinstance(node, h5py.Dataset):
                notes.append(f"{name} holds nothing and is left out")
            elif node is None:
                notes.append(f"{name} is a link to nothing and is left out")
            elif "MATLAB_sparse" in node.attrs:
                notes.append(f"{name} is a sparse matrix and is left out: write full({key})")
            elif isinstance(node, h5py.Group) and not isinstance(link, h5py.SoftLink):
                visit(node, f"{name}/")

    visit(root, "")
    return found, notes


def rows_of(node: h5py.Dataset) -> Callable[[Any], np.ndarray]:
    """Return what reads rows of a dataset."""
    return lambda index: np.asarray(node[index])


def numbers_of(file: h5py.File) -> dict[str, float]:
    """Return the attributes of the root that are single numbers."""
    found = {name: np.asarray(value) for name, value in file.attrs.items()}
    return {
        name: float(value.item())
        for name, value in found.items()
        if value.size == 1 and value.dtype.kind in KINDS
    }
