"""The macroscale of FE2: load steps and Newton's method around one micro call per iteration.

At load lambda, with R(u) = int B^T shat(B u) dV - lambda f on the free unknowns and u prescribed on
the held ones,

    K du = -R,    K = int B^T Chat B dV,    until  |R_free| <= rtol max(|R_held|, |lambda f|),

or rtol times |R_held| before the step, if that is more: an unloading may end where all vanish.
The first iteration of a step starts from the tangent of the last converged one and applies the new
prescribed displacements; since Chat is the derivative of shat, the iterations that follow converge
quadratically. Close to the end the factors of an iteration before are refined as far as that takes.
A step that fails, because of a cell or of Newton's method, is tried again at half its size a few
times; the state of the last converged step is what is kept, and can be continued.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable

import numpy as np

from sciml.errors import InvalidArgument, NumericalWarning, RangeWarning
from sciml.physics.checks import check_number, check_positive
from sciml.physics.solids.assembly import Assembly, factorised, refined
from sciml.physics.solids.block_cells import check_count
from sciml.physics.solids.structures import Structure
from sciml.simulate.macro_results import Failure, MacroSolution, MacroState, Step
from sciml.simulate.micro import Micro, MicroResponse
from sciml.solvers.solution import Status
from sciml.typed_arguments import typed

END = 1e-9  # loads closer than this are the same
NEAR = 0.02  # residual below which the tangent hardly changes, so that factors are kept


@typed
class MacroSolver:
    """Solve a structure with a microscale.

    Args:
        structure: Mesh and boundary conditions.
        micro: Answers macro strains.
        steps: Load steps.
        rtol: Forces out of balance over reactions, at which Newton stops.
        max_iter: Newton steps per load step.
        cuts: How often in a row a step that fails is halved.
        say: Takes a line per step.

    Example:
        >>> from sciml.physics.solids import EQUINO_MATRIX, plate
        >>> from sciml.simulate import MacroSolver, MaterialMicro
        >>> solver = MacroSolver(plate(), MaterialMicro(EQUINO_MATRIX))  # or an OperatorMicro
        >>> solver.solve().steps[-1].iterations
        4
    """

    def __init__(
        self,
        structure: Structure,
        micro: Micro,
        *,
        steps: int = 1,
        rtol: float = 1e-8,
        max_iter: int = 12,
        cuts: int = 3,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.structure, self.micro = structure, micro
        self.steps, self.max_iter = check_count("steps", steps), check_count("max_iter", max_iter)
        self.cuts = check_count("cuts", cuts, 0)
        self.rtol = check_positive("rtol", rtol)
        self.say = say or (lambda line: None)
        mesh = structure.mesh
        size = mesh.nodes.size
        self._free = np.setdiff1d(np.arange(size), structure.held)
        number = np.full(size, len(self._free))
        number[self._free] = np.arange(len(self._free))
        dofs = 2 * mesh.elements[..., None] + np.arange(2)
        self._dofs = dofs.reshape(len(dofs), -1)
        self._assembly = Assembly(number[self._dofs], len(self._free))
        count, points, rows, columns = mesh.strain_operator.shape
        self.points = count * points
        self._strains = mesh.strain_operator.reshape(count, points * rows, columns)
        weighted = mesh.strain_operator * mesh.weights[..., None, None]
        self._forces = np.ascontiguousarray(
            weighted.reshape(count, points * rows, columns).transpose(0, 2, 1)
        )

    # --- pieces -----------------------------------------------------------------------------------
    def strain(self, displacement: np.ndarray) -> np.ndarray:
        """Return macro strains `(P, 3)` of displacements `(2N,)`."""
        return (self._strains @ displacement[self._dofs][..., None]).reshape(-1, 3)

    def internal(self, stress: np.ndarray) -> np.ndarray:
        """Return nodal forces `(2N,)` of stresses `(P, 3)`."""
        local = self._forces @ stress.reshape(len(self._dofs), -1, 1)
        size = self.structure.mesh.nodes.size
        return np.bincount(self._dofs.ravel(), local.ravel(), minlength=size)

    def stiffness(self, tangent: np.ndarray) -> np.ndarray:
        """Return element matrices `(E, 16, 16)` of tangents `(P, 3, 3)`."""
        shape = self.structure.mesh.strain_operator.shape
        moved = tangent.reshape(*shape[:2], 3, 3) @ self.structure.mesh.strain_operator
        return self._forces @ moved.reshape(shape[0], -1, shape[3])

    def start(self) -> MacroState:
        """Return the state without load."""
        micro = self.micro.virgin(self.points)
        strain = np.zeros((self.points, 3))
        found = self.micro.respond(strain, micro)
        if (found.status != Status.CONVERGED).any():
            raise InvalidArgument(
                "a microscale that does not answer zero strain", "a stress and a tangent there"
            )
        nothing = np.zeros_like(self.structure.mesh.nodes)
        return MacroState(0.0, nothing, strain, found.stress, found.tangent, micro)

    # --- the solve --------------------------------------------------------------------------------
    def solve(
        self,
        state: MacroState | None = None,
        *,
        target: float = 1.0,
        after_step: Callable[[MacroState], None] | None = None,
    ) -> MacroSolution:
        """Go on from a state to the full load, or to a share of it.

        Args:
            state: Where to start; without load if None.
            target: Share of the full load at which to end. Below the load of `state` it unloads;
                what a law with a history has learned on the way is kept.
            after_step: Called with every converged state, to keep it.

        Raises:
            InvalidArgument: If the state is of another structure.
        """
        began = time.perf_counter()
        target = check_number("target", target)
        solution = MacroSolution(self.start() if state is None else self._checked(state))
        size, cut = 1 / self.steps, 0
        while abs(left := target - solution.state.load) > END:
            load = solution.state.load + math.copysign(size, left)
            if abs(left) < size + END:
                load = target
            found = self._step(solution, load, len(solution.steps) + 1)
            if isinstance(found, Failure):
                solution.failures.append(found)
                self.say(f"{found}")
                if cut == self.cuts:
                    break
                size, cut = size / 2, cut + 1
                continue
            solution.state, step = found
            solution.steps.append(step)
            cut = 0
            self._tell(step, len(solution.steps))
            if after_step is not None:
                after_step(solution.state)
        solution.complete = abs(target - solution.state.load) <= END
        solution.seconds["all"] = time.perf_counter() - began
        if not solution.complete:
            warnings.warn(
                f"{solution.failures[-1]}. The state at load {solution.state.load:.4g} is kept; "
                "go on from it with more steps.",
                NumericalWarning,
                stacklevel=2,
            )
        return solution

    def _checked(self, state: MacroState) -> MacroState:
        nodes = self.structure.mesh.nodes.shape
        virgin = self.micro.virgin(1)
        fits = state.displacement.shape == nodes and len(state.strain) == self.points
        fits &= set(state.micro) == set(virgin)
        fits = fits and all(
            state.micro[name].shape == (self.points, *value.shape[1:])
            for name, value in virgin.items()
        )
        if not fits:
            raise InvalidArgument(
                f"a state of {len(state.displacement)} nodes and {len(state.strain)} points",
                f"one of this structure and microscale: {nodes[0]} nodes, {self.points} points",
            )
        return state

    def _step(
        self, solution: MacroSolution, load: float, number: int
    ) -> tuple[MacroState, Step] | Failure:
        state, held, free = solution.state, self.structure.held, self._free
        outer = load * self.structure.forces
        u = state.displacement.ravel().copy()
        change = np.zeros_like(u)
        change[held] = load * self.structure.values - u[held]
        # the tangent of the last step carries the prescribed displacements inwards
        answer = MicroResponse(state.stress, state.tangent, state.micro, np.zeros(0))
        pushed = np.einsum("pij,pj->pi", answer.tangent, self.strain(change))
        force = self.internal(answer.stress + pushed) - outer
        residuals: list[float] = []
        factor = None
        before = float(np.linalg.norm(self.internal(state.stress)[held]))
        for iteration in range(1, self.max_iter + 1):
            matrix = self._assembly.matrix(self.stiffness(answer.tangent))
            found = None
            if factor is not None and residuals[-1] <= NEAR:
                accuracy = 0.01 * max(residuals[-1], self.rtol / residuals[-1])
                found = refined(factor, matrix, force[free], accuracy)
            if found is None:
                factor = factorised(matrix)
                if factor is None:
                    return Failure(number, load, iteration, "the stiffness is singular")
                found = factor.solve(force[free])
            change[free] = -found
            u += change
            change[held] = 0.0
            strain = self.strain(u)
            began = time.perf_counter()
            with np.errstate(over="ignore", invalid="ignore"):
                near = answer if residuals else None
                answer = self.micro.respond(strain, state.micro, near)
            solution.seconds["micro"] += time.perf_counter() - began
            solution.calls += 1
            bad = np.flatnonzero(answer.status != Status.CONVERGED)
            if len(bad):
                return self._micro_failure(number, load, iteration, strain, answer, bad)
            force = self.internal(answer.stress) - outer
            scale = max(np.linalg.norm(force[held]), np.linalg.norm(outer), before)
            out = float(np.linalg.norm(force[free]))
            residuals.append(float(out / scale) if scale > 0 else out)
            if not np.isfinite(out):
                return Failure(number, load, iteration, "forces are not finite")
            if out <= self.rtol * scale:
                outside = (np.abs(strain) > self.micro.box).any(1)
                moved = held[self.structure.values != 0]
                shown = force if len(moved) else -outer
                pairs = shown[moved] if len(moved) else shown
                axis = moved % 2 if len(moved) else np.arange(len(shown)) % 2
                reaction = tuple(float(pairs[axis == i].sum()) for i in range(2))
                step = Step(
                    load,
                    tuple(residuals),
                    int(outside.sum()),
                    float(np.abs(strain).max()),
                    self._place(int(np.abs(strain).max(1).argmax())),
                    reaction,
                )
                u = u.reshape(-1, 2)
                return MacroState(load, u, strain, *answer[:3]), step
        return Failure(
            number,
            load,
            self.max_iter,
            f"Newton's method ended at a residual of {residuals[-1]:.2e}, above {self.rtol:g}",
        )

    def _place(self, number: int) -> tuple[int, int]:
        """Return element and point in it of a quadrature point."""
        return divmod(number, len(self.structure.mesh.element.weights))

    def _micro_failure(
        self,
        number: int,
        load: float,
        iteration: int,
        strain: np.ndarray,
        answer: MicroResponse,
        bad: np.ndarray,
    ) -> Failure:
        element, point = self._place(int(bad[0]))
        status = Status(int(answer.status[bad[0]])).name.lower().replace("_", " ")
        more = f", and at {len(bad) - 1} other points" if len(bad) > 1 else ""
        return Failure(
            number,
            load,
            iteration,
            f"the microscale did not answer ({status}){more}",
            element,
            point,
            tuple(float(v) for v in strain[bad[0]]),
        )

    def _tell(self, step: Step, number: int) -> None:
        shown = " ".join(f"{r:.1e}" for r in step.residuals)
        self.say(
            f"step {number}: load {step.load:.4g}, {step.iterations} iterations, residuals "
            f"{shown}, largest strain {step.largest:.4f}"
        )
        if step.outside:
            warnings.warn(
                f"step {number}: the strain at {step.outside} of {self.points} points lies outside "
                f"the training box of +-{self.micro.box:g}, up to {step.largest:.4g} in element "
                f"{step.where[0]}, point {step.where[1]}: the law is extrapolated there.",
                RangeWarning,
                stacklevel=4,
            )
