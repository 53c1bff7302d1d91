"""Cells of structured Q8 blocks: a disk in an O-grid, layers, and a homogeneous square."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from sciml.errors import InvalidArgument
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.typed_arguments import typed

CORE = 0.5  # half side of the square core of the disk, in radii
MERGE = 1e-9


def check_count(name: str, value: int, least: int = 1, step: int = 1) -> int:
    """Return `value`, or refuse what is no integer of at least `least`, a multiple of `step`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or value % step:
        kind = "an even integer" if step == 2 else "an integer"
        raise InvalidArgument(f"{name}={value}", f"{kind} of at least {least}")
    return value


@typed
def add_midsides(corners: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return nodes and elements of second order with straight sides, and the ends of their sides.

    Args:
        corners: `(C, 2)` coordinates.
        cells: `(E, 3 or 4)` corner numbers, counter-clockwise.

    Returns:
        Nodes `(C + S, 2)`, elements `(E, 6 or 8)` and the corners `(S, 2)` at both ends of side j,
        whose midside node is C + j.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import add_midsides, join_blocks
        >>> grid = np.stack(np.meshgrid([0.0, 1.0], [0.0, 1.0], indexing="ij"), -1)
        >>> nodes, elements, ends = add_midsides(*join_blocks([grid]))
        >>> nodes.shape, elements.shape, ends.shape
        ((8, 2), (1, 8), (4, 2))
    """
    ends = np.sort(np.stack([cells, np.roll(cells, -1, 1)], -1), -1)
    sides, which = np.unique(ends.reshape(-1, 2), axis=0, return_inverse=True)
    middle = corners[sides].mean(1)
    elements = np.hstack([cells, len(corners) + which.reshape(cells.shape)])
    return np.vstack([corners, middle]), elements, sides


def join_blocks(blocks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return corners `(C, 2)` and quadrilaterals `(E, 4)` of blocks that share sides.

    Args:
        blocks: Grids `(a + 1, b + 1, 2)` of corners, right-handed in (first, second) axis.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import join_blocks
        >>> grid = np.stack(np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0], indexing="ij"), -1)
        >>> corners, cells = join_blocks([grid, grid + [2, 0]])  # they share a side
        >>> corners.shape, cells.shape
        ((10, 2), (4, 4))
    """
    points, cells, start = [], [], 0
    for grid in blocks:
        number = start + np.arange(grid.shape[0] * grid.shape[1]).reshape(grid.shape[:2])
        ring = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
        cells.append(np.stack(ring, -1).reshape(-1, 4))
        points.append(grid.reshape(-1, 2))
        start += number.size
    all_points = np.vstack(points)
    pairs = cKDTree(all_points).query_pairs(MERGE, output_type="ndarray")
    first = np.arange(start)
    np.minimum.at(first, pairs[:, 1], pairs[:, 0])  # all copies of a point are within reach
    kept, number = np.unique(first, return_inverse=True)
    return all_points[kept], number[np.vstack(cells)]


@typed
def disk_cell(n: int = 8, radius: float = 0.3) -> RVEMesh:
    """Return a disk (phase 1) in the middle of the square cell, as an O-grid of 7 n^2 elements.

    A square core of n x n elements, four blocks of n x n/2 between it and the circle, and four of
    n x n outside. Midside nodes on the circle lie on the circle.

    Args:
        n: Elements along a quarter of the circle, even.
        radius: Radius of the disk, below 0.45.

    Raises:
        InvalidArgument: If `n` is odd or below 2, or `radius` not between 0 and 0.45.

    Example:
        >>> from sciml.physics.solids import disk_cell
        >>> cell = disk_cell(4, radius=0.3)
        >>> [round(float(share), 2) for share in cell.phase_fractions()]
        [0.72, 0.28]
    """
    check_count("n", n, 2, 2)
    if not 0 < radius <= 0.45:
        raise InvalidArgument(
            f"radius={radius}", "a number above 0 and at most 0.45: the disk repeats with period 1"
        )
    s = np.linspace(-1, 1, n + 1)
    angle = s * math.pi / 4
    arc = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    core, edge = (h * np.stack([np.ones_like(s), s], -1) for h in (CORE * radius, 0.5))
    blocks = [np.stack(np.meshgrid(core[:, 1], core[:, 1], indexing="ij"), -1)]
    for inner, outer, count in ((core, arc, n // 2), (arc, edge, n)):
        t = np.linspace(0, 1, count + 1)[:, None, None]
        block = (1 - t) * inner + t * outer
        for _ in range(4):
            blocks.append(block)
            block = np.stack([-block[..., 1], block[..., 0]], -1)
    corners, cells = join_blocks(blocks)
    nodes, elements, sides = add_midsides(corners, cells)
    on_circle = np.abs(np.hypot(*corners.T) - radius)[sides].max(1) < MERGE
    middle = nodes[len(corners) :]
    middle[on_circle] *= radius / np.hypot(*middle[on_circle].T)[:, None]
    phase = np.zeros(len(cells), dtype=np.int64)
    phase[: 3 * n * n] = 1  # core and inner ring come first
    area = math.pi * radius**2
    # eight sides are the coarsest circle, and lose more area than the check allows
    return RVEMesh(nodes, elements, phase, (1 - area, area))


@typed
def laminate_cell(
    fraction: float = 0.3, columns: tuple[int, int] = (2, 2), rows: int = 2
) -> RVEMesh:
    """Return two layers normal to x; the second one (phase 1) fills `fraction` of the cell.

    Args:
        fraction: Between 0 and 1, both left out.
        columns: Elements across each layer.
        rows: Elements along the layers, at least 2.

    Example:
        >>> from sciml.physics.solids import laminate_cell
        >>> [round(float(share), 2) for share in laminate_cell(0.3).phase_fractions()]
        [0.7, 0.3]
    """
    if not 0 < fraction < 1:
        raise InvalidArgument(f"fraction={fraction}", "a number between 0 and 1, both left out")
    for count in columns:
        check_count("columns", count)
    check_count("rows", rows, 2)
    middle = 0.5 - fraction
    left = np.linspace(-0.5, middle, columns[0] + 1)
    x = np.concatenate([left, np.linspace(middle, 0.5, columns[1] + 1)[1:]])
    column_phase = np.repeat([0, 1], columns)
    return _grid(x, rows, np.repeat(column_phase, rows), (1 - fraction, fraction))


@typed
def square_cell(n: int = 2) -> RVEMesh:
    """Return a homogeneous cell of n x n elements, n at least 2.

    Example:
        >>> from sciml.physics.solids import square_cell
        >>> square_cell(2).elements.shape
        (4, 8)
    """
    check_count("n", n, 2)
    return _grid(np.linspace(-0.5, 0.5, n + 1), n, np.zeros(n * n, dtype=np.int64), (1.0,))


def _grid(x: np.ndarray, rows: int, phase: np.ndarray, fractions: tuple[float, ...]) -> RVEMesh:
    y = np.linspace(-0.5, 0.5, rows + 1)
    corners, cells = join_blocks([np.stack(np.meshgrid(x, y, indexing="ij"), -1)])
    nodes, elements, _ = add_midsides(corners, cells)
    return RVEMesh(nodes, elements, phase, fractions)
