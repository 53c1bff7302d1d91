"""Trained laws of cells: the cell behind them, and how wrong they are without a reference.

The stress of an `EquiNO` is in equilibrium whatever its branch says; with any compatible strain e
of the same macro strain, the Fenchel residual

    eta = int psi(e) + psi*(s) dV - shat . ehat

bounds the error of the homogenised stress in the norm of the small-strain compliance,

    |shat - exact|_C0^-1 <= sqrt(2 eta),

see `sciml.physics.solids.composite`. The compatible strain is the one of least energy in the strain
modes (POD-Galerkin on all points). Modes are made anew from the recipe in the card: they are known
up to their signs, which the recorded means tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.cells.equino_law import EquiNO
from sciml.physics.solids.cell_snapshots import RTOL, snapshots
from sciml.physics.solids.cells import PeriodicCell
from sciml.physics.solids.galerkin import GalerkinSolver
from sciml.pretrained.classes import class_table, described_objects
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator

ALIKE = 1e-3  # relative distance of means of modes that are made anew
CHUNK = 16  # strains whose fields are in memory together


@dataclass(frozen=True)
class LawVerification:
    """Bounds at P strains.

    Attributes:
        strain: `(P, 3)`.
        bound: `(P,)` bound of the error of the homogenised stress; infinite where the stress
            somewhere is larger than the matrix bears at any strain.
        size: `(P,)` the homogenised stress in the same norm, that of the compliance C0^-1.
        cell: The cell.
    """

    strain: np.ndarray
    bound: np.ndarray
    size: np.ndarray
    cell: PeriodicCell

    @property
    def bounded(self) -> np.ndarray:
        """Return at which strains there is a bound `(P,)`."""
        return np.isfinite(self.bound)

    @property
    def pooled(self) -> float:
        """Return the bound of the relative error over all strains that have one."""
        kept = self.bounded
        size = np.linalg.norm(self.size[kept])
        return float(np.linalg.norm(self.bound[kept]) / size) if kept.any() else np.inf

    def within(self, tolerance: float) -> bool:
        """Return whether the error is known to be within a tolerance, at all strains together."""
        return bool(self.bounded.all()) and self.pooled <= tolerance

    @property
    def relative(self) -> np.ndarray:
        """Return the bound of the relative error at every strain `(P,)`."""
        return self.bound / self.size


def is_law(model: object) -> bool:
    """Return whether a model is the law of a cell that `verify_law` can judge."""
    return isinstance(getattr(model, "network", None), EquiNO)


def recorded_cell(spec: Mapping) -> PeriodicCell:
    """Return the cell that a model's card names in its recipe.

    Raises:
        InvalidArgument: If it names none.
    """
    recipe = spec["data"].get("recipe") or {}
    node = recipe.get("cell") if isinstance(recipe, dict) else None
    target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
    name = class_table.name_of("cell", target)
    if name is None:
        raise InvalidArgument(
            f"the model {spec['name']}, whose card names no cell",
            "an operator trained on snapshots of a cell, named in its card under data.recipe.cell",
            "Train one with model=equino_disk",
        )
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return described_objects.build("cell", {"class": name, "arguments": arguments})


def verify_law(
    model: PretrainedOperator, strain: np.ndarray, *, workers: int = 1
) -> LawVerification:
    """Return bounds of the error of a law at macro strains `(P, 3)`; no reference is solved there.

    The snapshots of the recipe are solved first, by `workers` processes.

    Raises:
        InvalidArgument: For a model that is no law of a cell, or whose modes are others than those
            of the recipe.
    """
    network, spec = model.network, model.spec
    if not isinstance(network, EquiNO):
        raise InvalidArgument(f"a {type(network).__name__}", "the law of a cell, an EquiNO")
    cell, recipe = recorded_cell(spec), spec["data"]["recipe"]
    solver = cell.solver(rtol=RTOL)
    counts = {"train": recipe["train"]}
    known = snapshots(
        cell,
        solver,
        counts,
        recipe["box"],
        recipe["law"],
        radial=recipe["radial"],
        isochoric=recipe.get("isochoric", False),
        workers=workers,
    )["train"]
    basis = known.basis(solver, network.modes)
    signs = _signs(network.means.double().cpu(), torch.from_numpy(basis.mean_stress))
    modes = torch.from_numpy(basis.stress).flatten(1, 2) * signs[:, None, None]
    galerkin = GalerkinSolver(solver.mesh, solver.materials, basis)
    stiffness = galerkin.solve(torch.zeros(1, 3, dtype=torch.float64)).tangent[0]
    bound, size = [], []
    for part in torch.from_numpy(np.asarray(strain, dtype=np.float64)).split(CHUNK):
        eta, stress = _residual(network, galerkin, modes, part)
        bound.append((2 * eta.clamp_min(0)).sqrt())
        size.append((stress * torch.linalg.solve(stiffness, stress.T).T).sum(1).sqrt())
    return LawVerification(strain, torch.cat(bound).numpy(), torch.cat(size).numpy(), cell)


def _residual(
    network: EquiNO, galerkin: GalerkinSolver, modes: Tensor, strain: Tensor
) -> tuple[Tensor, Tensor]:
    """Return eta `(P,)` and the homogenised stress `(P, 3)`."""
    weight = network.means
    with torch.no_grad():
        b = network.branch(strain.to(weight.device, weight.dtype)).cpu().double()
    local = torch.tensordot(b, modes, 1)
    best = galerkin.solve(strain)
    e = galerkin.strain(strain, best.coefficients)
    composite = galerkin.composite
    # pointwise, where each value is at least 0, and not as a difference of large integrals
    gap = composite.energy(e) + composite.dual_energy(local) - (local * e).sum(-1)
    return gap @ galerkin.weights, torch.einsum("q,pqi->pi", galerkin.weights, local)


def _signs(recorded: Tensor, found: Tensor) -> Tensor:
    """Return 1 or -1 `(r,)` by which modes made anew are those recorded.

    Raises:
        InvalidArgument: If they are others.
    """
    signs = torch.where((recorded * found).sum(1) < 0, -1.0, 1.0).to(found)
    error = (signs[:, None] * found - recorded).norm() / recorded.norm()
    if not error < ALIKE:
        raise InvalidArgument(
            f"modes whose means are {float(error):.1e} away from those of the model",
            f"those of its recipe, within {ALIKE:g}",
            "The model was trained on other snapshots than its card says, or by another version",
        )
    return signs
