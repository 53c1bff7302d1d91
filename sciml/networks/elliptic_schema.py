"""What operators for elliptic problems take and return, as `sciml.pretrained` publishes it."""

from __future__ import annotations

from collections.abc import Sequence


def grid_schema(dim: int, coefficients: Sequence[str] = ()) -> dict:
    """Return names, shapes and units of fields on a grid.

    Args:
        dim: Number of axes, 2 or 3.
        coefficients: Names of coefficients beside f and g.
    """
    shape = ["N", *("H", "W", "D")[:dim]]
    units = {"sdf": "length", "boundary": "1", "source": "1", **dict.fromkeys(coefficients, "1")}
    return {
        "inputs": {
            name: {"shape": shape, "unit": unit, "dtype": "float"} for name, unit in units.items()
        },
        "outputs": {"value": {"shape": shape, "unit": "1"}},
    }


def cloud_schema() -> dict:
    """Return names, shapes and units of clouds of points in the plane."""
    row = {"shape": ["N", "P"], "unit": "1", "dtype": "float"}
    return {
        "inputs": {
            "points": {"shape": ["N", "P", 2], "unit": "length", "dtype": "float"},
            "boundary": row,
            "distance": {**row, "unit": "length"},
            "source": row,
        },
        "outputs": {"value": {"shape": ["N", "P"], "unit": "1"}},
    }
