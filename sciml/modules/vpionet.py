"""Variational operator network (VPIONet): periodic displacement of least energy, no labels.

    loss = mean over strains of  sum_q w_q psi(e_q) / (|ehat|^2 + h^2),     e = ehat + B w,

psi the energy of the material at the point, h a tenth of the box. The published code integrates
s : e / 2 instead (`functional=published`), which is the energy of linear phases only: its minimum
is another displacement, 2 to 8 % away in the homogenised stress where the matrix is nonlinear.

Reference: Eivazi et al., arXiv 2504.07976. Departures: the energy itself, and strains weighted so
that small ones count; both are left out by `functional=published`.
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
from sciml.physics.solids import Composite, RVEMesh

SMALL = 0.1  # of the box: strains below it weigh no more
TINY = 1e-24  # energy under the root, whose derivative at zero energy is then finite


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
        if functional not in ("energy", "published"):
            raise InvalidArgument(f"module.functional={functional}", "energy or published")
        if not isinstance(network, VPIONet):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=vpionet",
                "a displacement by coordinates",
                "Type network=vpionet",
            )
        self.functional, self.floor = functional, SMALL * data.box
        mesh = data.solver.mesh
        network.place(torch.from_numpy(mesh.nodes), torch.from_numpy(indicator(mesh)))
        phase = torch.from_numpy(mesh.phase).repeat_interleave(mesh.weights.shape[1])
        self.composite = Composite(data.solver.materials, phase)
        count, points, rows, columns = mesh.strain_operator.shape
        operator = mesh.strain_operator.reshape(count, points * rows, columns)
        self._buffer("strain_operator", torch.from_numpy(operator))
        self.held = int(np.flatnonzero(mesh.glued == 0)[0])  # where the solver has w = 0
        self._buffer("element_nodes", torch.from_numpy(mesh.elements))

    def modes(self) -> Tensor:
        """Return the strains of the trunk's modes `(r, Q, 3)`."""
        nodal = self.network.trunk()[:, self.element_nodes]  # (r, E, k, 2)
        local = self.strain_operator @ nodal.flatten(2)[..., None]
        return local.reshape(len(nodal), -1, 3)

    def local_strain(self, strain: Tensor) -> Tensor:
        """Return e `(n, Q, 3)`."""
        return strain[:, None] + torch.tensordot(self.network.branch(strain), self.modes(), 1)

    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the energy, as the square of its root."""
        strain = batch.inputs["strain"]
        local = self.local_strain(strain)
        if self.functional == "published":
            density = (self.composite.stress(local) * local).sum(-1) / 2
            size = torch.ones_like(strain[:, :1])
        else:
            density = self.composite.energy(local)
            size = strain.square().sum(1, keepdim=True) + self.floor**2
        rows = (density.clamp_min(0) + TINY).sqrt() * self.cell_weights.sqrt()
        return [LossTerm("energy", rows / size.sqrt(), 1.0, batch.count)]

    def homogenised(self, strain: Tensor) -> tuple[Tensor, Tensor]:
        """Return stress `(n, 3)` and its derivative `(n, 3, 3)`."""
        value, slope = self.network.branch.with_tangent(strain)
        modes = self.modes()
        local = strain[:, None] + torch.tensordot(value, modes, 1)
        answer = self.composite.response(local)
        stress = torch.einsum("q,nqi->ni", self.cell_weights, answer.stress)
        change = torch.einsum("nrj,rqi->nqij", slope, modes)
        change = change + torch.eye(3, dtype=change.dtype, device=change.device)
        return stress, torch.einsum("q,nqik,nqkj->nij", self.cell_weights, answer.tangent, change)

    def local_fields(self, strain: Tensor) -> dict[str, Tensor]:
        """Return stress and fluctuation on the whole mesh."""
        w = self.network.fluctuation(strain)
        return {
            "stress": self.composite.stress(self.local_strain(strain)),
            "displacement": w - w[:, self.held][:, None],
        }


def indicator(mesh: RVEMesh) -> np.ndarray:
    """Return -1, 1 or 0 `(N,)` at nodes inside the matrix, inside a fibre, or between them."""
    sign = np.where(mesh.phase > 0, 1.0, -1.0)
    flat = mesh.glued[mesh.elements].ravel()
    size = mesh.periodic_nodes
    count = np.bincount(flat, minlength=size)
    mean = np.bincount(flat, np.repeat(sign, mesh.elements.shape[1]), size) / count
    return np.trunc(mean)[mesh.glued]
