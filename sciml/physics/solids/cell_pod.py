"""Reduced bases of solved cells: proper orthogonal decomposition (POD) with quadrature weights.

Every mode is a linear combination of snapshots. Fluctuations are periodic, and stresses satisfy
int B^T s = 0, both of which are linear: any combination of modes is periodic and in equilibrium, up
to the tolerance of the snapshots, whatever its coefficients.

Inner products are integrals over the cell. Displacements are decomposed by their strains, so that
a rigid part counts nothing and small elements do not weigh more than large ones.

Source: Eivazi et al., arXiv 2504.07976 (there without weights).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sciml.errors import InvalidArgument
from sciml.physics.solids.block_cells import check_count
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.physics.solids.rve_solver import RVESolution

ROUND_OFF = 1e-12  # singular values below this share of the largest one are noise


@dataclass(frozen=True)
class PODBasis:
    """Modes of fluctuation, of its strain and of stress; r modes each.

    Attributes:
        displacement: `(r, N, 2)` periodic fluctuations.
        strain: `(r, E, Q, 3)` their strains, orthonormal over the cell.
        stress: `(r, E, Q, 3)` self-equilibrated stresses, orthonormal over the cell.
        mean_stress: `(r, 3)` homogenised stress of each stress mode.
        strain_values: `(S,)` singular values of all S strain snapshots.
        stress_values: `(S,)` those of the stress snapshots.
        weights: `(E, Q)` quadrature weights.

    Example:
        >>> from sciml.physics.solids import DiskCell, PODBasis
        >>> solver = DiskCell(2).solver()
        >>> solution = solver.solve([[0.02, 0.0, 0.0], [0.0, 0.02, 0.0], [0.0, 0.0, 0.02]])
        >>> basis = PODBasis.from_solution(solver.mesh, solution, rank=2)
        >>> basis.strain.shape, basis.mean_stress.shape
        ((2, 28, 9, 3), (2, 3))
        >>> basis.stress_coefficients(solution.local_stress).shape
        (3, 2)
    """

    displacement: np.ndarray
    strain: np.ndarray
    stress: np.ndarray
    mean_stress: np.ndarray
    strain_values: np.ndarray
    stress_values: np.ndarray
    weights: np.ndarray

    @classmethod
    def from_solution(cls, mesh: RVEMesh, solution: RVESolution, rank: int = 16) -> PODBasis:
        """Return the `rank` leading modes of the converged strains of a solution.

        Raises:
            InvalidArgument: If a snapshot did not converge, or there are fewer independent ones
                than modes.
        """
        check_count("rank", rank)
        if not solution.converged.all():
            raise InvalidArgument(
                f"{int((~solution.converged).sum())} snapshots that did not converge",
                "snapshots in equilibrium: modes inherit it",
                "Leave them out",
            )
        fluctuation = mesh.strain(solution.displacement)
        strain, strain_values, mix = _decompose(fluctuation, mesh.weights, rank, "fluctuations")
        stress, stress_values, _ = _decompose(solution.local_stress, mesh.weights, rank, "stresses")
        return cls(
            displacement=np.tensordot(mix, solution.displacement, 1),
            strain=strain,
            stress=stress,
            mean_stress=np.einsum("eq,reqi->ri", mesh.weights, stress),
            strain_values=strain_values,
            stress_values=stress_values,
            weights=mesh.weights,
        )

    def strain_coefficients(self, strain: np.ndarray) -> np.ndarray:
        """Return coefficients `(P, r)` of the best fit to strain fluctuations `(P, E, Q, 3)`."""
        return np.einsum("eq,peqi,reqi->pr", self.weights, strain, self.strain, optimize=True)

    def stress_coefficients(self, stress: np.ndarray) -> np.ndarray:
        """Return the coefficients `(P, r)` of the best fit to stresses `(P, E, Q, 3)`."""
        return np.einsum("eq,peqi,reqi->pr", self.weights, stress, self.stress, optimize=True)


def _decompose(
    snapshots: np.ndarray, weights: np.ndarray, rank: int, what: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return modes `(r, E, Q, 3)`, all singular values and the `(r, S)` mixture of snapshots."""
    root = np.sqrt(weights)[..., None]
    flat = (snapshots * root).reshape(len(snapshots), -1)
    left, values, _ = np.linalg.svd(flat, full_matrices=False)
    usable = int((values > ROUND_OFF * values[0]).sum())
    if rank > usable:
        raise InvalidArgument(
            f"rank={rank} from {len(snapshots)} snapshots of which {usable} {what} are independent",
            f"at most {usable} modes",
            f"Type rank={usable} or solve more strains" if usable else "Solve other strains",
        )
    mix = left[:, :rank].T / values[:rank, None]
    return np.tensordot(mix, snapshots, 1), values, mix
