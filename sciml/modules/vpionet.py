"""Variational operator network (VPIONet): periodic displacement of least energy, no labels.

    loss = mean over strains of  sum_q w_q psi(e_q) / (ehat . C ehat + c h^2),     e = ehat + B w,

psi the energy of the material at the point, C the homogenised stiffness at rest, c its least
eigenvalue, h a tenth of the box: a state of shear counts as much as one of pressure, whose energy
is ten times larger. The published code integrates s : e / 2 instead (`functional=published`), which
is the energy of linear phases only: its minimum is another displacement, 2 to 8 % away in the
homogenised stress where the matrix is nonlinear.

Reference: Eivazi et al., arXiv 2504.07976. Departures: the energy itself, and strains weighted so
that small ones count; both are left out by `functional=published`. Those of the network are told in
`sciml.networks.cells.vpionet_law`; its linear part is the cell at rest, solved once.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.data.batch import Batch
from sciml.data.strain_data import SnapshotData
from sciml.errors import InvalidArgument
from sciml.modules.cell_law_training import CellLaw
from sciml.networks.cells.vpionet_law import VPIONet
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.solids import Composite, RVEMesh, RVESolver
from sciml.typed_arguments import typed

SMALL = 0.1  # of the box: strains below it weigh no more
TINY = 1e-24  # energy under the root, whose derivative at zero energy is then finite


@typed
class VariationalOperator(CellLaw):
    """Trains a `VPIONet`.

    Args:
        network: Displacement at the nodes.
        data: Gives the cell; its snapshots are looked at in validation and test only.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        functional: energy or published, see the top of this file.

    Raises:
        InvalidArgument: For an unknown functional or another kind of network.

    Example:
        >>> import torch
        >>> from sciml.data import SnapshotData
        >>> from sciml.modules import VariationalOperator
        >>> from sciml.networks import VPIONet
        >>> from sciml.physics.solids import DiskCell
        >>> data = SnapshotData(cell=DiskCell(2), train=6, val=2, test=2, small=2, batch_size=4)
        >>> network = VPIONet(len(data.solver.mesh.nodes), modes=4, width=8, depth=2)
        >>> module = VariationalOperator(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.double().loss_terms(data.batch(0))]
        ['energy']
    """

    def __init__(
        self,
        *,
        network: VPIONet,
        data: SnapshotData,
        optimizer: Any,
        schedule: Any = None,
        functional: Literal["energy", "published"] = "energy",
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if not isinstance(network, VPIONet):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=vpionet",
                "a displacement by coordinates",
                "Type network=vpionet",
            )
        self.functional, self.floor = functional, SMALL * data.box
        mesh = data.solver.mesh
        stiffness = torch.from_numpy(data.solver.solve(np.zeros((1, 3))).tangent[0])
        self._buffer("stiffness", stiffness)
        self.least = float(torch.linalg.eigvalsh(stiffness)[0])
        skip = torch.from_numpy(at_rest(data.solver))
        network.place(torch.from_numpy(mesh.nodes), torch.from_numpy(indicator(mesh)), skip)
        phase = torch.from_numpy(mesh.phase).repeat_interleave(mesh.weights.shape[1])
        self.composite = Composite(data.solver.materials, phase)
        count, points, rows, columns = mesh.strain_operator.shape
        operator = mesh.strain_operator.reshape(count, points * rows, columns)
        self._buffer("strain_operator", torch.from_numpy(operator))
        self.held = int(np.flatnonzero(mesh.glued == 0)[0])  # where the solver has w = 0
        self._buffer("element_nodes", torch.from_numpy(mesh.elements))
        unit = torch.eye(3, dtype=torch.float64)[:, None].expand(3, len(phase), 3)
        moved = 0.0 if network.skip is None else self._strains(skip)
        self._buffer("linear_strain", unit + moved)

    def _strains(self, nodal: Tensor) -> Tensor:
        """Return the strains `(r, Q, 3)` of nodal fields `(r, N, 2)`."""
        local = self.strain_operator @ nodal[:, self.element_nodes].flatten(2)[..., None]
        return local.reshape(len(nodal), -1, 3)

    def modes(self) -> Tensor:
        """Return the strains of the trunk's modes `(r, Q, 3)`."""
        return self._strains(self.network.trunk())

    def local_strain(self, strain: Tensor) -> Tensor:
        """Return e `(n, Q, 3)`."""
        linear = torch.tensordot(strain, self.linear_strain, 1)
        return linear + torch.tensordot(self.network.branch(strain), self.modes(), 1)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the energy, as the square of its root."""
        strain = batch.inputs["strain"]
        local = self.local_strain(strain)
        if self.functional == "published":
            density = (self.composite.stress(local) * local).sum(-1) / 2
            size = torch.ones_like(strain[:, :1])
        else:
            density = self.composite.energy(local)
            energy = ((strain @ self.stiffness) * strain).sum(1, keepdim=True)
            size = energy + self.least * self.floor**2
        rows = (density.clamp_min(0) + TINY).sqrt() * self.cell_weights.sqrt()
        return [LossTerm("energy", rows / size.sqrt(), 1.0, batch.count)]

    def homogenised(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return stress `(n, 3)` and its derivative `(n, 3, 3)`."""
        value, slope = self.network.branch.with_tangent(strain)
        modes = self.modes()
        local = torch.tensordot(strain, self.linear_strain, 1) + torch.tensordot(value, modes, 1)
        answer = self.composite.response(local)
        stress = torch.einsum("q,nqi->ni", self.cell_weights, answer.stress)
        change = torch.einsum("nrj,rqi->nqij", slope, modes)
        change = change + self.linear_strain.permute(1, 2, 0)
        return stress, torch.einsum("q,nqik,nqkj->nij", self.cell_weights, answer.tangent, change)

    def local_fields(self, strain: Tensor) -> dict[str, Tensor]:
        """Return stress and fluctuation on the whole mesh."""
        w = self.network.fluctuation(strain)
        return {
            "stress": self.composite.stress(self.local_strain(strain)),
            "displacement": w - w[:, self.held][:, None],
        }


def at_rest(solver: RVESolver) -> np.ndarray:
    """Return the fluctuations `(3, N, 2)` of the linear cell at rest under unit strains."""
    slope = solver.at_rest[0]  # K^-1 L: minus the derivative of the unknowns
    return np.stack([solver.displacement(-part) for part in slope.T])


def indicator(mesh: RVEMesh) -> np.ndarray:
    """Return -1, 1 or 0 `(N,)` at nodes inside the matrix, inside a fibre, or between them."""
    sign = np.where(mesh.phase > 0, 1.0, -1.0)
    flat = mesh.glued[mesh.elements].ravel()
    size = mesh.periodic_nodes
    count = np.bincount(flat, minlength=size)
    mean = np.bincount(flat, np.repeat(sign, mesh.elements.shape[1]), size) / count
    return np.trunc(mean)[mesh.glued]
