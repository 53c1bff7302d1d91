"""Finite elements on a representative volume element (RVE): homogenised stress and tangent.

For a macro strain ehat the displacement is u = D^T ehat + w with w periodic and one node held, and

    find w:   int (B dw)^T s(ehat + B w) dV = 0     for all periodic dw,
    shat = int s dV,    Chat = int c dV - L^T K^-1 L,    K = int B^T c B,   L = int B^T c,

over a cell of area 1. Newton's method with backtracking on the residual; the matrix is
assembled straight into the compressed pattern of the periodic unknowns and factorised by SuperLU in
its symmetric mode (K is symmetric positive definite for the materials of this room). Factors are
nearly all of the cost: they are kept while the residual still falls fast, and refined for the three
right-hand sides of Chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from scipy.sparse import csc_array
from scipy.sparse.linalg import SuperLU

from sciml.arguments import typed
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.checks import check_positive
from sciml.physics.solids.assembly import Assembly, factorised
from sciml.physics.solids.block_cells import check_count
from sciml.physics.solids.materials import Material
from sciml.physics.solids.processes import in_processes
from sciml.physics.solids.rve_mesh import RVEMesh
from sciml.solvers.solution import Outcome, Policy, Status, check_policy, settle

HALVINGS = 8  # of a Newton step before the residual counts as stalled
KEPT = 0.1  # factors are kept while a step lowers the residual to this share
REFINEMENTS = 8  # of X = K^-1 L with factors of a matrix close to K, before K is factorised
REFINED = 1e-9  # relative residual of X, whose square is the error of Chat


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
class RVESolver:
    """Solve cell problems on one mesh.

    Args:
        mesh: The cell.
        materials: One per phase of the mesh, in order; phase 0 is the matrix.
        rtol: Forces out of balance over forces that should balance, at which Newton stops.
        max_iter: Newton steps.

    Raises:
        InvalidArgument: If there is not one material per phase, or a number is out of range.

    Example:
        >>> solver = RVESolver(disk_cell(8), (EQUINO_MATRIX, EQUINO_FIBRE))
        >>> solver.solve([[0.02, 0.0, 0.0]]).stress[0, :2].round(1)
        array([144. , 121.4])
    """

    def __init__(
        self,
        mesh: RVEMesh,
        materials: Sequence[Material],
        *,
        rtol: float = 1e-9,
        max_iter: int = 20,
    ) -> None:
        phases = int(mesh.phase.max()) + 1
        if len(materials) != phases:
            raise InvalidArgument(
                f"{len(materials)} materials", f"one for each of the {phases} phases of the mesh"
            )
        self.mesh, self.materials = mesh, tuple(materials)
        self.rtol = check_positive("rtol", rtol)
        self.max_iter = check_count("max_iter", max_iter)
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
        run = partial(_solve_one, tangent=tangent)
        if workers == 1 or len(strain) < 2:
            cases = [run(self, *given) for given in zip(strain, state, start, strict=True)]
        else:
            cases = in_processes(
                partial(run, self), list(zip(strain, state, start, strict=True)), workers
            )
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
        cases = []
        for step in strain:
            cases.append(_solve_one(self, step, state, start, tangent=tangent))
            if cases[-1][6] != Status.CONVERGED:
                break
            start, state = cases[-1][2], cases[-1][5]
        solution = RVESolution(*(np.stack(parts) for parts in zip(*cases, strict=True)))
        self._settle(strain, solution, on_failure)
        return solution

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


def _solve_one(
    solver: RVESolver, strain: np.ndarray, state: np.ndarray, start: np.ndarray, *, tangent: bool
) -> tuple:
    """Return the parts of an `RVESolution` for one strain."""
    w, factor = solver.unknowns(start), None
    if not w.any():
        slope, factor = solver.at_rest
        w = -slope @ strain
    fresh = False  # whether the factors are those at w
    fields, force, norm, scale = _evaluate(solver, strain, w, state)
    status, iterations = Status.RUNNING, 0
    with np.errstate(invalid="ignore", over="ignore"):  # ends as NONFINITE
        while status == Status.RUNNING:
            if not np.isfinite(norm):
                status = Status.NONFINITE
            elif norm <= solver.rtol * scale:
                status = Status.CONVERGED
            elif iterations == solver.max_iter:
                status = Status.MAX_ITER
            else:
                iterations += 1
                found = None
                if factor is not None and not fresh:
                    trial = w - factor.solve(force)
                    new = _evaluate(solver, strain, trial, state)
                    found = (trial, new) if new[2] < KEPT * norm else None
                if found is None:
                    factor, fresh = factorised(solver.stiffness(fields[2])), True
                    if factor is None:
                        status = Status.SINGULAR
                        continue
                    step = factor.solve(force)
                    for halving in range(HALVINGS + 1):
                        trial = w - step / 2**halving
                        new = _evaluate(solver, strain, trial, state)
                        if new[2] < norm:
                            found = trial, new
                            break
                if found is None:
                    status = Status.STALLED
                    continue
                w, (fields, force, norm, scale) = found
                fresh = False
    local, stress, moduli, new_state = fields
    macro, slope = np.full((3, 3), np.nan), np.full((len(w), 3), np.nan)
    if tangent and status == Status.CONVERGED:
        condensed = _condensed(solver, moduli, factor)
        if condensed is None:
            status = Status.SINGULAR
        else:
            macro, slope = condensed
    relative = norm / scale if scale > 0 else norm
    return (
        np.einsum("eq,eqi->i", solver.mesh.weights, stress),
        macro,
        solver.displacement(w),
        local,
        stress,
        new_state,
        np.int64(status),
        np.int64(iterations),
        np.float64(norm),
        np.float64(relative),
        slope,
    )


def _condensed(
    solver: RVESolver, moduli: np.ndarray, factor: SuperLU | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return Chat and X = K^-1 L `(dofs, 3)`, None if K is singular.

    Factors of a matrix close to K are refined; from an X that is off by d the form
    int c - 2 L^T X + X^T K X is off by d^T K d only.
    """
    matrix, load = solver.stiffness(moduli), solver.loads(moduli)
    size = np.linalg.norm(load)
    x = np.zeros_like(load)
    for _ in range(REFINEMENTS if factor is not None else 0):
        x = x + factor.solve(load - matrix @ x)
        if np.linalg.norm(load - matrix @ x) <= REFINED * size:
            break
    else:
        factor = factorised(matrix)
        if factor is None:
            return None
        x = factor.solve(load)
    mean = np.einsum("eq,eqij->ij", solver.mesh.weights, moduli)
    cross = load.T @ x
    return mean - cross - cross.T + x.T @ (matrix @ x), x


def _evaluate(solver: RVESolver, strain: np.ndarray, w: np.ndarray, state: np.ndarray) -> tuple:
    """Return (strain, stress, tangent, state), forces, their norm and the norm they balance."""
    local = solver.local_strain(strain, w)
    stress, moduli, new_state = solver.response(local, state)
    force, scale = solver.balance(stress)
    return (local, stress, moduli, new_state), force, float(np.linalg.norm(force)), scale


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
