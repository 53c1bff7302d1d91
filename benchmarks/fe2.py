"""Full FE2 against the operator inside finite elements (FE-OL), and what a cell costs.

    python benchmarks/fe2.py --structures equino_disk        # three structures, errors and times
    python benchmarks/fe2.py --structures runs/mine/pretrained --keep full   # full FE2 only once
    python benchmarks/fe2.py --sizes                         # speed-up over the mesh of RVE1
    python benchmarks/fe2.py --report                        # table and picture of what is stored

Everything runs on one thread (set OMP_NUM_THREADS=1), and times are processor seconds of it.

* `structures`: plate, L-profile and Cook's membrane, each solved twice by the same macro solver
  (Newton to 1e-8): with a finite-element cell at every quadrature point, on the mesh whose
  snapshots the law was trained on, and with the law. `law`: relative L2 distance of the law's
  stress from the cells', at the strains of the FE2 solution: what it would be without the
  structure. Cells start from the macro iteration before, moved along the derivative, and factorise
  once per call.
* `sizes`: the whole solve of a plate with 288 points, with cells of RVE1 from coarse to beyond the
  paper's size. The macro solver goes its way with the law; all strains that it asks for are kept,
  and at a few points, spread over the structure, cells answer the same strains in the same order,
  each started from the answer before, as in full FE2. `full` is their mean time per point times
  288, and what the macro solver needs besides; `law` is the whole solve with the law. Its cost does
  not know the mesh of the cell, so the ratio grows with it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch

from sciml.physics.solids.cells import PaperCell
from sciml.physics.solids.structures import STRUCTURES
from sciml.pretrained import load_pretrained
from sciml.pretrained.judging.trained_law import recorded_cell
from sciml.simulate.fe2 import distance
from sciml.simulate.macro import MacroSolver
from sciml.simulate.macro_results import MacroState
from sciml.simulate.micro import CellMicro, Micro, OperatorMicro
from sciml.solvers.solution import Status

RESULTS = Path(__file__).parent / "results"
SIZES = (0.08, 0.05, 0.035, 0.024, 0.018)  # 0.024 is about the mesh of the paper
REPLAYED = 4  # points at which cells answer
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


def full_solution(case: str, law: object, mesh: int, keep: Path | None) -> dict:
    """Return state, iterations, residuals and times of full FE2 with the cell of a law.

    Args:
        case: Structure.
        law: Its card names the cell.
        mesh: Refinement of the structure.
        keep: Folder where the solution is kept, and looked for.
    """
    cell = recorded_cell(law.spec)
    name = hashlib.sha256(repr((case, mesh, cell)).encode()).hexdigest()[:12]
    files = [keep / f"{case}_{name}.{end}" for end in ("npz", "json")] if keep else []
    if files and all(file.exists() for file in files):
        return {"state": MacroState.load_file(files[0]), **json.loads(files[1].read_text())}
    full, seconds, micro = solved(STRUCTURES[case](mesh), CellMicro(cell.solver()))
    record = {
        "complete": full.complete,
        "iterations": [step.iterations for step in full.steps],
        "residuals": [step.residuals for step in full.steps],
        "all": seconds,
        "micro": micro,
    }
    if files:
        keep.mkdir(parents=True, exist_ok=True)
        full.state.save(files[0])
        files[1].write_text(json.dumps(record))
    return {"state": full.state, **record}


def compare(case: str, model: str, mesh: int = 1, keep: Path | None = None) -> dict:
    """Return errors and times of a law in a structure; arguments as in `full_solution`."""
    law = load_pretrained(model)
    structure, micro = STRUCTURES[case](mesh), OperatorMicro(law)
    solved(structure, micro)  # what a first call costs
    own, own_all, own_micro = solved(structure, micro)
    full = full_solution(case, law, mesh, keep)
    state = full["state"]
    answered = micro.respond(state.strain, {})
    return {
        "case": case,
        "model": model,
        "points": len(state.strain),
        "cell_dofs": recorded_cell(law.spec).mesh().dofs,
        "complete": own.complete and full["complete"],
        "displacement": distance(own.state.displacement, state.displacement),
        "stress": distance(own.state.stress, state.stress),
        "strain": distance(own.state.strain, state.strain),
        "law": distance(answered.stress, state.stress),
        "law_tangent": distance(answered.tangent, state.tangent),
        "largest_strain": float(np.abs(state.strain).max()),
        "median_strain": float(np.median(np.linalg.norm(state.strain, axis=1))),
        "iterations": [step.iterations for step in own.steps],
        "iterations_full": full["iterations"],
        "residuals": [step.residuals for step in own.steps],
        "residuals_full": full["residuals"],
        "cpu_s": own_all,
        "cpu_s_full": full["all"],
        "speedup": full["all"] / own_all,
        "speedup_micro": full["micro"] / own_micro,
    }


class Kept:
    """A microscale that keeps the strains it is asked for.

    Args:
        micro: Who answers.
    """

    def __init__(self, micro: Micro) -> None:
        self.micro, self.box, self.strains = micro, micro.box, []
        self.virgin = micro.virgin

    def respond(self, strain: np.ndarray, *given: object) -> object:
        """Return the answer."""
        self.strains.append(strain.copy())
        return self.micro.respond(strain, *given)


def law_costs(model: str = "equino_rve1", case: str = "plate", repeats: int = 7) -> dict:
    """Return the strains of a macro solve with a law and the least processor seconds of several."""
    structure, law = STRUCTURES[case](1), OperatorMicro(load_pretrained(model))
    kept = Kept(law)
    MacroSolver(structure, kept).solve()
    costs = [solved(structure, law)[1:] for _ in range(repeats)]
    whole, micro = min(costs)
    many = np.random.default_rng(0).uniform(-0.02, 0.02, (10_000, 3))
    points = []
    for _ in range(repeats):
        began = time.process_time()
        law.respond(many, {})
        points.append(time.process_time() - began)
    return {"strains": kept.strains, "all": whole, "micro": micro, "point": min(points) / len(many)}


def full_cost(size: float, strains: list[np.ndarray]) -> dict:
    """Return processor seconds of RVE1's cells along a macro solve, per point and call."""
    solver = PaperCell("rve1", size).solver()
    solver.at_rest  # noqa: B018  once per mesh, whatever the number of points
    micro, chosen = CellMicro(solver), np.linspace(0, len(strains[0]) - 1, REPLAYED).astype(int)
    virgin, answer, seconds = micro.virgin(REPLAYED), None, []
    for number, strain in enumerate(strains):
        # the first call is the one without load; the next starts a step, without an answer nearby
        near = answer if number > 1 else None
        began = time.process_time()
        answer = micro.respond(strain[chosen], virgin, near)
        seconds.append((time.process_time() - began) / REPLAYED)
        if (answer.status != Status.CONVERGED).any():
            raise RuntimeError(f"cells of size {size} did not converge")
    return {"size": size, "dofs": solver.mesh.dofs, "calls": seconds}


