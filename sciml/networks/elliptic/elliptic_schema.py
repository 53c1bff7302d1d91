"""What operators for elliptic problems take and return, as `sciml.pretrained` publishes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sciml.errors import InvalidArgument

FEWEST, MOST = 8, 2**24  # nodes of a grid, along an axis and in all


def check_box(half: float, nodes: int, dim: int = 2) -> None:
    """Refuse a grid that no array could hold, or whose box has no inside.

    Raises:
        InvalidArgument: Naming the setting.
    """
    if dim not in (2, 3) or isinstance(dim, bool):
        raise InvalidArgument(f"network.dim={dim}", "2 or 3")
    if not isinstance(half, int | float) or isinstance(half, bool) or not 0 < half < math.inf:
        raise InvalidArgument(f"network.half={half}", "a positive number")
    whole = isinstance(nodes, int) and not isinstance(nodes, bool)
    if not whole or not FEWEST <= nodes <= int(MOST ** (1 / dim)):
        raise InvalidArgument(
            f"network.nodes={nodes}", f"an integer from {FEWEST} to {int(MOST ** (1 / dim))}"
        )


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
