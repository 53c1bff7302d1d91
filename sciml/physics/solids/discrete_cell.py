"""The finite-element equations of a periodic cell: forces, stiffness and loads, assembled.

For a macro strain ehat the displacement is u = D^T ehat + w with w periodic and one node held, and

    find w:   int (B dw)^T s(ehat + B w) dV = 0     for all periodic dw,
    shat = int s dV,    Chat = int c dV - L^T K^-1 L,    K = int B^T c B,   L = int B^T c,

over a cell of area 1. Matrices are assembled straight into the compressed pattern of the periodic
unknowns and factorised by SuperLU in its symmetric mode (K is symmetric positive definite for the
materials of this room).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse import csc_array
from scipy.sparse.linalg import SuperLU

from sciml.errors import InvalidArgument
from sciml.physics.solids.assembly import Assembly, factorised
from sciml.physics.solids.materials import Material
from sciml.physics.solids.rve_mesh import RVEMesh


class DiscreteCell:
    """A mesh with its materials, and the vectors and matrices of the cell problem.

    Args:
        mesh: The cell.
        materials: One per phase of the mesh, in order; phase 0 is the matrix.

    Raises:
        InvalidArgument: If there is not one material per phase.
    """

    def __init__(self, mesh: RVEMesh, materials: Sequence[Material]) -> None:
        phases = int(mesh.phase.max()) + 1
        if len(materials) != phases:
            raise InvalidArgument(
                f"{len(materials)} materials", f"one for each of the {phases} phases of the mesh"
            )
        self.mesh, self.materials = mesh, tuple(materials)
        self.internal = max(material.internal for material in materials)
        bounds = np.searchsorted(mesh.phase, np.arange(phases + 1))
        self._slices = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        count, points, rows, columns = mesh.strain_operator.shape
        # (E, 3Q, 2k): one matrix product per element takes all its points
        self._strains = mesh.strain_operator.reshape(count, points * rows, columns)
        self._forces = np.ascontiguousarray(self._strains.transpose(0, 2, 1))
        self._build_pattern()

    def _build_pattern(self) -> None:
        """Number the unknowns and find where each entry of an element matrix goes."""
        glued, size = self.mesh.glued, self.mesh.dofs
        periodic = glued[self.mesh.elements]  # node 0 of the periodic field is held
        dofs = 2 * periodic[..., None] - 2 + np.arange(2)
        dofs = dofs.reshape(len(dofs), -1)
        self._dofs = np.where(dofs < 0, size, dofs)
        self._assembly = Assembly(self._dofs, size)

    def response(
        self, strain: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return local stress, tangent `(E, Q, 3, 3)` and state for local strains `(E, Q, 3)`."""
        stress, new = np.empty_like(strain), np.zeros_like(state)
        tangent = np.empty((*strain.shape, 3))
        for material, part in zip(self.materials, self._slices, strict=True):
            own = np.ascontiguousarray(state[part, :, : material.internal])
            answer = material.response(strain[part], own)
            stress[part], tangent[part] = answer.stress, answer.tangent
            new[part, :, : material.internal] = answer.state
        return stress, tangent, new

    def balance(self, stress: np.ndarray) -> tuple[np.ndarray, float]:
        """Return nodal forces `(dofs,)` of a local stress `(E, Q, 3)`, and the norm they balance.

        The norm is that of the sums of absolute element forces: what meets at the nodes, without
        the signs by which it cancels.
        """
        weighted = (stress * self.mesh.weights[..., None]).reshape(len(stress), -1, 1)
        parts = (self._forces @ weighted).ravel()
        add = self._assembly.vector
        return add(parts), float(np.linalg.norm(add(np.abs(parts))))

    def stiffness(self, tangent: np.ndarray) -> csc_array:
        """Return K `(dofs, dofs)` for local tangents `(E, Q, 3, 3)`."""
        count, points = self.mesh.weights.shape
        weighted = tangent * self.mesh.weights[..., None, None]
        moved = weighted @ self.mesh.strain_operator
        return self._assembly.matrix(self._forces @ moved.reshape(count, 3 * points, -1))

    def loads(self, tangent: np.ndarray) -> np.ndarray:
        """Return L `(dofs, 3)` for local tangents `(E, Q, 3, 3)`."""
        weighted = tangent * self.mesh.weights[..., None, None]
        sides = self._forces @ weighted.reshape(len(weighted), -1, 3)
        return np.stack([self._assembly.vector(side) for side in np.moveaxis(sides, 2, 0)], 1)

    @cached_property
    def at_rest(self) -> tuple[np.ndarray, SuperLU | None]:
        """Return X = K^-1 L `(dofs, 3)` of the unstrained virgin cell, and the factors of K.

        Cells without a start begin at -X ehat; X is zero where K is singular.
        """
        shape = self.mesh.weights.shape
        moduli = self.response(np.zeros((*shape, 3)), np.zeros((*shape, self.internal)))[1]
        factor, load = factorised(self.stiffness(moduli)), self.loads(moduli)
        return (0 * load, None) if factor is None else (factor.solve(load), factor)

    def __getstate__(self) -> dict:
        """Return what processes get: factors stay where they were made."""
        return {name: value for name, value in vars(self).items() if name != "at_rest"}

    def local_strain(self, strain: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Return ehat + B w `(E, Q, 3)` for unknowns w `(dofs,)`."""
        nodal = np.append(w, 0.0)[self._dofs][..., None]
        return (self._strains @ nodal).reshape(*self.mesh.weights.shape, 3) + strain

    def unknowns(self, displacement: np.ndarray) -> np.ndarray:
        """Return w `(dofs,)` of a periodic fluctuation `(N, 2)`; the held node moves to zero."""
        out = np.zeros((self.mesh.periodic_nodes, 2))
        out[self.mesh.glued] = displacement
        return (out - out[0])[1:].ravel()

    def displacement(self, w: np.ndarray) -> np.ndarray:
        """Return the fluctuation `(N, 2)` at the nodes for unknowns w `(dofs,)`."""
        return np.concatenate([np.zeros(2), w]).reshape(-1, 2)[self.mesh.glued]