def report(stored: dict) -> None:
    """Print the table and draw the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    for row in stored.get("structures", []):
        print(
            f"{row['model']:12} {row['case']:10} {row['points']:5d} points  displacement "
            f"{100 * row['displacement']:.3f} %  stress {100 * row['stress']:.3f} %  law "
            f"{100 * row['law']:.3f} %  iterations {row['iterations']} {row['iterations_full']}  "
            f"{row['cpu_s_full']:.0f} s / {row['cpu_s']:.3f} s = {row['speedup']:.0f}, micro "
            f"{row['speedup_micro']:.0f}"
        )
    rows, law = stored.get("sizes", []), stored.get("law", {})
    if not rows:
        return
    points, lines = stored["points"], []
    for row in rows:
        full = points * sum(row["calls"]) + law["all"] - law["micro"]
        row["speedup"] = full / law["all"]
        lines.append(
            f"| {row['dofs']} | {np.mean(row['calls'][1:]):.3f} | {full:.0f} | {law['all']:.4f} | "
            f"{row['speedup']:.0f} |"
        )
    crossing = crossed([row["dofs"] for row in rows], [row["speedup"] for row in rows])
    where = f"{PUBLISHED:.0f} is passed at {crossing:.0f} unknowns" if crossing else "not passed"
    text = [
        "# Full FE2 against the law of the cell, whole macro solve",
        "",
        f"Plate with a hole, {points} quadrature points, {len(rows[0]['calls'])} calls of the "
        f"microscale; cells of RVE1 of several mesh sizes; one thread, processor seconds. Cells "
        f"were solved at {REPLAYED} of the points along the whole solve, and their mean stands for "
        f"all. {where} (log-log interpolation); the paper's mesh has about 20,700. The law takes "
        f"{1e6 * law['point']:.1f} microseconds per point in a batch of 10,000.",
        "",
        "| unknowns of a cell | s per point and call | full FE2, s | with the law, s | speed-up |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *lines,
    ]
    (RESULTS / "fe2.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    dofs = [row["dofs"] for row in rows]
    axis.loglog(dofs, [row["speedup"] for row in rows], "o-", color="#0072B2", label="measured")
    axis.axhline(PUBLISHED, color="#000000", linestyle="--", label="8000, published")
    if crossing:
        axis.axvline(crossing, color="#D55E00", linestyle=":", label=f"{crossing:.0f} unknowns")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("unknowns of the cell (RVE1)")
    axis.set_ylabel("full FE2 over FE with the law, processor time")
    axis.set_title(f"Plate with a hole, {points} points, whole solve, one thread", fontsize=10)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    figure.savefig(RESULTS / "fe2.png", dpi=130)


def crossed(dofs: list[int], speedup: list[float]) -> float | None:
    """Return at how many unknowns the published speed-up is passed, None if nowhere."""
    x, y = np.log(dofs), np.log(speedup) - np.log(PUBLISHED)
    above = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
    if not len(above):
        return None
    i = above[0]
    return float(np.exp(x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i])))


def main() -> None:
    """Measure what was asked for, and add it to what is stored."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--structures", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--cases", nargs="+", default=list(STRUCTURES), choices=list(STRUCTURES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="of full FE2 solutions")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--report", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "fe2.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    for model in wanted.structures:
        for case in wanted.cases:
            rows = stored.setdefault("structures", [])
            found = compare(case, model, keep=wanted.keep)
            rows[:] = [r for r in rows if (r["case"], r["model"]) != (case, model)] + [found]
            print(json.dumps(found), flush=True)
            file.write_text(json.dumps(stored, indent=1) + "\n")
    if wanted.sizes:
        law = law_costs()
        strains = law.pop("strains")
        stored |= {"law": law, "points": len(strains[0]), "sizes": []}
        stored.pop("law_s", None)
        for size in SIZES:
            stored["sizes"].append(full_cost(size, strains))
            print(stored["sizes"][-1], flush=True)
            file.write_text(json.dumps(stored, indent=1) + "\n")
    report(stored)


if __name__ == "__main__":
    main()
