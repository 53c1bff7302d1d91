"""What a macroscopic quadrature point asks of the microscale, and who answers.

    respond(strain (P, 3), state) -> stress (P, 3), tangent (P, 3, 3), new state, status (P,)

All P points of a structure are asked at once. The state holds what belongs to the points' history,
arrays by name with P as their first axis; a macro solver keeps it per converged step and hands the
same one to all iterations of the next step.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from sciml.arguments import flag, made, takes
from sciml.errors import InvalidArgument
from sciml.physics.solids.galerkin import GalerkinSolver
from sciml.physics.solids.materials import Material
from sciml.physics.solids.rve_solver import RVESolver
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator
from sciml.solvers.solution import Status
from sciml.typed_arguments import typed

State = Mapping[str, np.ndarray]
CHUNK = 64  # cells whose fields are in memory together
ROWS = 200  # strains that an operator sees at once: what is between its layers stays in the cache


class MicroResponse(NamedTuple):
    """Answers at P points.

    Attributes:
        stress: `(P, 3)`.
        tangent: `(P, 3, 3)`, the derivative of `stress` with respect to the strain.
        state: At the end of the step, arrays `(P, ...)` by name.
        status: `(P,)`, see `sciml.solvers.Status`.
        nearby: What the one who answered may want to know again when it is asked close by.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import EQUINO_MATRIX
        >>> from sciml.simulate import MaterialMicro
        >>> micro = MaterialMicro(EQUINO_MATRIX)
        >>> response = micro.respond(np.array([[0.02, 0.0, 0.0]]), micro.virgin(1))
        >>> response.stress.shape, response.tangent.shape, response.status.tolist()
        ((1, 3), (1, 3, 3), [0])
    """

    stress: np.ndarray
    tangent: np.ndarray
    state: State
    status: np.ndarray
    nearby: State = MappingProxyType({})


class Micro(Protocol):
    """Anything that answers macro strains.

    Attributes:
        box: Strains within [-box, box]^3 are those it was made for; infinite for physics.

    Example:
        >>> import numpy as np
        >>> from sciml.simulate import Micro, MicroResponse
        >>> class Linear:  # plane strain with one modulus for everything
        ...     box = float("inf")
        ...     def virgin(self, points):
        ...         return {}
        ...     def respond(self, strain, state, near=None):
        ...         tangent = np.broadcast_to(1000.0 * np.eye(3), (len(strain), 3, 3))
        ...         solved = np.zeros(len(strain), int)
        ...         return MicroResponse(1000.0 * strain, tangent, state, solved)
        >>> micro: Micro = Linear()
        >>> micro.respond(np.array([[0.01, 0.0, 0.0]]), {}).stress.tolist()
        [[10.0, 0.0, 0.0]]
    """

    box: float

    def virgin(self, points: int) -> State:
        """Return the state of points without a history."""

    def respond(
        self, strain: np.ndarray, state: State, near: MicroResponse | None = None
    ) -> MicroResponse:
        """Return the answers to strains `(P, 3)`.

        Args:
            strain: (exx, eyy, gxy) per point, engineering shear.
            state: At the end of the last converged step.
            near: An answer to a strain close by, where an iteration may start; it does not change
                the result.
        """


class OperatorMicro:
    """A trained law, for instance of `sciml.networks.cells.equino_law`.

    Args:
        model: Takes `strain`, gives `stress` and `tangent`.
        symmetric: Take the symmetric part of the tangent.

    Raises:
        InvalidArgument: For a model with other inputs or outputs.

    Example:
        >>> import numpy as np
        >>> import sciml
        >>> from sciml.simulate import OperatorMicro
        >>> micro = OperatorMicro(sciml.load_pretrained("equino_disk"))
        >>> micro.respond(np.array([[0.02, 0.0, 0.0]]), micro.virgin(1)).tangent.shape
        (1, 3, 3)
    """

    @takes(model=made("spec", "network", what="a loaded law"), symmetric=flag)
    def __init__(self, model: PretrainedOperator, *, symmetric: bool = False) -> None:
        spec = model.spec
        if list(spec["inputs"]) != ["strain"] or not {"stress", "tangent"} <= set(spec["outputs"]):
            raise InvalidArgument(
                f"the model {spec['name']}, which takes {', '.join(spec['inputs'])} and gives "
                f"{', '.join(spec['outputs'])}",
                "the law of a cell: strain in, stress and tangent out",
                "Train one with model=equino_disk",
            )
        self.network, self.symmetric = model.network.eval(), symmetric
        self.box = float(self.network.box)

    def virgin(self, points: int) -> State:
        """Return nothing: the law has no history."""
        return {}

    @torch.no_grad()
    def respond(
        self, strain: np.ndarray, state: State, near: MicroResponse | None = None
    ) -> MicroResponse:
        """Return the answers in one pass of the network, in chunks where there are many."""
        kind = next(self.network.parameters())
        given = torch.from_numpy(strain).to(kind.device, kind.dtype)
        parts = [
            self.network.stress_and_tangent(part, symmetric=self.symmetric)
            for part in given.split(ROWS)
        ]
        stress, tangent = (
            torch.cat(found).cpu().double().numpy() for found in zip(*parts, strict=True)
        )
        return MicroResponse(stress, tangent, {}, _finite(stress, tangent))


@typed
class CellMicro:
    """A finite-element cell at every point: full FE2.

    Args:
        solver: Of the cell.
        workers: Processes that solve cells.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import DiskCell
        >>> from sciml.simulate import CellMicro
        >>> micro = CellMicro(DiskCell(2).solver())
        >>> micro.respond(np.array([[0.02, 0.0, 0.0]]), micro.virgin(1)).status.tolist()
        [0]
    """

    def __init__(self, solver: RVESolver, *, workers: int = 1) -> None:
        self.solver, self.workers, self.box = solver, workers, np.inf

    def virgin(self, points: int) -> State:
        """Return no fluctuation and no history."""
        mesh = self.solver.mesh
        history = np.zeros((points, *mesh.weights.shape, self.solver.internal))
        return {"history": history, "fluctuation": np.zeros((points, *mesh.nodes.shape))}

    def respond(
        self, strain: np.ndarray, state: State, near: MicroResponse | None = None
    ) -> MicroResponse:
        """Return the answers; cells that fail from a start nearby are tried from zero.

        Cells start from the fluctuation nearby, moved along its derivative to the new strain.
        """
        known = near if near is not None and near.nearby else None
        start = (near.state if near is not None else state)["fluctuation"]
        parts = []
        for first in range(0, len(strain), CHUNK):
            rows = slice(first, first + CHUNK)
            asked, begin = (strain[rows], state["history"][rows]), start[rows]
            if known is not None:
                begin = begin + self._moved(known.nearby, strain, rows)
            found = self._solved(*asked, begin)
            again = ~found.converged
            if again.any():
                other = self._solved(*(part[again] for part in asked), 0 * begin[again])
                for name in ("stress", "tangent", "state", "displacement", "status", "slope"):
                    getattr(found, name)[again] = getattr(other, name)
            parts.append(
                (found.stress, found.tangent, found.state, found.displacement, found.status,
                 found.slope)
            )  # fmt: skip
        stress, tangent, history, fluctuation, status, slope = map(
            np.concatenate, zip(*parts, strict=True)
        )
        new = {"history": history, "fluctuation": fluctuation}
        nearby = {"strain": strain, "slope": slope}
        return MicroResponse(stress, tangent, new, status, nearby)

    def _moved(self, nearby: State, strain: np.ndarray, rows: slice) -> np.ndarray:
        """Return by how much fluctuations `(n, N, 2)` change with the strain, to first order."""
        change = strain[rows] - nearby["strain"][rows]
        moved = -np.einsum("pdi,pi->pd", nearby["slope"][rows], change)
        return np.stack([self.solver.displacement(np.nan_to_num(part)) for part in moved])

    def _solved(self, strain: np.ndarray, history: np.ndarray, start: np.ndarray) -> Any:
        return self.solver.solve(
            strain, state=history, start=start, workers=self.workers, on_failure="best"
        )


class GalerkinMicro:
    """A reduced model of a cell at every point.

    Args:
        solver: POD-Galerkin.
        box: Strains of its snapshots.
    """

    def __init__(self, solver: GalerkinSolver, box: float) -> None:
        self.solver, self.box = solver, box

    def virgin(self, points: int) -> State:
        """Return zero coefficients, where Newton starts."""
        return {"coefficients": np.zeros((points, len(self.solver.modes)))}

    def respond(
        self, strain: np.ndarray, state: State, near: MicroResponse | None = None
    ) -> MicroResponse:
        """Return the answers, all points in one Newton iteration."""
        start = (near.state if near is not None else state)["coefficients"]
        parts = [
            self.solver.solve(torch.from_numpy(strain[i : i + CHUNK]),
                              torch.from_numpy(start[i : i + CHUNK]))
            for i in range(0, len(strain), CHUNK)
        ]  # fmt: skip
        stress, tangent, b, status = (
            torch.cat([getattr(p, name) for p in parts]).numpy()
            for name in ("stress", "tangent", "coefficients", "status")
        )
        return MicroResponse(stress, tangent, {"coefficients": b}, status)


@typed
class MaterialMicro:
    """A material without a microscale.

    Args:
        material: Elastic or with a history.

    Example:
        >>> import numpy as np
        >>> from sciml.physics.solids import LinearElastic
        >>> from sciml.simulate import MaterialMicro
        >>> micro = MaterialMicro(LinearElastic.from_young(210e3, 0.3))
        >>> found = micro.respond(np.array([[0.001, 0.0, 0.0]]), micro.virgin(1))
        >>> found.stress.round().tolist()
        [[283.0, 121.0, 0.0]]
    """

    def __init__(self, material: Material) -> None:
        self.material, self.box = material, np.inf

    def virgin(self, points: int) -> State:
        """Return the virgin material."""
        return {"history": np.zeros((points, self.material.internal))}

    def respond(
        self, strain: np.ndarray, state: State, near: MicroResponse | None = None
    ) -> MicroResponse:
        """Return the answers of the law."""
        found = self.material.response(strain, state["history"])
        status = _finite(found.stress, found.tangent)
        return MicroResponse(found.stress, found.tangent, {"history": found.state}, status)


def _finite(stress: np.ndarray, tangent: np.ndarray) -> np.ndarray:
    """Return the status `(P,)` of answers that cannot fail but may be no numbers."""
    good = np.isfinite(stress).all(1) & np.isfinite(tangent).all((1, 2))
    return np.where(good, int(Status.CONVERGED), int(Status.NONFINITE))
