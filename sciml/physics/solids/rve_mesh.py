"""Periodic meshes of a representative volume element (RVE), which check themselves.

The cell has area 1 and repeats along x and y with period 1. It need not be a square: any set of
elements that tiles the plane under integer shifts will do, so triangles may reach over the edge of
the square. Nodes that coincide after an integer shift are one node of the periodic field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.solids.elements import ELEMENTS
from sciml.physics.solids.quadratic_mesh import QuadraticMesh
from sciml.typed_arguments import typed

SAME_NODE = 1e-6  # distance, in units of the period
AREA_ERROR = 1e-8
FRACTION_ERROR = 1e-3  # quadratic sides on circles: far below this where a mesh is usable


@typed
@dataclass(frozen=True, eq=False)
class RVEMesh(QuadraticMesh):
    """A periodic mesh of Q8 or T6 elements; E elements of k nodes, Q quadrature points each.

    Elements are kept sorted by phase. Building a mesh checks it.

    Args:
        nodes: `(N, 2)` coordinates.
        elements: `(E, k)` node numbers, counter-clockwise, corners first.
        phase: `(E,)` phase per element, 0, 1, ...; 0 is the matrix.
        fractions: Area fraction that each phase should have; None leaves it unchecked.

    Raises:
        InvalidArgument: If the mesh has wrong shapes, elements turned inside out, an area other
            than 1, edges without a periodic partner, or other phase fractions than stated.

    Example:
        >>> from sciml.physics.solids import disk_cell
        >>> disk_cell(4).dofs
        670
    """

    phase: np.ndarray
    fractions: tuple[float, ...] | None = field(default=None)

    def __post_init__(self) -> None:
        """Sort by phase and check."""
        for name in ("nodes", "elements", "phase"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise InvalidType(
                    f"{name} of type {type(getattr(self, name)).__name__}", "a NumPy array"
                )
        self._check_shapes()
        order = np.argsort(self.phase, kind="stable")
        object.__setattr__(self, "elements", self.elements[order])
        object.__setattr__(self, "phase", self.phase[order])
        self._check_jacobians()
        self._check_area()
        self._check_periodic()
        self._check_fractions()

    @cached_property
    def glued(self) -> np.ndarray:
        """Return `(N,)`: the number of the periodic node that each node is a copy of."""
        home = (self.nodes + 0.5) % 1.0
        home[home >= 1.0] = 0.0  # round-off of the remainder
        pairs = cKDTree(home, boxsize=1.0).query_pairs(SAME_NODE, output_type="ndarray")
        count = len(self.nodes)
        links = coo_array((np.ones(len(pairs)), pairs.T), shape=(count, count))
        return connected_components(links, directed=False)[1]

    @property
    def periodic_nodes(self) -> int:
        """Return how many nodes a periodic field has."""
        return int(self.glued.max()) + 1

    @property
    def dofs(self) -> int:
        """Return the unknowns of the cell problem: one node is held."""
        return 2 * self.periodic_nodes - 2

    def phase_fractions(self) -> np.ndarray:
        """Return the area fraction of each phase."""
        return np.bincount(self.phase, self.weights.sum(1))

    def rotated(self) -> RVEMesh:
        """Return the cell turned by 90 degrees, counter-clockwise."""
        turned = np.stack([-self.nodes[:, 1], self.nodes[:, 0]], 1)
        return RVEMesh(turned, self.elements, self.phase, self.fractions)

    def _check_shapes(self) -> None:
        if self.nodes.ndim != 2 or self.nodes.shape[1] != 2 or not np.isfinite(self.nodes).all():
            raise InvalidArgument(f"nodes of shape {self.nodes.shape}", "finite (N, 2) coordinates")
        shape = self.elements.shape
        if len(shape) != 2 or not shape[0] or shape[1] not in ELEMENTS:
            raise InvalidArgument(
                f"elements of shape {shape}",
                "(E, 8) or (E, 6) node numbers",
                "Add midside nodes to elements of first order",
            )
        if self.phase.shape != shape[:1]:
            raise InvalidArgument(
                f"phase of shape {self.phase.shape}", f"one number each of {shape[0]}"
            )
        for name, least, below in (("elements", 0, len(self.nodes)), ("phase", 0, shape[0])):
            values = getattr(self, name)
            if values.dtype.kind not in "iu" or values.min() < least or values.max() >= below:
                raise InvalidArgument(
                    f"{name} with {values.dtype} values from {values.min()} to {values.max()}",
                    f"integers from {least} to {below - 1}",
                )

    def _check_jacobians(self) -> None:
        where = np.vstack([self.element.points, self.element.nodes])
        jacobian = self.element.gradients(where) @ self.nodes[self.elements][:, None]
        least = np.linalg.det(jacobian).min(1)
        bad = np.flatnonzero(least <= 0)
        if len(bad):
            x, y = self.nodes[self.elements[bad[0]]].mean(0)
            raise InvalidArgument(
                f"a mesh in which {len(bad)} elements are turned inside out, the first one at "
                f"({x:.4f}, {y:.4f})",
                "positive Jacobians at all nodes and quadrature points",
                "Number the nodes counter-clockwise, or take smaller elements at curved sides",
            )

    def _check_area(self) -> None:
        area = self.weights.sum()
        if abs(area - 1) > AREA_ERROR:
            raise InvalidArgument(
                f"a mesh of area {area:.9g}", "area 1", "Scale the cell to periods of 1 and 1"
            )

    def _check_periodic(self) -> None:
        # an edge is known by its periodic corners and midside node; two elements meet there
        size, corners = self.periodic_nodes, self.glued[self.elements[:, : self.element.corners]]
        ends = np.sort(np.stack([corners, np.roll(corners, -1, 1)], -1), -1)
        middle = self.elements[:, self.element.corners :]
        key = (ends[..., 0] * size + ends[..., 1]) * size + self.glued[middle]
        _, edge, count = np.unique(key.ravel(), return_inverse=True, return_counts=True)
        lonely = middle.ravel()[count[edge.ravel()] != 2]
        if len(lonely):
            x, y = self.nodes[lonely[0]]
            raise InvalidArgument(
                f"a mesh that is not periodic: {len(lonely)} edges do not match one partner, the "
                f"first one at ({x:.4f}, {y:.4f})",
                f"every edge on the boundary repeated after a shift by 1, within {SAME_NODE:g}",
                "Copy the nodes of the left and lower edges to the right and upper ones",
            )
        if (np.diff(np.sort(corners, 1), axis=1) == 0).any():
            raise InvalidArgument(
                "a mesh with an element that is its own neighbour",
                "at least two elements along each period",
            )

    def _check_fractions(self) -> None:
        if self.fractions is None:
            return
        found = self.phase_fractions()
        if (
            len(found) != len(self.fractions)
            or np.abs(found - self.fractions).max() > FRACTION_ERROR
        ):
            raise InvalidArgument(
                f"a mesh with phase fractions {np.round(found, 5).tolist()}",
                f"{np.round(self.fractions, 5).tolist()}, within {FRACTION_ERROR:g}",
                "Take smaller elements",
            )
