"""The one grid that all outputs stand on."""

from __future__ import annotations

from collections.abc import Sequence

from sciml.data.readers.source import Array
from sciml.errors import InvalidArgument

SPACE = ("x", "y", "z")


def points_of(array: Array) -> tuple[int, ...]:
    """Return the points per direction of an array with axes; empty for numbers of a sample."""
    return tuple(array.shape[1 + array.axes.index(s)] for s in SPACE if s in array.axes)


def common_grid(outs: Sequence[Array]) -> tuple[int, ...]:
    """Return the points per direction that all outputs have.

    Args:
        outs: With axes.

    Raises:
        InvalidArgument: If no output is a field, or they stand on different grids.
    """
    first = next((a for a in outs if points_of(a)), None)
    if first is None:
        array = outs[0]
        named = f'"data.axes={{{array.name}: [n, x]}}" if its last axis is one of points, or '
        raise InvalidArgument(
            f"the output {array.describe()} without an axis of space",
            "a field: one number at every point of a grid, for every sample",
            f"Type {named if len(array.shape) == 2 else ''}data.outputs=[NAME] for another array",
        )
    grid = points_of(first)
    for array in outs:
        if points_of(array) != grid:
            raise InvalidArgument(
                f"outputs on different grids: {first.describe()} and {array.describe()}",
                "one grid for all outputs",
                f"Type data.outputs=[{first.name}]",
            )
    return grid
