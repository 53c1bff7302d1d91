"""What meshes of quadratic elements share: geometry at quadrature points and strains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sciml.physics.solids.elements import ELEMENTS, Element
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True, eq=False)
class QuadraticMesh:
    """E elements of k nodes, N nodes in all, Q quadrature points in each element.

    Args:
        nodes: `(N, 2)` coordinates.
        elements: `(E, k)` node numbers, counter-clockwise, corners first.

    Example:
        >>> from sciml.physics.solids import plate
        >>> mesh = plate().mesh
        >>> mesh.nodes.shape[1], mesh.elements.shape[1], mesh.strain(0 * mesh.nodes).shape[1:]
        (2, 8, (4, 3))
    """

    nodes: np.ndarray
    elements: np.ndarray

    @property
    def element(self) -> Element:
        """Return the reference element."""
        return ELEMENTS[self.elements.shape[1]]

    @cached_property
    def _geometry(self) -> tuple[np.ndarray, np.ndarray]:
        gradients = self.element.gradients(self.element.points)
        jacobian = gradients @ self.nodes[self.elements][:, None]  # (E, Q, axis, xy)
        return jacobian, np.linalg.solve(jacobian, np.broadcast_to(gradients, self._shape))

    @property
    def _shape(self) -> tuple[int, ...]:
        count, k = self.elements.shape
        return count, len(self.element.weights), 2, k

    @cached_property
    def weights(self) -> np.ndarray:
        """Return the area `(E, Q)` that each quadrature point stands for."""
        return np.linalg.det(self._geometry[0]) * self.element.weights

    @cached_property
    def points(self) -> np.ndarray:
        """Return the coordinates `(E, Q, 2)` of the quadrature points."""
        return self.element.shapes(self.element.points) @ self.nodes[self.elements]

    @cached_property
    def strain_operator(self) -> np.ndarray:
        """Return B `(E, Q, 3, 2k)`: (exx, eyy, gxy) from (ux, uy) of the nodes in turn."""
        slope = self._geometry[1]
        count, points, _, k = self._shape
        out = np.zeros((count, points, 3, 2 * k))
        out[:, :, 0, 0::2] = out[:, :, 2, 1::2] = slope[:, :, 0]
        out[:, :, 1, 1::2] = out[:, :, 2, 0::2] = slope[:, :, 1]
        return out

    def strain(self, displacement: np.ndarray) -> np.ndarray:
        """Return B u `(..., E, Q, 3)` for nodal displacements u `(..., N, 2)`."""
        count, points, _, k = self._shape
        local = displacement[..., self.elements, :]
        local = local.reshape(*local.shape[:-2], 2 * k, 1)
        flat = self.strain_operator.reshape(count, 3 * points, 2 * k) @ local
        return flat.reshape(*flat.shape[:-2], points, 3)
