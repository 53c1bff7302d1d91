"""Homogenised stress and tangent of a representative volume element (RVE) by finite elements.

The equations are those of `sciml.physics.solids.discrete_cell`, solved for every macro strain by
the Newton method of `sciml.physics.solids.rve_newton`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.checks import check_positive
from sciml.physics.solids.block_cells import check_count
from sciml.physics.solids.discrete_cell import DiscreteCell
from sciml.physics.solids.materials import Material
from sciml.physics.solids.processes import in_processes
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.physics.solids.rve_newton import solve_strain
from sciml.solvers.solution import Outcome, Policy, Status, check_policy, settle
from sciml.typed_arguments import typed


@dataclass(frozen=True)
class RVESolution:
    """Solved cell problems, one per macro strain; P strains, N nodes, E x Q quadrature points.

    Attributes:
        stress: `(P, 3)` homogenised stress.
        tangent: `(P, 3, 3)` its consistent derivative; NaN where it was not asked for.
        displacement: `(P, N, 2)` fluctuation w, without the affine part; the next start.
        local_strain: `(P, E, Q, 3)`.
        local_stress: `(P, E, Q, 3)`.
        state: `(P, E, Q, V)` internal variables at the end of the step; V = 0 for elastic phases.
        status: `(P,)` integers, see `sciml.solvers.Status`.
        iterations: `(P,)` Newton steps.
        residual: `(P,)` norm of the nodal forces out of balance.
        relative: `(P,)` the same over the norm of the forces that should balance.
        slope: `(P, dofs, 3)` K^-1 L, less the derivative of the unknowns with respect to the macro
            strain; NaN like `tangent`.

    Example:
        >>> from sciml.physics.solids import DiskCell
        >>> found = DiskCell(2).solver().solve([[0.02, 0.0, 0.0], [0.0, 0.0, 0.02]])
        >>> found.converged.tolist(), found.stress.shape, found.tangent.shape
        ([True, True], (2, 3), (2, 3, 3))
    """

    stress: np.ndarray
    tangent: np.ndarray
    displacement: np.ndarray
    local_strain: np.ndarray
    local_stress: np.ndarray
    state: np.ndarray
    status: np.ndarray
    iterations: np.ndarray
    residual: np.ndarray
    relative: np.ndarray
    slope: np.ndarray | None = None

    @property
    def converged(self) -> np.ndarray:
        """Return `(P,)` booleans."""
        return self.status == Status.CONVERGED


@typed
class RVESolver(DiscreteCell):
    """Solve cell problems on one mesh.

    Args:
        mesh: The cell.
        materials: One per phase of the mesh, in order; phase 0 is the matrix.
        rtol: Forces out of balance over forces that should balance, at which Newton stops.
        max_iter: Newton steps.

    Raises:
        InvalidArgument: If there is not one material per phase, or a number is out of range.

    Example:
        >>> from sciml.physics.solids import EQUINO_FIBRE, EQUINO_MATRIX, RVESolver, disk_cell
        >>> solver = RVESolver(disk_cell(8), (EQUINO_MATRIX, EQUINO_FIBRE))
        >>> solver.solve([[0.02, 0.0, 0.0]]).stress[0, :2].round(1).tolist()
        [144.0, 121.4]
    """

    def __init__(
        self,
        mesh: RVEMesh,
        materials: Sequence[Material],
        *,
        rtol: float = 1e-9,
        max_iter: int = 20,
    ) -> None:
        super().__init__(mesh, materials)
        self.rtol = check_positive("rtol", rtol)
        self.max_iter = check_count("max_iter", max_iter)

    def solve(
        self,
        strain: np.ndarray | Sequence,
        *,
        state: np.ndarray | None = None,
        start: np.ndarray | None = None,
        tangent: bool = True,
        workers: int = 1,
        on_failure: Policy = "raise",
    ) -> RVESolution:
        """Solve the cell problem of each macro strain, independently of the others.

        Args:
            strain: `(P, 3)` macro strains (exx, eyy, gxy) with engineering shear.
            state: `(P, E, Q, V)` internal variables before the step; None for a virgin cell.
            start: `(P, N, 2)` fluctuations to start from, as in `RVESolution.displacement`; None
                starts from zero.
            tangent: Whether to form Chat.
            workers: Processes; each uses one thread. Scripts need the usual
                `if __name__ == "__main__":` around what they run.
            on_failure: `raise`, `warn` or `best`; under `best` and `mask` `status` tells.

        Raises:
            InvalidArgument: If a shape is wrong or a strain is not finite.
            ConvergenceError: Under `raise`, if a strain was not solved.
        """
        check_policy(on_failure)
        strain = self._check_strain(strain)
        check_count("workers", workers)
        where = (len(strain), *self.mesh.weights.shape, self.internal)
        state = self._check_array("state", state, where)
        start = self._check_array("start", start, (len(strain), *self.mesh.nodes.shape))
        run = partial(solve_strain, self, rtol=self.rtol, max_iter=self.max_iter, tangent=tangent)
        given = list(zip(strain, state, start, strict=True))
        if workers == 1 or len(strain) < 2:
            cases = [run(*case) for case in given]
        else:
            cases = in_processes(run, given, workers)
        solution = RVESolution(*(np.stack(parts) for parts in zip(*cases, strict=True)))
        self._settle(strain, solution, on_failure)
        return solution

    def solve_path(
        self, strain: np.ndarray | Sequence, *, tangent: bool = True, on_failure: Policy = "raise"
    ) -> RVESolution:
        """Follow macro strains `(T, 3)` one after the other, with the internal variables carried.

        A step that fails under a policy other than `raise` ends the path: the solution then holds
        the steps up to it, the failed one last, and its predecessor can be continued.
        """
        check_policy(on_failure)
        strain = self._check_strain(strain)
        state = np.zeros((*self.mesh.weights.shape, self.internal))
        start = np.zeros(self.mesh.nodes.shape)
        run = partial(solve_strain, self, rtol=self.rtol, max_iter=self.max_iter, tangent=tangent)
        cases = []
        for step in strain:
            cases.append(run(step, state, start))
            if cases[-1][6] != Status.CONVERGED:
                break
            start, state = cases[-1][2], cases[-1][5]
        solution = RVESolution(*(np.stack(parts) for parts in zip(*cases, strict=True)))
        self._settle(strain, solution, on_failure)
        return solution

    def _check_strain(self, strain: np.ndarray | Sequence) -> np.ndarray:
        strain = _numbers("strain", strain)
        if strain.ndim != 2 or strain.shape[1] != 3 or not len(strain):
            raise InvalidArgument(
                f"strain of shape {strain.shape}",
                "(P, 3) with (exx, eyy, gxy) per row",
                "Type strain[None] for a single strain",
            )
        if not np.isfinite(strain).all():
            bad = int(np.flatnonzero(~np.isfinite(strain).all(1))[0])
            raise InvalidArgument(f"strain number {bad} = {strain[bad].tolist()}", "finite numbers")
        return strain

    def _check_array(self, name: str, value: np.ndarray | None, shape: tuple) -> np.ndarray:
        if value is None:
            return np.zeros(shape)
        value = _numbers(name, value)
        if value.shape != shape:
            raise InvalidArgument(f"{name} of shape {value.shape}", f"{shape}")
        return value

    def _settle(self, strain: np.ndarray, solution: RVESolution, policy: Policy) -> None:
        names = ("stress", "status", "iterations", "residual", "relative")
        outcome = Outcome(*(torch.from_numpy(getattr(solution, name)) for name in names))
        failed = np.flatnonzero(~solution.converged)
        first = ""
        if policy == "raise" and len(failed):  # a warning is the same text each time
            first = f", first at number {failed[0]} {strain[failed[0]].tolist()},"
        settle(
            outcome,
            policy,
            f"Newton's method for the cell problem{first}",
            f"forces out of balance below {self.rtol:g} of those that balance",
            lambda: (
                "Raise max_iter, take smaller steps of strain, or pass a nearby `start`; "
                "on_failure='warn' or 'best' returns what was reached"
            ),
        )


def _numbers(name: str, value: object) -> np.ndarray:
    """Return real numbers in float64; NumPy would drop imaginary parts and read text."""
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors with a graph
        found = np.empty((), dtype=object)
    if found.dtype.kind not in "fiu":
        raise InvalidType(
            f"{name} is a {type(value).__name__} of {found.dtype}", "an array of real numbers"
        )
    return found.astype(np.float64)
