"""Structures of the macroscale: plate with a hole, L-profile and Cook's membrane, in Q8 elements.

Plane strain, 2 x 2 quadrature points per element (reduced integration, which keeps nearly
incompressible phases from locking). A structure is a mesh, what is held and what is loaded, at
full load; a new one is a function of a few lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sciml.errors import InvalidArgument
from sciml.physics.solids.block_cells import add_midsides, check_count, join_blocks
from sciml.physics.solids.elements import ELEMENTS, Element
from sciml.physics.solids.quadratic_mesh import QuadraticMesh
from sciml.typed_arguments import typed

SAME = 1e-9  # of the size of the structure: nodes on an edge
_A = 1 / math.sqrt(3)
REDUCED_Q8 = replace(
    ELEMENTS[8],
    points=np.array([[-_A, -_A], [_A, -_A], [_A, _A], [-_A, _A]]),
    weights=np.ones(4),
)


@typed
@dataclass(frozen=True, eq=False)
class StructureMesh(QuadraticMesh):
    """Q8 elements with four quadrature points each.

    Args:
        nodes: `(N, 2)` coordinates.
        elements: `(E, 8)` node numbers, counter-clockwise, corners first.

    Example:
        >>> from sciml.physics.solids import plate
        >>> mesh = plate().mesh
        >>> float(mesh.size), mesh.elements.shape[1]
        (100.0, 8)
        >>> left = mesh.where(lambda x, y: abs(x))  # the nodes of the edge x = 0
        >>> bool((mesh.nodes[left, 0] == 0).all())
        True
    """

    @property
    def element(self) -> Element:
        """Return the reference element."""
        return REDUCED_Q8

    @cached_property
    def size(self) -> float:
        """Return the larger side of the box around the structure."""
        return float(np.ptp(self.nodes, axis=0).max())

    def where(self, inside: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the numbers of the nodes `(n,)` for which a function of x and y is below 0.

        Example:
            >>> from sciml.physics.solids import plate
            >>> mesh = plate().mesh
            >>> left = mesh.where(lambda x, y: abs(x))  # the nodes of the edge x = 0
            >>> bool((mesh.nodes[left, 0] == 0).all())
            True
        """
        return np.flatnonzero(inside(*self.nodes.T) < SAME * self.size)


@typed
@dataclass(frozen=True, eq=False)
class Structure:
    """A boundary-value problem at full load; N nodes.

    Attributes:
        name: Its name.
        mesh: The mesh.
        held: `(h,)` numbers of prescribed unknowns; those of node i are 2i (x) and 2i + 1 (y).
        values: `(h,)` displacements prescribed there.
        forces: `(2N,)` nodal forces.

    Example:
        >>> from sciml.physics.solids import cook
        >>> panel = cook(force=40.0)
        >>> panel.name, round(float(panel.forces.sum()), 4)
        ('cook', 40.0)
    """

    name: str
    mesh: StructureMesh
    held: np.ndarray
    values: np.ndarray
    forces: np.ndarray

    @classmethod
    def of(
        cls,
        name: str,
        mesh: StructureMesh,
        conditions: list[tuple[np.ndarray, int, float]],
        forces: np.ndarray | None = None,
    ) -> Structure:
        """Return the structure with (nodes, axis, displacement) prescribed in turn.

        Raises:
            InvalidArgument: If a condition holds no node: nothing would be prescribed.
        """
        for nodes, axis, value in conditions:
            if not len(nodes):
                raise InvalidArgument(
                    f"a condition u_{'xy'[axis]}={value:g} at no node of {name}", "nodes there"
                )
        held = np.concatenate([2 * nodes + axis for nodes, axis, _ in conditions])
        values = np.concatenate([np.full(len(n), float(v)) for n, _, v in conditions])
        held, first = np.unique(held, return_index=True)
        size = mesh.nodes.size
        forces = np.zeros(size) if forces is None else forces
        return cls(name, mesh, held, values[first], forces)


