"""POD-Galerkin on a reduced quadrature: the classical reduced model of a cell.

For a macro strain ehat the fluctuation is a combination of modes, e = ehat + Phi b, and

    R(b) = sum_q w_q Phi_q^T s(e_q) = 0,     K = sum_q w_q Phi_q^T c_q Phi_q,
    shat = sum_q w_q s_q,                    L = sum_q w_q Phi_q^T c_q,
    Chat = sum_q w_q c_q - L^T K^-1 L.

All strains are solved together by Newton's method with backtracking. The points and their positive
weights come from empirical cubature: non-negative least squares on the integrands of the snapshots.

Source: Hernandez, Caicedo and Ferrer, Comput. Methods Appl. Mech. Eng. 313, 2017 (empirical
cubature); Casenave et al., arXiv 1812.07228 (POD with reduced quadrature as a whole).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.solids.cell_pod import PODBasis
from sciml.physics.solids.composite import Composite
from sciml.physics.solids.materials import Material
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.solvers.solution import Status
from sciml.typed_arguments import typed

HALVINGS = 6
CUT = 1e-5  # singular values of integrands below this share of the largest are left out


class Quadrature(NamedTuple):
    """A few points of a cell.

    Attributes:
        index: `(M,)` numbers of points in the flattened `(E, Q)`, ascending.
        weights: `(M,)` positive.

    Example:
        >>> from sciml.physics.solids import DiskCell, Quadrature, every_point, random_points
        >>> mesh = DiskCell(2).mesh()
        >>> few = random_points(mesh, 5)
        >>> isinstance(few, Quadrature), len(few.index)
        (True, 5)
        >>> round(float(every_point(mesh).weights.sum()), 4)  # the area of the cell
        1.0
    """

    index: np.ndarray
    weights: np.ndarray


class ReducedSolution(NamedTuple):
    """Solutions of P strains.

    Attributes:
        stress: `(P, 3)`.
        tangent: `(P, 3, 3)`.
        coefficients: `(P, r)` of the modes.
        status: `(P,)`, see `sciml.solvers.Status`.
        iterations: Newton steps of the slowest strain.
    """

    stress: Tensor
    tangent: Tensor
    coefficients: Tensor
    status: Tensor
    iterations: int


@typed
def every_point(mesh: RVEMesh) -> Quadrature:
    """Return all points of a mesh with their weights.

    Example:
        >>> from sciml.physics.solids import square_cell
        >>> from sciml.physics.solids.galerkin import every_point
        >>> round(float(every_point(square_cell(2)).weights.sum()), 12)
        1.0
    """
    return Quadrature(np.arange(mesh.weights.size), mesh.weights.ravel())


@typed
def random_points(mesh: RVEMesh, count: int, seed: int = 0) -> Quadrature:
    """Return `count` points drawn with probabilities that are their weights, without repetition.

    Example:
        >>> from sciml.physics.solids import square_cell
        >>> from sciml.physics.solids.galerkin import random_points
        >>> len(random_points(square_cell(2), 5).weights)
        5
    """
    total = mesh.weights.size
    if not 1 <= count <= total:
        raise InvalidArgument(
            f"points={count}", f"a number from 1 to {total}, the points there are"
        )
    draw = np.random.default_rng(seed)
    index = draw.choice(total, count, replace=False, p=mesh.weights.ravel() / mesh.weights.sum())
    return Quadrature(np.sort(index), np.full(count, 1 / count))


@typed
def empirical_cubature(
    mesh: RVEMesh, basis: PODBasis, stress: np.ndarray, cut: float = CUT
) -> Quadrature:
    """Return points with positive weights that integrate what a reduced model integrates.

    Integrands are the work densities of stress snapshots on the strain modes, the stresses
    themselves and 1; their leading combinations are integrated in the sense of least squares.

    Args:
        mesh: The cell.
        basis: Strain modes.
        stress: `(S, E, Q, 3)` stress snapshots.
        cut: Share of the largest singular value below which combinations are left out.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import DiskCell, PODBasis, empirical_cubature
        >>> solver = DiskCell(2).solver()
        >>> found = solver.solve([[0.02, 0.0, 0.0], [0.0, 0.02, 0.0], [0.0, 0.0, 0.02]])
        >>> basis = PODBasis.from_solution(solver.mesh, found, rank=2)
        >>> few = empirical_cubature(solver.mesh, basis, found.local_stress)
        >>> len(few.index) < solver.mesh.weights.size / 4, bool((few.weights > 0).all())
        (True, True)
    """
    points = mesh.weights.size
    root = np.sqrt(mesh.weights.ravel())
    flat = stress.reshape(len(stress), points, 3)
    modes = basis.strain.reshape(len(basis.strain), points, 3)
    work = np.einsum("sqi,rqi->srq", flat, modes, optimize=True).reshape(-1, points)
    work = np.vstack([work, np.moveaxis(flat, 2, 1).reshape(-1, points) / np.abs(flat).mean()])
    gram = (work * root**2) @ work.T  # (rows, rows): fewer rows than points or not, it is small
    values, vectors = np.linalg.eigh(gram)
    kept = values > cut**2 * values[-1]
    combined = (vectors[:, kept] / np.sqrt(values[kept])).T @ work
    rows = np.vstack([combined, np.full((1, points), 1.0)])
    goal = rows @ mesh.weights.ravel()
    found, _ = nnls(rows, goal, maxiter=30 * points)
    index = np.flatnonzero(found > 0)
    return Quadrature(index, found[index])


@typed
class GalerkinSolver:
    """Solve cells in the span of strain modes.

    Args:
        mesh: The cell.
        materials: One per phase, elastic.
        basis: Modes.
        quadrature: Points and weights; all points if None.
        rtol: Norm of R over that of its terms at which Newton stops.
        max_iter: Newton steps.

    Example:
        >>> import torch
        >>> from sciml.physics.solids import DiskCell, GalerkinSolver, PODBasis
        >>> cell = DiskCell(2)
        >>> strains = [[0.02, 0.0, 0.0], [0.0, 0.02, 0.0], [0.0, 0.0, 0.02]]
        >>> basis = PODBasis.from_solution(cell.mesh(), cell.solver().solve(strains), rank=3)
        >>> solver = GalerkinSolver(cell.mesh(), cell.materials, basis)
        >>> tuple(solver.solve(torch.tensor([[0.02, 0.0, 0.0]]).double()).stress.shape)
        (1, 3)
    """

    def __init__(
        self,
        mesh: RVEMesh,
        materials: Sequence[Material],
        basis: PODBasis,
        quadrature: Quadrature | None = None,
        *,
        rtol: float = 1e-10,
        max_iter: int = 30,
    ) -> None:
        quadrature = every_point(mesh) if quadrature is None else quadrature
        points = basis.strain.reshape(len(basis.strain), -1, 3)[:, quadrature.index]
        phase = np.repeat(mesh.phase, mesh.weights.shape[1])[quadrature.index]
        self.modes = torch.from_numpy(np.ascontiguousarray(points))
        self.weights = torch.from_numpy(np.ascontiguousarray(quadrature.weights))
        self.composite = Composite(materials, torch.from_numpy(phase))
        self.rtol, self.max_iter = rtol, max_iter

    def strain(self, macro: Tensor, coefficients: Tensor) -> Tensor:
        """Return ehat + Phi b `(P, M, 3)`."""
        return macro[:, None] + torch.tensordot(coefficients, self.modes, 1)

    def solve(self, macro: Tensor, start: Tensor | None = None) -> ReducedSolution:
        """Return stresses and tangents of macro strains `(P, 3)`.

        Args:
            macro: `(P, 3)`, float64.
            start: `(P, r)` coefficients to start from; zeros without.
        """
        r = len(self.modes)
        b = macro.new_zeros(len(macro), r) if start is None else start.clone()
        flat = (self.modes * self.weights[:, None]).reshape(r, -1)
        residual, scale, answer = self._residual(macro, b, flat)
        for iteration in range(self.max_iter + 1):
            open_ = residual.norm(dim=1) > self.rtol * scale
            if iteration == self.max_iter or not bool(open_.any()):
                break
            matrix, _ = self._matrices(answer[1], flat)
            step = torch.linalg.solve(matrix, residual[..., None])[..., 0] * open_[:, None]
            size = torch.ones(len(macro), 1, dtype=b.dtype)
            for _ in range(HALVINGS + 1):
                new = self._residual(macro, b - size * step, flat)
                worse = open_ & ~(new[0].norm(dim=1) < residual.norm(dim=1))
                if not bool(worse.any()):
                    break
                size[worse] /= 2
            b = b - size * step
            residual, scale, answer = new
        stress, tangent = answer[:2]
        matrix, load = self._matrices(tangent, flat)
        mean = torch.einsum("q,pqij->pij", self.weights, tangent)
        chat = mean - load.mT @ torch.linalg.solve(matrix, load)
        done = residual.norm(dim=1) <= self.rtol * scale
        status = torch.where(done, int(Status.CONVERGED), int(Status.MAX_ITER))
        shat = torch.einsum("q,pqi->pi", self.weights, stress)
        return ReducedSolution(shat, chat, b, status, iteration)

    def _residual(self, macro: Tensor, b: Tensor, flat: Tensor) -> tuple:
        answer = self.composite.response(self.strain(macro, b))
        stress = answer.stress.reshape(len(macro), -1)
        # sums of absolute terms: what cancels in R, so that zero strain counts as solved
        scale = (stress.abs() @ flat.abs().T).norm(dim=1)
        return stress @ flat.T, scale, answer

    def _matrices(self, tangent: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return K `(P, r, r)` and L `(P, r, 3)`."""
        weighted = flat.view(len(flat), -1, 3)
        moved = torch.einsum("rqi,pqij->prqj", weighted, tangent)
        return torch.einsum("prqj,sqj->prs", moved, self.modes), moved.sum(2)
