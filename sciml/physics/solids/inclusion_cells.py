"""Cells with elliptic inclusions, in T6 elements that follow the interfaces.

Points are put on the interfaces at equal distances and on a hexagonal lattice between them, the
whole is triangulated by Delaunay's criterion together with its periodic copies, and points off the
interfaces are smoothed a few times. A side of an interface is in the triangulation if the circle
over it holds no other point, which the distances ensure; it is checked all the same. Midside
nodes of interfaces lie on the interfaces.

Triangles reach over the edges of the square: nothing is cut there, so that the position of an
inclusion relative to the square means nothing, neither for the mesh nor for random cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.solids.block_cells import add_midsides
from sciml.physics.solids.inclusions import EllipticInclusion, check_gaps, random_inclusions
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.typed_arguments import typed

LEAST_GAP = 0.6  # between inclusions, in element sizes
KEEP_OFF = 0.65  # distance of lattice points from interfaces, in element sizes
ROUNDS = 8  # of smoothing
JITTER = 1e-3  # in element sizes: no four points on a circle, so that all copies agree
SIZES = (1e-3, 0.2)


@typed
def inclusion_cell(inclusions: Sequence[EllipticInclusion], size: float = 0.04) -> RVEMesh:
    """Return a T6 mesh of a matrix (phase 0) with inclusions (phase 1).

    Args:
        inclusions: They may reach over the edges of the square; periodic copies count.
        size: Length of the sides of elements.

    Raises:
        InvalidArgument: If two inclusions touch or come closer than 0.6 `size`, periodic copies
            included, or `size` is too coarse to follow the interfaces.

    Example:
        >>> from sciml.physics.solids import EllipticInclusion, inclusion_cell
        >>> inclusion_cell([EllipticInclusion(0.0, 0.0, 0.3)], size=0.1).element.name
        'T6'
    """
    inclusions = list(inclusions)
    if not inclusions:
        raise InvalidArgument(
            "no inclusions",
            "at least one EllipticInclusion",
            "Type square_cell() for a homogeneous cell",
        )
    if not SIZES[0] <= check_positive("size", size) <= SIZES[1]:
        raise InvalidArgument(f"size={size}", f"a length from {SIZES[0]} to {SIZES[1]}")
    check_gaps(inclusions, LEAST_GAP * size)
    draw = np.random.default_rng(0)  # the same inclusions always give the same mesh
    parameters = [e.spaced(size) for e in inclusions]
    fixed = np.vstack([e.curve(t) for e, t in zip(inclusions, parameters, strict=True)])
    points = np.vstack([fixed, _lattice(fixed, size, draw)])
    for _ in range(ROUNDS):
        points = _smooth(points, len(fixed))
    triangles, corners, owner = _triangulate(points)
    nodes, elements, sides = add_midsides(corners, triangles)
    _bend(nodes, sides, owner, inclusions, parameters)
    centres = corners[triangles].mean(1)
    phase = np.logical_or.reduce([e.contains(centres) for e in inclusions]).astype(np.int64)
    area = sum(e.area for e in inclusions)
    return RVEMesh(nodes, elements, phase, (1 - area, area))


def _lattice(fixed: np.ndarray, size: float, draw: np.random.Generator) -> np.ndarray:
    """Return a jittered hexagonal lattice `(n, 2)` that keeps off the interfaces."""
    columns = max(4, round(1 / size))
    rows = max(4, 2 * round(1 / (size * 3**0.5)))
    x, y = np.meshgrid(np.arange(columns) / columns, np.arange(rows) / rows, indexing="ij")
    x = x + (np.arange(rows) % 2) / (2 * columns)
    points = np.stack([x, y], -1).reshape(-1, 2) - 0.5
    points += draw.uniform(-JITTER, JITTER, points.shape) * size
    tree = cKDTree(_home(fixed) + 0.5, boxsize=1.0)
    return points[tree.query(_home(points) + 0.5)[0] > KEEP_OFF * size]


def _home(points: np.ndarray) -> np.ndarray:
    """Return points shifted into [-1/2, 1/2)."""
    shifted = (points + 0.5) % 1.0
    return np.where(shifted >= 1.0, 0.0, shifted) - 0.5


def _triangulate(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return triangles `(E, 3)` that tile the plane, corners `(C, 2)` and their point `(C,)`."""
    shifts = np.stack(np.meshgrid([0, -1, 1], [0, -1, 1]), -1).reshape(-1, 2)
    tiled = (_home(points) + shifts[:, None]).reshape(-1, 2)
    near = np.flatnonzero(np.abs(tiled).max(1) < 0.9)
    simplices = near[Delaunay(tiled[near]).simplices]
    a, b, c = np.moveaxis(tiled[simplices], 1, 0)
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    simplices[turn < 0] = simplices[turn < 0][:, ::-1]
    centre = tiled[simplices].mean(1)
    simplices = simplices[((centre >= -0.5) & (centre < 0.5)).all(1)]
    used, triangles = np.unique(simplices, return_inverse=True)
    return triangles.reshape(-1, 3), tiled[used], used % len(points)


