"""Two-scale finite elements (FE2): a structure whose quadrature points ask a cell, or its operator.

    sciml simulate fe2 case=plate micro=equino model=equino_rve1
    sciml simulate fe2 case=l_profile micro=rve cell=disk size=4 steps=2
    sciml simulate fe2 case=cook micro=galerkin cell=disk size=4 modes=16

Files: `metrics.json`, `steps.csv`, `contours.png`, `convergence.png`, `state.npz` (the last
converged state, from which `resume=true` goes on, to the full load or back to `target`) and, with
`vtu=true`, `structure.vtu`.

Source: Eivazi et al., arXiv 2504.07976 (the operator in FE2); Feyel, Comput. Methods Appl. Mech.
Eng. 192, 2003 (FE2).
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_number, check_positive
from sciml.physics.solids.block_cells import check_count
from sciml.physics.solids.cell_snapshots import snapshots
from sciml.physics.solids.cells import (
    DiskCell,
    MeshCell,
    PaperCell,
    PeriodicCell,
    PlasticDiskCell,
    RandomCell,
)
from sciml.physics.solids.galerkin import GalerkinSolver, empirical_cubature
from sciml.physics.solids.rve_solver import RVESolver
from sciml.physics.solids.structures import STRUCTURES, Structure
from sciml.pretrained import load_pretrained
from sciml.pretrained.judging.trained_law import recorded_cell
from sciml.simulate import pictures
from sciml.simulate.macro import MacroSolver
from sciml.simulate.macro_results import MacroSolution, MacroState
from sciml.simulate.micro import CellMicro, GalerkinMicro, MaterialMicro, Micro, OperatorMicro
from sciml.simulate.simulation import Simulation, setting
from sciml.typed_arguments import typed

CELLS = ("disk", "plastic_disk", "rve1", "rve2", "rve3", "random", "file")
STATE = "state.npz"
BOX = 0.04  # of the snapshots of micro=galerkin


@typed
@dataclass(frozen=True)
class FE2(Simulation):
    """A structure with a microscale at every quadrature point.

    Raises:
        InvalidArgument: For settings that do not fit each other.

    Example:
        >>> from sciml.simulate import FE2
        >>> run = FE2(case="plate", micro="material", mesh=1)
        >>> run.structure().name  # `run.run(folder)` solves, as `sciml simulate fe2` does
        'plate'
    """

    case: str = setting("plate", "structure", tuple(STRUCTURES))
    micro: str = setting("equino", "who answers", ("equino", "rve", "galerkin", "material"))
    model: str = setting("equino_disk", "micro=equino: pretrained name, run or pretrained folder")
    cell: str = setting("disk", "micro=rve, galerkin: the cell; material: its matrix", CELLS)
    size: float | None = setting(None, "element size of the cell, or n of a disk; null for its own")
    file: str | None = setting(None, "cell=file: mesh of the cell, in any format meshio reads")
    modes: int = setting(24, "micro=galerkin: modes of the fluctuation, from snapshots")
    snapshots: int = setting(100, "micro=galerkin: cells solved first, up to 4 % strain")
    mesh: int = setting(1, "refinement of the structure; elements grow with its square")
    load: float | None = setting(None, "displacement or force at full load; null for the case's")
    steps: int = setting(1, "load steps, from nothing to the full load")
    target: float = setting(1.0, "share of the full load to end at; with resume=true also less")
    rtol: float = setting(1e-8, "forces out of balance over reactions")
    max_iter: int = setting(12, "Newton steps per load step")
    cuts: int = setting(3, "how often in a row a failed step is halved")
    symmetric: bool = setting(False, "symmetric part of the operator's tangent")
    reference: bool = setting(False, "solve full FE2 too and state the error and the speed-up")
    workers: int = setting(1, "processes that solve cells")
    vtu: bool = setting(False, "write structure.vtu for ParaView")
    resume: bool = setting(False, "go on from the state that the folder holds")

    def __post_init__(self) -> None:
        """Check what does not need a mesh."""
        for name in ("mesh", "steps", "max_iter", "workers", "modes", "snapshots"):
            check_count(name, getattr(self, name))
        check_count("cuts", self.cuts, 0)
        check_positive("rtol", self.rtol)
        check_number("target", self.target)
        if self.load is not None:
            check_number("load", self.load)
        if self.size is not None:
            check_positive("size", self.size)
        if self.target == 0 and not self.resume:
            raise InvalidArgument(
                "target=0 without resume=true", "a load to go to", "Unloading needs a loaded state"
            )
        if self.reference and self.micro != "equino":
            raise InvalidArgument(
                f"reference=true with micro={self.micro}", "an operator to be compared with FE2"
            )
        if (self.file is None) == (self.cell == "file"):
            raise InvalidArgument(
                f"cell={self.cell} file={self.file or 'null'}",
                "a mesh file and cell=file, or neither",
                "Type micro=rve cell=file file=cell.msh",
            )

    def run(self, folder: Path, say: Callable[[str], None] = print) -> dict[str, float]:
        """Solve, write the files and return the metrics.

        Args:
            folder: Where files go.
            say: Takes a line per load step.

        Raises:
            InvalidArgument: If there is nothing to resume, or another structure's state.
            PretrainedError: If there is no such model.
        """
        structure, (micro, cell) = self.structure(), self.answerer()
        state = None
        if self.resume:
            if not (folder / STATE).exists():
                raise InvalidArgument(f"resume=true for {folder}", f"a folder with a {STATE}")
            state = MacroState.load_file(folder / STATE)
            say(f"continued from load {state.load:.4g}")
        folder.mkdir(parents=True, exist_ok=True)
        points = structure.mesh.weights.size
        say(f"{self.case}: {len(structure.mesh.elements)} elements, {points} points; {self.micro}")
        solution = self._solver(structure, micro, say).solve(
            state, target=self.target, after_step=lambda found: found.save(folder / STATE)
        )
        metrics = summary(solution, points)
        if self.reference and solution.complete:
            metrics |= self._compared(structure, cell, solution, say)
        self._write(folder, structure, solution, metrics)
        return metrics

    def structure(self) -> Structure:
        """Return mesh and boundary conditions."""
        make = STRUCTURES[self.case]
        return make(self.mesh) if self.load is None else make(self.mesh, self.load)

    def answerer(self) -> tuple[Micro, PeriodicCell]:
        """Return who answers at quadrature points, and the cell behind it."""
        if self.micro == "equino":
            model = load_pretrained(self.model)
            return OperatorMicro(model, symmetric=self.symmetric), recorded_cell(model.spec)
        cell = self._cell()
        if self.micro == "material":
            return MaterialMicro(cell.materials[0]), cell
        solver = cell.solver()
        if self.micro == "galerkin":
            return GalerkinMicro(self._reduced(cell, solver), BOX), cell
        return CellMicro(solver, workers=self.workers), cell

    def _reduced(self, cell: PeriodicCell, solver: RVESolver) -> GalerkinSolver:
        """Return POD-Galerkin of a cell on points by empirical cubature."""
        if solver.internal:
            raise InvalidArgument(
                f"micro=galerkin with cell={self.cell}, whose stress depends on its history",
                "a cell of elastic materials",
                "Type micro=rve",
            )
        known = snapshots(cell, solver, {"train": self.snapshots}, BOX, workers=self.workers)
        basis = known["train"].basis(solver, self.modes)
        points = empirical_cubature(solver.mesh, basis, known["train"].local_stress)
        return GalerkinSolver(solver.mesh, solver.materials, basis, points)

    def _cell(self) -> PeriodicCell:
        if self.cell in ("disk", "plastic_disk"):
            kind = DiskCell if self.cell == "disk" else PlasticDiskCell
            return kind() if self.size is None else kind(self._whole(self.size))
        if self.cell == "file":
            return MeshCell(self.file)
        if self.cell == "random":
            return RandomCell() if self.size is None else RandomCell(size=self.size)
        return PaperCell(self.cell, self.size)

    @staticmethod
    def _whole(size: float) -> int:
        if size != int(size):
            raise InvalidArgument(f"size={size} of a disk", "a whole, even number of elements")
        return int(size)

    def _solver(
        self, structure: Structure, micro: Micro, say: Callable[[str], None] | None
    ) -> MacroSolver:
        return MacroSolver(
            structure,
            micro,
            steps=self.steps,
            rtol=self.rtol,
            max_iter=self.max_iter,
            cuts=self.cuts,
            say=say,
        )

    def _compared(
        self,
        structure: Structure,
        cell: PeriodicCell,
        own: MacroSolution,
        say: Callable[[str], None],
    ) -> dict[str, float]:
        """Return errors and speed-up against full FE2 with the cell that the operator learned."""
        say("full FE2, cells warm-started from the iteration before:")
        micro = CellMicro(cell.solver(), workers=self.workers)
        full = self._solver(structure, micro, say).solve(target=self.target)
        if not full.complete:
            return {}
        # once more, without what a first call costs
        began = time.perf_counter()
        again = self._solver(structure, self.answerer()[0], None).solve(target=self.target)
        seconds = time.perf_counter() - began
        u, s = full.state.displacement, full.state.stress
        more = max(a.iterations for a in own.steps) - max(b.iterations for b in full.steps)
        return {
            "error/displacement": distance(own.state.displacement, u),
            "error/stress": distance(own.state.stress, s),
            "error/more_iterations": float(more),
            "reference/seconds": full.seconds["all"],
            "reference/micro_seconds": full.seconds["micro"],
            "speedup/all": full.seconds["all"] / seconds,
            "speedup/micro": full.seconds["micro"] / again.seconds["micro"],
        }

    def _write(
        self, folder: Path, structure: Structure, solution: MacroSolution, metrics: dict[str, float]
    ) -> None:
        mesh, state = structure.mesh, solution.state
        stress = pictures.nodal(mesh, state.stress)
        size = np.hypot(*state.displacement.T)
        fields = {
            "|u| [mm]": size,
            "sxx [N/mm$^2$]": stress[:, 0],
            "syy [N/mm$^2$]": stress[:, 1],
            "sxy [N/mm$^2$]": stress[:, 2],
        }
        title = f"{self.case}, {self.micro}, load {state.load:.4g}"
        pictures.contours(folder / "contours.png", mesh, state.displacement, fields, title)
        if solution.steps:
            pictures.curves(folder / "convergence.png", solution.steps)
        if self.vtu:
            strain = pictures.nodal(mesh, state.strain)
            out = {"stress": stress, "strain": strain}
            pictures.write_vtu(folder / "structure.vtu", mesh, state.displacement, out)
        with (folder / "steps.csv").open("w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow(["load", "iterations", "outside", "largest_strain", "fx", "fy"])
            for step in solution.steps:
                rows.writerow(
                    [step.load, step.iterations, step.outside, step.largest, *step.reaction]
                )
        record = {
            "status": "completed" if solution.complete else "failed",
            "metrics": metrics,
            "failures": [str(failure) for failure in solution.failures],
        }
        (folder / "metrics.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def summary(solution: MacroSolution, points: int) -> dict[str, float]:
    """Return what a solve was like."""
    steps = solution.steps
    return {
        "complete": float(solution.complete),
        "load": solution.state.load,
        "points": float(points),
        "steps": float(len(steps)),
        "failures": float(len(solution.failures)),
        "iterations": float(sum(step.iterations for step in steps)),
        "iterations_max": float(max((step.iterations for step in steps), default=0)),
        "outside": float(max((step.outside for step in steps), default=0)),
        "largest_strain": max((step.largest for step in steps), default=0.0),
        "seconds": solution.seconds["all"],
        "micro_seconds": solution.seconds["micro"],
        "micro_calls": float(solution.calls),
    }


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the relative L2 distance."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
