"""Equilibrium neural operator (EquiNO): two fields of a cell that must agree, without labels.

From snapshots come modes of the fluctuation and of the stress; every combination of them is
periodic, or in equilibrium. Two branches map the macro strain to coefficients,

    e = ehat + sum_k b^u_k(ehat) Phi^e_k,     s = sum_k b^s_k(ehat) Phi^s_k,

and the loss is how far s is from the law at e, over free strains and a few quadrature points:

    energy      mean over strains of
                sum_q w_q [ p^2 / K + (2 d^2 + 2 rxy^2) / 2G ] / (ehat . C ehat + c h^2),
                r = s - sigma(e),  p = (rxx + ryy) / 2,  d = (rxx - ryy) / 2,  K and G of the phase,
                C the homogenised stiffness at rest, c its least eigenvalue, h a tenth of the box
    plain       mean over strains, points and components of r^2, as published

The plain loss is ruled by fibre and pressure; weighted by compliance, what is small counts too.
Divided by the energy of the strain, a state of shear counts as much as one of pressure, whose
energy is ten times larger: structures with free surfaces hardly change their volume.

Reference: Eivazi et al., arXiv 2504.07976. Departures, each of which can be switched off: the
energy norm (`module.norm=plain`), linear skip, odd part and anchoring at zero
(`network.linear=false network.odd=false network.anchor=false`), 24 modes instead of 16
(`network.modes=16`), strains spread towards zero and towards no change of volume
(`data.radial=false data.isochoric=false`), a few quadrature points (`data.points=null`).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sciml.data.batch import Batch
from sciml.data.strain_data import SnapshotData
from sciml.errors import InvalidArgument
from sciml.modules.cell_law_training import CellLaw
from sciml.networks.cells.equino_law import EquiNO
from sciml.optim.curvature.terms import LossTerm
from sciml.physics.solids import Composite, GalerkinSolver, empirical_cubature
from sciml.typed_arguments import typed

SMALL = 0.1  # of the box: strains below it weigh no more


@typed
class EquilibriumOperator(CellLaw):
    """Trains an `EquiNO` and, beside it, the branch of the displacement.

    Args:
        network: Takes the stress modes' means; this is what is exported.
        data: Snapshots, whose modes are taken.
        optimizer: As in `Supervised`.
        schedule: As in `Supervised`.
        norm: energy or plain, see the top of this file.

    Raises:
        InvalidArgument: For an unknown norm, or more modes than independent snapshots.

    Example:
        >>> import torch
        >>> from sciml.data import SnapshotData
        >>> from sciml.modules import EquilibriumOperator
        >>> from sciml.networks import EquiNO
        >>> from sciml.physics.solids import DiskCell
        >>> data = SnapshotData(cell=DiskCell(2), train=6, val=2, test=2, small=2, batch_size=4)
        >>> network = EquiNO(modes=4, width=8, depth=2)
        >>> module = EquilibriumOperator(network=network, data=data, optimizer=torch.optim.Adam)
        >>> [term.name for term in module.double().loss_terms(data.batch(0))]
        ['disagreement']
    """

    def __init__(
        self,
        *,
        network: EquiNO,
        data: SnapshotData,
        optimizer: Any,
        schedule: Any = None,
        norm: Literal["energy", "plain"] = "energy",
    ) -> None:
        super().__init__(network=network, data=data, optimizer=optimizer, schedule=schedule)
        if not isinstance(network, EquiNO):
            raise InvalidArgument(
                f"network={type(network).__name__} for module=equino",
                "the branch of the stress",
                "Type network=equino",
            )
        self.norm, self.floor = norm, SMALL * data.box
        snapshots, solver = data.sets["train"], data.solver
        basis = snapshots.basis(solver, network.modes)
        strain = torch.from_numpy(snapshots.strain)
        fluctuation = snapshots.local_strain - snapshots.strain[:, None, None]
        self.displacement = network.branch.twin()
        self.displacement.standardise(
            strain, torch.from_numpy(basis.strain_coefficients(fluctuation))
        )
        coefficients = basis.stress_coefficients(snapshots.local_stress)
        network.branch.standardise(strain, torch.from_numpy(coefficients))
        network.means = torch.from_numpy(basis.mean_stress)

        index, weights = (torch.from_numpy(v) for v in data.quadrature)
        flat = torch.from_numpy(basis.stress).flatten(1, 2)
        self._buffer("stress_modes", flat)
        self._buffer("nodal_modes", torch.from_numpy(basis.displacement))
        self._buffer("strain_at", torch.from_numpy(basis.strain).flatten(1, 2)[:, index])
        self._buffer("stress_at", flat[:, index])
        phase = torch.from_numpy(solver.mesh.phase).repeat_interleave(solver.mesh.weights.shape[1])
        self._reduced = solver.mesh, solver.materials, basis, snapshots.local_stress
        self.composite = Composite(solver.materials, phase[index])
        self._buffer("factor", self._factors(weights))
        stiffness = torch.from_numpy(solver.solve(np.zeros((1, 3))).tangent[0])
        self._buffer("stiffness", stiffness)
        self.least = float(torch.linalg.eigvalsh(stiffness)[0])

    def _factors(self, weights: Tensor) -> Tensor:
        """Return what multiplies (p, d, rxy) at a point of the energy norm, `(M, 3)`."""
        bulk, shear = self.composite.moduli()
        return torch.stack([1 / bulk, 2 / shear, 2 / shear], 1).sqrt() * weights.sqrt()[:, None]

    # --- the loss ---------------------------------------------------------------------------------
    def loss_terms(self, batch: Batch) -> list[LossTerm]:
        """Return the one term of the disagreement."""
        strain = batch.inputs["strain"]
        local = strain[:, None] + _combined(self.displacement(strain), self.strain_at)
        r = _combined(self.network.branch(strain), self.stress_at) - self.composite.stress(local)
        if self.norm == "plain":
            rows = r.flatten(1) / math.sqrt(r[0].numel())
        else:
            xx, yy, xy = r.unbind(-1)
            parts = torch.stack([(xx + yy) / 2, (xx - yy) / 2, xy], -1) * self.factor
            energy = ((strain @ self.stiffness) * strain).sum(1, keepdim=True)
            size = energy + self.least * self.floor**2
            rows = parts.flatten(1) / size.sqrt()
        return [LossTerm("disagreement", rows, 1.0, batch.count)]

    def trained(self) -> nn.Module:
        """Return both branches."""
        return nn.ModuleDict({"network": self.network, "displacement": self.displacement})

    # --- evaluation -------------------------------------------------------------------------------
    def local_fields(self, strain: Tensor) -> dict[str, Tensor]:
        """Return stress and fluctuation on the whole mesh."""
        return {
            "stress": _combined(self.network.branch(strain), self.stress_modes),
            "displacement": _combined(self.displacement(strain), self.nodal_modes),
        }

    def baseline(self, strain: Tensor) -> tuple[str, Tensor]:
        """Return POD-Galerkin in the same modes, on points by empirical cubature."""
        mesh, materials, basis, stress = self._reduced
        points = empirical_cubature(mesh, basis, stress)
        return "pod_galerkin", GalerkinSolver(mesh, materials, basis, points).solve(strain).stress

    def projected(self, stress: Tensor) -> Tensor:
        """Return the projection onto the modes in the inner product of the cell."""
        weighted = self.stress_modes * self.cell_weights[:, None]
        return _combined(stress.flatten(1) @ weighted.flatten(1).T, self.stress_modes)


def _combined(coefficients: Tensor, modes: Tensor) -> Tensor:
    """Return combinations `(n, points, c)` of modes `(r, points, c)`."""
    return (coefficients @ modes.flatten(1)).view(len(coefficients), *modes.shape[1:])
