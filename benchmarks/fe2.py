"""Full FE2 against the operator inside finite elements (FE-OL), and what a cell costs.

    python benchmarks/fe2.py --structures equino_disk        # three structures, errors and times
    python benchmarks/fe2.py --sizes                         # speed-up over the mesh of RVE1
    python benchmarks/fe2.py --report                        # table and picture of what is stored

Everything runs on one thread (set OMP_NUM_THREADS=1), and times are processor seconds of it.

* `structures`: plate, L-profile and Cook's membrane, each solved twice by the same macro solver
  (Newton to 1e-8): with a finite-element cell at every quadrature point, on the mesh whose
  snapshots the law was trained on, and with the law. `law`: relative L2 distance of the law's
  stress from the cells', at the strains of the FE2 solution: what it would be without the
  structure. Cells start from the macro iteration before, moved along the derivative, and factorise
  once per call.
* `sizes`: RVE1 from coarse to the paper's size. `cell` is one point in one macro iteration, near a
  solved one (strains 1e-4 apart), tangent included; `first` the same from no start. `law` is a
  point of a batch of 10,000. The law's cost does not know the mesh, so the ratio grows with it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from sciml.physics.solids.cells import PaperCell
from sciml.physics.solids.structures import STRUCTURES
from sciml.pretrained import load_pretrained
from sciml.pretrained.cell_law import recorded_cell
from sciml.simulate.fe2 import distance
from sciml.simulate.macro import MacroSolver
from sciml.simulate.micro import CellMicro, Micro, OperatorMicro

RESULTS = Path(__file__).parent / "results"
SIZES = (0.08, 0.05, 0.035, 0.025, 0.018)
PUBLISHED = 8000.0


class Timed:
    """A microscale that counts its processor time.

    Args:
        micro: Who answers.
    """

    def __init__(self, micro: Micro) -> None:
        self.micro, self.box, self.seconds = micro, micro.box, 0.0
        self.virgin = micro.virgin

    def respond(self, *given: object) -> object:
        """Return the answer."""
        began = time.process_time()
        answer = self.micro.respond(*given)
        self.seconds += time.process_time() - began
        return answer


def solved(structure: object, micro: Micro) -> tuple:
    """Return a solution, its processor seconds and those of the microscale."""
    timed = Timed(micro)
    began = time.process_time()
    found = MacroSolver(structure, timed).solve()
    return found, time.process_time() - began, timed.seconds


def compare(case: str, model: str, mesh: int = 1) -> dict:
    """Return errors and times of a law in a structure."""
    law = load_pretrained(model)
    structure, micro = STRUCTURES[case](mesh), OperatorMicro(law)
    solved(structure, micro)  # what a first call costs
    own, own_all, own_micro = solved(structure, micro)
    solver = recorded_cell(law.spec).solver()
    full, full_all, full_micro = solved(structure, CellMicro(solver))
    state = full.state
    answered = micro.respond(state.strain, {})
    return {
        "case": case,
        "model": model,
        "points": len(state.strain),
        "cell_dofs": solver.mesh.dofs,
        "complete": own.complete and full.complete,
        "displacement": distance(own.state.displacement, state.displacement),
        "stress": distance(own.state.stress, state.stress),
        "strain": distance(own.state.strain, state.strain),
        "law": distance(answered.stress, state.stress),
        "law_tangent": distance(answered.tangent, state.tangent),
        "largest_strain": float(np.abs(state.strain).max()),
        "median_strain": float(np.median(np.linalg.norm(state.strain, axis=1))),
        "iterations": [step.iterations for step in own.steps],
        "iterations_full": [step.iterations for step in full.steps],
        "residuals": [step.residuals for step in own.steps],
        "residuals_full": [step.residuals for step in full.steps],
        "cpu_s": own_all,
        "cpu_s_full": full_all,
        "speedup": full_all / own_all,
        "speedup_micro": full_micro / own_micro,
    }


def cell_cost(size: float, count: int = 3) -> dict:
    """Return processor seconds of RVE1's cells, per point and iteration."""
    solver = PaperCell("rve1", size).solver()
    solver.at_rest  # noqa: B018  once per mesh, whatever the number of points
    micro, draw = CellMicro(solver), np.random.default_rng(0)
    strain = draw.uniform(-0.02, 0.02, (count, 3))
    began = time.process_time()
    first = micro.respond(strain, micro.virgin(count))
    middle = time.process_time()
    near = strain + 1e-4 * draw.standard_normal(strain.shape)
    micro.respond(near, micro.virgin(count), first)
    end = time.process_time()
    return {
        "size": size,
        "dofs": solver.mesh.dofs,
        "first_s": (middle - began) / count,
        "cell_s": (end - middle) / count,
    }


