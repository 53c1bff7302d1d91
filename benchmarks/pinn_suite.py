"""The suite of PINN problems: our error and time beside the best published figure.

    python benchmarks/pinn_suite.py                        # every model, one seed, its recipe
    python benchmarks/pinn_suite.py --models poisson2d_holes kovasznay --seeds 0 1 2
    python benchmarks/pinn_suite.py --optimizer ssbroyden --steps 500

Every run is the one of the command line, `model=pinn_NAME optimizer=...`, in a process of its own;
what counts is the processor time of that process, so that other work on the machine changes little.
Rows are added to `results/pinn_suite.json`, one per model, optimizer and seed, and the table of all
rows is written to `results/pinn_suite.md`.

Published figures: PINNacle, mean over three seeds of the best of eleven methods, 20 000 iterations
each on a GPU (arXiv 2306.08827), as read in its public summary; errors over all outputs together.
Where the note says so, the published problem or its reference is not sound and a comparison says
little.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

# model -> best published error, note
PUBLISHED: dict[str, tuple[float | None, str]] = {
    "burgers1d": (1.45e-2, "published reference is 1.3e-2 away from Cole-Hopf"),
    "poisson2d_holes": (1.23e-2, ""),
    "poisson_boltzmann2d": (1.43e-2, ""),
    "poisson3d_holes": (9.47e-2, ""),
    "poisson2d_blocks": (5.90e-1, "own coefficients of the same law"),
    "heat2d_varying": (2.12e-1, "own coefficient of the same law"),
    "heat2d_multiscale": (6.21e-2, ""),
    "heat2d_holes": (2.39e-2, ""),
    "heat2d_long": (9.99e-1, ""),
    "cavity": (3.60e-2, "away from the lid's corners"),
    "step_flow": (8.24e-2, "published outflow lacks a condition"),
    "channel_long": (9.70e-1, "published outflow lacks a condition"),
    "wave1d": (9.79e-2, ""),
    "wave2d_varying": (7.94e-1, "own medium of the same law"),
    "wave2d_long": (9.82e-1, "published solution does not solve its equation; corrected here"),
    "gray_scott": (7.99e-2, "constants have 9.3e-2"),
    "kuramoto_sivashinsky": (9.57e-1, "to t = 0.3 here, to 1 there"),
    "poisson_nd": (4.67e-4, ""),
    "heat_nd": (1.19e-4, ""),
    "poisson_coefficient": (2.45e-2, "published source contradicts its answer; corrected here"),
    "heat_coefficient": (5.26e-2, ""),
    "helmholtz2d": (None, "not in the benchmark"),
    "kovasznay": (None, "not in the benchmark"),
}


def run(model: str, optimizer: str, seed: int, steps: int | None, threads: int) -> dict:
    """Return one measured row."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"model=pinn_{model}", f"optimizer={optimizer}", f"seed={seed}"]
        words += [f"hydra.run.dir={folder}/run", "callbacks.plots=null", "callbacks.export=null"]
        words += [f"trainer.max_steps={steps}"] if steps else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *words],
            cwd=ROOT, env=env, capture_output=True, text=True,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row = {"model": model, "optimizer": optimizer, "seed": seed, "threads": threads}
        if done.returncode:
            return row | {"error": (done.stdout + done.stderr)[-500:]}
        record = json.loads((Path(folder) / "run" / "metrics.json").read_text())
    cpu = sum(getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime"))
    metrics = {k.removeprefix("test/"): v for k, v in record["metrics"].items()
               if k.startswith("test/") and "baseline" not in k}  # fmt: skip
    return row | {
        "steps": record["steps"],
        "parameters": record["parameters"],
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(record["seconds"]["fit"], 1),
        "metrics": metrics,
    }


def table(rows: list[dict]) -> str:
    """Return the table of all rows, one line per model and optimizer."""
    lines = [
        "| problem | optimizer | steps | seeds | relative L2 error: median (worst) | CPU s, start "
        "and test included | best published | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if "metrics" in row:
            groups.setdefault((row["model"], row["optimizer"], row["steps"]), []).append(row)
    for (model, optimizer, steps), found in sorted(groups.items()):
        errors = [row["metrics"]["rel_l2"] for row in found]
        published, note = PUBLISHED[model]
        cpu = statistics.median(row["cpu_seconds"] for row in found)
        best = "-" if published is None else f"{published:.2e}"
        lines.append(
            f"| {model} | {optimizer} | {steps} | {len(found)} | "
            f"{statistics.median(errors):.2e} ({max(errors):.2e}) | {cpu:.0f} | {best} | {note} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what was asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--optimizer", default="lm")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, help="what the recipe says, by default")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "pinn_suite.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for model in asked.models:
        for seed in asked.seeds:
            row = run(model, asked.optimizer, seed, asked.steps, asked.threads)
            print(json.dumps(row), flush=True)
            key = ("model", "optimizer", "seed", "threads", "steps")
            rows = [r for r in rows if any(r.get(k) != row.get(k) for k in key)] + [row]
            path.write_text(json.dumps(rows, indent=1) + "\n")
            (RESULTS / "pinn_suite.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
