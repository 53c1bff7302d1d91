"""Pressure solvers inside a smoke simulation with a moving obstacle: agreement and CPU time.

    python benchmarks/smoke_solvers.py grid=128 steps=200 out=smoke.json
    python benchmarks/smoke_solvers.py dim=3 grid=48 steps=50 model=runs/pressure_3d/...

Every solver runs the same simulation, one after the other, in one process. `velocity` is the
relative L2 distance of its final velocity from that of the reference (mic with a tolerance 1e4
times as small); `divergence` the largest share of the divergence that a projection has left.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from sciml.simulate import PressureSolvers, Smoke
from sciml.simulate.flow_simulation import advanced

SOLVERS = ("cg", "mic", "multigrid", "amg", "learned", "dcdm", "auto")
MARKS = (1, 10, 50, 100, 200)


def run(simulation: Smoke, solvers: PressureSolvers) -> tuple[list, list[dict]]:
    """Return the velocity at the marks, and the rows."""
    flow, state, rows, kept = simulation.flow(), None, [], {}
    state = flow.start()
    with torch.no_grad():
        for step in range(1, simulation.steps + 1):
            state, row = advanced(flow, state, simulation.own_dt, solvers)
            rows.append(row)
            if step in MARKS or step == simulation.steps:
                kept[step] = torch.cat([u.flatten() for u in state.velocity])
    return kept, rows


def main(words: list[str]) -> None:
    """Measure and print; write JSON if asked to."""
    given = dict(word.split("=", 1) for word in words)
    grid, steps = int(given.get("grid", 128)), int(given.get("steps", 200))
    dim = int(given.get("dim", 2))
    rtol, model = float(given.get("rtol", 1e-6)), given.get("model")
    names = given.get("solvers", ",".join(SOLVERS)).split(",")
    simulation = Smoke(grid=grid, dim=dim, steps=steps)
    run(Smoke(grid=grid, dim=dim, steps=2), PressureSolvers("mic", dim))  # what first calls cost
    exact, _ = run(simulation, PressureSolvers("mic", dim, rtol=max(1e-4 * rtol, 1e-12)))
    found = {}
    for name in names:
        kept, rows = run(simulation, PressureSolvers(name, dim, rtol=rtol, model=model))
        column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        found[name] = {
            "iterations": float(column["iterations"].mean()),
            "setup_s": float(column["setup_s"].mean()),
            "solve_s": float(column["solve_s"].mean()),
            "step_s": float(column["step_s"].mean()),
            "divergence": float(column["divergence"].max()),
            "fell_back": int(column["fell_back"].sum()),
            "velocity": {s: float((kept[s] - u).norm() / u.norm()) for s, u in exact.items()},
        }
        if name == "auto":
            used, counts = np.unique(column["solver"], return_counts=True)
            found[name]["chosen"] = dict(zip(used.tolist(), counts.tolist(), strict=True))
        print(name, json.dumps(found[name]), flush=True)
    if "out" in given:
        record = {
            "grid": grid,
            "dim": dim,
            "steps": steps,
            "rtol": rtol,
            "threads": torch.get_num_threads(),
        }
        Path(given["out"]).write_text(json.dumps(record | {"solvers": found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