def _smooth(points: np.ndarray, fixed: int) -> np.ndarray:
    """Move points off the interfaces to the mean centre of their triangles, weighted by area."""
    triangles, corners, owner = _triangulate(points)
    at = corners[triangles]
    side, other = at[:, 1] - at[:, 0], at[:, 2] - at[:, 0]
    area = np.abs(side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0])[:, None]
    way = (area[..., None] * (at.mean(1, keepdims=True) - at)).reshape(-1, 2)
    who = owner[triangles].ravel()
    total = np.bincount(who, np.repeat(area, 3), len(points))
    step = np.stack([np.bincount(who, way[:, i], len(points)) for i in range(2)], 1)
    step /= np.maximum(total, 1e-300)[:, None]
    step[:fixed] = 0
    return points + step


def _bend(
    nodes: np.ndarray,
    sides: np.ndarray,
    owner: np.ndarray,
    inclusions: list[EllipticInclusion],
    parameters: list[np.ndarray],
) -> None:
    """Move the midside nodes of interfaces onto them, in place.

    Raises:
        InvalidArgument: If a side of an interface is not in the triangulation.
    """
    ends = np.sort(owner[sides], 1)
    middle, first = nodes[len(owner) :], 0
    for number, (ellipse, t) in enumerate(zip(inclusions, parameters, strict=True)):
        count = len(t)
        local = ends - first
        first += count
        mine = (local[:, 0] >= 0) & (local[:, 1] < count)
        step = local[:, 1] - local[:, 0]
        along = mine & ((step == 1) | (step == count - 1))
        start = np.where(step == 1, local[:, 0], local[:, 1])[along]
        if len(np.unique(start)) < count:
            raise InvalidArgument(
                f"size={np.hypot(*np.diff(ellipse.curve(t[:2]), axis=0)[0]):.3g} along inclusion "
                f"{number}: {count - len(np.unique(start))} sides of its interface are crossed",
                "elements small enough to follow the interface",
                "Lower size",
            )
        turn = np.append(t, t[0] + 2 * np.pi)
        curve = ellipse.curve((turn[start] + turn[start + 1]) / 2)
        middle[along] = curve + np.round(middle[along] - curve)


# The cells of arXiv 2504.07976; sizes that give about as many unknowns as its meshes.


@typed
def rve1(size: float = 0.024) -> RVEMesh:
    """Return RVE1: circles of radius 0.2959 in the middle and at the corners, 55 % fibre.

    Example:
        >>> from sciml.physics.solids import rve1
        >>> round(float(rve1(size=0.1).phase_fractions()[1]), 2)
        0.55
    """
    return inclusion_cell(
        [EllipticInclusion(0.0, 0.0, 0.2959), EllipticInclusion(0.5, 0.5, 0.2959)], size
    )


@typed
def rve2(size: float = 0.03) -> RVEMesh:
    """Return RVE2: one ellipse of semi-axes 0.35 and 0.1754 turned by 30 degrees.

    Example:
        >>> from sciml.physics.solids import rve2
        >>> round(float(rve2(size=0.1).phase_fractions()[1]), 2)
        0.19
    """
    return inclusion_cell([EllipticInclusion(0.0, 0.0, 0.35, 0.1754, 30.0)], size)


@typed
def rve3(size: float = 0.03) -> RVEMesh:
    """Return RVE3: circles of radius 0.10, 0.10 and 0.15.

    Example:
        >>> from sciml.physics.solids import rve3
        >>> round(float(rve3(size=0.1).phase_fractions()[1]), 2)
        0.13
    """
    circles = (
        EllipticInclusion(-0.25, 0.25, 0.1),
        EllipticInclusion(0.0, -0.25, 0.1),
        EllipticInclusion(0.25, 0.15, 0.15),
    )
    return inclusion_cell(circles, size)


@typed
def random_cell(
    fraction: float = 0.3, count: int = 8, *, size: float = 0.04, seed: int = 0
) -> RVEMesh:
    """Return a cell of equal circles at random positions; see `random_inclusions`.

    Example:
        >>> from sciml.physics.solids import random_cell
        >>> mesh = random_cell(fraction=0.2, count=2, size=0.15)
        >>> round(float(mesh.phase_fractions()[1]), 2)
        0.2
    """
    return inclusion_cell(random_inclusions(fraction, count, apart=size, seed=seed), size)