@typed
def plate(refine: int = 1, stretch: float = 1.0) -> Structure:
    """Return a plate of 100 x 100 with a hole of radius 25, pulled along x by its edges.

    Args:
        refine: 72 elements times its square.
        stretch: Displacement of the right edge; the left one stays.

    Example:
        >>> from sciml.physics.solids import plate
        >>> len(plate().mesh.elements)
        72
    """
    check_count("refine", refine)
    s = np.linspace(-1, 1, 6 * refine + 1)
    angle = s * math.pi / 4
    hole = 25 * np.stack([np.cos(angle), np.sin(angle)], -1)
    edge = 50 * np.stack([np.ones_like(s), s], -1)
    t = np.linspace(0, 1, 3 * refine + 1)[:, None, None] ** 1.3
    block, blocks = (1 - t) * hole + t * edge, []
    for _ in range(4):
        blocks.append(block)
        block = np.stack([-block[..., 1], block[..., 0]], -1)
    corners, cells = join_blocks(blocks)
    nodes, elements, sides = add_midsides(corners, cells)
    on_hole = np.abs(np.hypot(*corners.T) - 25)[sides].max(1) < 1e-6
    middle = nodes[len(corners) :]
    middle[on_hole] *= 25 / np.hypot(*middle[on_hole].T)[:, None]
    mesh = StructureMesh(nodes + 50, elements)
    left, right = mesh.where(lambda x, y: x), mesh.where(lambda x, y: 100 - x)
    low = left[np.argmin(mesh.nodes[left, 1])][None]
    return Structure.of("plate", mesh, [(left, 0, 0.0), (right, 0, stretch), (low, 1, 0.0)])


@typed
def l_profile(refine: int = 1, bend: float = 1.5) -> Structure:
    """Return an L of 100 x 100 without its upper right quarter, hung at the top and bent down.

    Args:
        refine: 48 elements times its square.
        bend: Downward displacement of the edge x = 100.

    Example:
        >>> from sciml.physics.solids import l_profile
        >>> len(l_profile(refine=2).mesh.elements)
        192
    """
    check_count("refine", refine)
    s = np.linspace(0, 50, 4 * refine + 1)
    square = np.stack(np.meshgrid(s, s, indexing="ij"), -1)
    corners, cells = join_blocks([square, square + [50, 0], square + [0, 50]])
    nodes, elements, _ = add_midsides(corners, cells)
    mesh = StructureMesh(nodes, elements)
    top, side = mesh.where(lambda x, y: 100 - y), mesh.where(lambda x, y: 100 - x)
    return Structure.of("l_profile", mesh, [(top, 0, 0.0), (top, 1, 0.0), (side, 1, -bend)])


@typed
def cook(refine: int = 1, force: float = 40.0) -> Structure:
    """Return Cook's membrane: a tapered panel, clamped at the left, sheared at the right.

    Corners (0, 0), (48, 44), (48, 60), (0, 44).

    Args:
        refine: 64 elements times its square.
        force: Total upward force on the right edge, per unit of thickness, uniform along it.

    Source: Cook, J. Struct. Div. ASCE 100, 1974.

    Example:
        >>> from sciml.physics.solids import cook
        >>> cook(refine=1).mesh.elements.shape[1]
        8
    """
    n = 8 * check_count("refine", refine)
    s, t = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, n + 1), indexing="ij")
    low, high = 44 * s, 44 + 16 * s
    grid = np.stack([48 * s, low + t * (high - low)], -1)
    nodes, elements, _ = add_midsides(*join_blocks([grid]))
    mesh = StructureMesh(nodes, elements)
    left, right = mesh.where(lambda x, y: x), mesh.where(lambda x, y: 48 - x)
    right = right[np.argsort(mesh.nodes[right, 1])]  # corner, midside, corner, ...
    share = np.zeros(len(right))
    for start in range(0, len(right) - 2, 2):  # Simpson's rule is exact for quadratic sides
        share[start : start + 3] += np.array([1, 4, 1]) / (6 * n)
    forces = np.zeros(mesh.nodes.size)
    forces[2 * right + 1] = force * share
    return Structure.of("cook", mesh, [(left, 0, 0.0), (left, 1, 0.0)], forces)


STRUCTURES: dict[str, Callable[[int, float], Structure]] = {
    "plate": plate,
    "l_profile": l_profile,
    "cook": cook,
}