def law_cost(model: str = "equino_rve1", points: int = 10_000, repeats: int = 7) -> float:
    """Return processor seconds of a law per point, the least of several calls."""
    micro = OperatorMicro(load_pretrained(model))
    strain = np.random.default_rng(0).uniform(-0.02, 0.02, (points, 3))
    found = []
    for _ in range(repeats):
        began = time.process_time()
        micro.respond(strain, {})
        found.append(time.process_time() - began)
    return min(found) / points


def report(stored: dict) -> None:
    """Print the table and draw the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for row in stored.get("structures", []):
        print(
            f"{row['model']:12} {row['case']:10} {row['points']:5d} points  displacement "
            f"{100 * row['displacement']:.3f} %  stress {100 * row['stress']:.3f} %  law "
            f"{100 * row['law']:.3f} %  iterations {row['iterations']} {row['iterations_full']}  "
            f"{row['cpu_s_full']:.0f} s / {row['cpu_s']:.3f} s = {row['speedup']:.0f}, micro "
            f"{row['speedup_micro']:.0f}"
        )
    rows, law = stored.get("sizes", []), stored.get("law_s")
    if not rows:
        return
    for row in rows:
        print(
            f"RVE1, {row['dofs']:6d} unknowns: {row['cell_s']:.3f} s, first {row['first_s']:.3f} s;"
            f" speed-up {row['cell_s'] / law:.0f}, first {row['first_s'] / law:.0f}"
        )
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    dofs = [row["dofs"] for row in rows]
    for key, label, colour in (
        ("cell_s", "near a solved strain", "#0072B2"),
        ("first_s", "without a start", "#E69F00"),
    ):
        axis.loglog(dofs, [row[key] / law for row in rows], "o-", color=colour, label=label)
    axis.axhline(PUBLISHED, color="#000000", linestyle="--", label="8000, published")
    axis.set_xlabel("unknowns of the cell (RVE1)")
    axis.set_ylabel("cell over law, processor time per point")
    axis.set_title(f"One thread; the law takes {1e6 * law:.1f} microseconds", fontsize=10)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    figure.savefig(RESULTS / "fe2.png", dpi=130)


def main() -> None:
    """Measure what was asked for, and add it to what is stored."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--structures", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--cases", nargs="+", default=list(STRUCTURES), choices=list(STRUCTURES))
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--report", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "fe2.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    for model in wanted.structures:
        for case in wanted.cases:
            rows = stored.setdefault("structures", [])
            found = compare(case, model)
            rows[:] = [r for r in rows if (r["case"], r["model"]) != (case, model)] + [found]
            print(json.dumps(found), flush=True)
            file.write_text(json.dumps(stored, indent=1) + "\n")
    if wanted.sizes:
        stored["law_s"] = law_cost()
        stored["sizes"] = []
        for size in SIZES:
            stored["sizes"].append(cell_cost(size))
            print(stored["sizes"][-1], flush=True)
            file.write_text(json.dumps(stored, indent=1) + "\n")
    report(stored)


if __name__ == "__main__":
    main()
