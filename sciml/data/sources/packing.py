"""Packed numbers and missing values, as NetCDF's attributes say them.

    number = raw * scale_factor + add_offset
    missing where raw is `_FillValue` or `missing_value`, or outside `valid_min` to `valid_max`

Missing numbers become NaN, which the checks of the data then name. Source: CF Conventions 1.11,
section 8.1, and the NetCDF User Guide, appendix A.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from sciml.data.sources.source import KINDS, Array

SCALES = ("scale_factor", "add_offset")
MISSING = ("_FillValue", "missing_value")
VALID = ("valid_min", "valid_max", "valid_range")


def decoded(array: Array, attributes: Mapping[str, Any]) -> Array:
    """Return an array whose numbers are those meant, NaN where one is missing.

    Args:
        array: Raw numbers.
        attributes: All of the variable, also those that say nothing here.
    """
    if array.dtype.kind not in KINDS:
        return array
    said = {n: _values(attributes[n], array.dtype) for n in (*SCALES, *MISSING, *VALID)
            if n in attributes}  # fmt: skip
    said = {n: v for n, v in said.items() if v is not None}
    if not said:
        return array
    unsigned = _text(attributes.get("_Unsigned", "")).lower() == "true"
    raw = array.dtype
    if unsigned and raw.kind == "i":  # NetCDF 3 has no unsigned integers
        raw = np.dtype(f"{raw.byteorder}u{raw.itemsize}")
    small = raw.itemsize <= 2 if raw.kind in "iu" else raw.itemsize <= 4
    kind = np.dtype("f4") if small else np.dtype("f8")

    def read(index: Any) -> np.ndarray:
        values = np.asarray(array.read(index))
        return _numbers(values.view(raw) if raw != array.dtype else values, said).astype(kind)

    return replace(array, dtype=kind, read=read)


def decoded_values(values: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Return the numbers that are meant by those of an array in memory, as of a coordinate.

    Args:
        values: As they are stored.
        attributes: Of the variable.
    """
    stored = Array("", values.shape, values.dtype, values.__getitem__)
    return decoded(stored, attributes).read(slice(None) if values.ndim else ())


def attributes_of(node: Any) -> dict[str, Any]:
    """Return the attributes of an HDF5 dataset or zarr array that packing knows."""
    wanted = (*SCALES, *MISSING, *VALID, "_Unsigned")
    return {name: node.attrs[name] for name in wanted if name in node.attrs}


def _numbers(raw: np.ndarray, said: Mapping[str, np.ndarray]) -> np.ndarray:
    missing = np.zeros(raw.shape, bool)
    for name in MISSING:
        for value in said.get(name, ()):
            missing |= np.isnan(raw) if np.isnan(value) else raw == _as_stored(value, raw.dtype)
    found = raw.astype(float)
    for factor in said.get("scale_factor", ())[:1]:
        found = found * float(factor)
    for offset in said.get("add_offset", ())[:1]:
        found = found + float(offset)
    low, high = _valid(said)
    for bound, outside in ((low, np.less), (high, np.greater)):
        if bound is not None:  # said of raw numbers, unless it has the type of those meant
            meant = raw.dtype.kind != "f" and bound.dtype.kind == "f"
            missing |= outside(found if meant else raw, bound)
    return np.where(missing, np.nan, found)


def _as_stored(value: np.generic, raw: np.dtype) -> np.generic:
    """Return a missing value in the type of raw numbers: rounded, or without its sign, as they."""
    return value.astype(raw) if raw.kind == "f" or value.dtype.kind in "iu" else value


def _valid(said: Mapping[str, np.ndarray]) -> tuple[np.generic | None, np.generic | None]:
    """Return the least and the greatest valid number, None where nothing is said."""
    span = said.get("valid_range")
    if span is not None and len(span) == 2:
        return span[0], span[1]
    low, high = said.get("valid_min"), said.get("valid_max")
    return None if low is None else low[0], None if high is None else high[0]


def _values(value: Any, raw: np.dtype) -> np.ndarray | None:
    """Return an attribute as numbers `(k,)`; None where it holds none."""
    if isinstance(value, str) and value not in ("NaN", "nan", "Infinity", "-Infinity"):
        try:  # as xarray writes the missing value of zarr's third format
            return np.frombuffer(base64.b64decode(value, validate=True), raw.newbyteorder("<"))
        except (binascii.Error, ValueError):
            return None
    try:
        found = np.atleast_1d(np.asarray(float(value) if isinstance(value, str) else value))
    except (TypeError, ValueError):
        return None
    return found.ravel() if found.size and found.dtype.kind in KINDS else None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
