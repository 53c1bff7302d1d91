"""The suite of PINN problems: our error and time beside the best published figure.

    python benchmarks/pinn_suite.py                        # every model, one seed, its recipe
    python benchmarks/pinn_suite.py --models poisson2d_holes kovasznay --seeds 0 1 2
    python benchmarks/pinn_suite.py --optimizer ssbroyden --steps 500

Every run is the one of the command line, `model=pinn_NAME optimizer=...`; what counts is processor
time of the training steps, so that other work on the machine changes little. References are made
once per model and are not counted. Rows are added to `results/pinn_suite.json`, one per model,
optimizer and seed; the table of all rows is written to `results/pinn_suite.md`, and that of the
recipes, with `optimizer=lm` and no further words, into `docs/pinns.md`.

Published figures: PINNacle, mean over three seeds of the best of eleven methods, 20 000 iterations
each on a GPU (arXiv 2306.08827), as read in its public summary; errors over all outputs together.
Where the note says so, the published problem or its reference is not sound and a comparison says
little.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from lightning.pytorch import Trainer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
BEGIN, END = "<!-- suite: begin -->\n", "<!-- suite: end -->\n"  # of the table in the docs
sys.path.insert(0, str(ROOT))

from sciml.cli.train import main as train  # noqa: E402 - after the path is known

# model -> best published error, note
PUBLISHED: dict[str, tuple[float | None, str]] = {
    "burgers1d": (1.45e-2, "published reference is 1.3e-2 away from Cole-Hopf"),
    "burgers2d": (2.60e-1, "own fields with the waves of the published ones; one period"),
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


class Clock:
    """Processor seconds that `Trainer.fit` takes."""

    def __init__(self) -> None:
        self.seconds, fit = 0.0, Trainer.fit

        def timed(trainer, *args, **kwargs):
            start = time.process_time()
            try:
                return fit(trainer, *args, **kwargs)
            finally:
                self.seconds = time.process_time() - start

        Trainer.fit = timed


def run(model: str, optimizer: str, seed: int, words: list[str], clock: Clock) -> dict:
    """Return one measured row."""
    row = {"model": model, "optimizer": optimizer, "seed": seed, "words": words}
    row["threads"] = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        line = [f"model=pinn_{model}", f"optimizer={optimizer}", f"seed={seed}", *words]
        line += [f"hydra.run.dir={folder}/run", "callbacks.plots=null", "callbacks.export=null"]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = train(line)
        if code:
            return row | {"error": said.getvalue()[-500:]}
        record = json.loads((Path(folder) / "run" / "metrics.json").read_text())
    metrics = {k.removeprefix("test/"): v for k, v in record["metrics"].items()
               if k.startswith("test/") and "baseline" not in k}  # fmt: skip
    return row | {
        "steps": record["steps"],
        "parameters": record["parameters"],
        "cpu_seconds": round(clock.seconds, 1),
        "metrics": metrics,
    }


def table(rows: list[dict]) -> str:
    """Return the table of all rows, one line per model and optimizer."""
    lines = [
        "| problem | optimizer | steps | seeds | relative L2 error: median (worst) | CPU s | best "
        "published | note |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        key = (row["model"], row["optimizer"], row["steps"], " ".join(row["words"]))
        groups.setdefault(key, []).append(row)
    for (model, optimizer, steps, words), found in sorted(groups.items()):
        errors = [row["metrics"]["rel_l2"] for row in found]
        published, note = PUBLISHED[model]
        note = "; ".join(part for part in (words, note) if part)
        cpu = statistics.median(row["cpu_seconds"] for row in found)
        best = "-" if published is None else f"{published:.2e}"
        lines.append(
            f"| {model} | {optimizer} | {steps} | {len(found)} | "
            f"{statistics.median(errors):.2e} ({max(errors):.2e}) | {cpu:.0f} | {best} | {note} |"
        )
    return "\n".join(lines) + "\n"


def recipes(rows: list[dict], before: str) -> str:
    """Return the table of the recipes, one line per model, in the order of `PUBLISHED`.

    Args:
        rows: All that was measured.
        before: The table as it is, whose lines about models without results are kept.
    """
    known = {line.split("`")[1]: line for line in before.splitlines() if "`" in line}
    lines = [
        "| problem | relative L2 error: median (worst) | seeds | steps | CPU s | best published | "
        "published over ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, (published, _) in PUBLISHED.items():
        found = [r for r in rows if r["model"] == model and r["optimizer"] == "lm"]
        found = [r for r in found if not r["words"] and r["steps"] == found[-1]["steps"]]
        if not found:
            lines += [known[model]] if model in known else []
            continue
        errors = [row["metrics"]["rel_l2"] for row in found]
        median, cpu = statistics.median(errors), statistics.median(r["cpu_seconds"] for r in found)
        worst = f" ({max(errors):.1e})" if len(errors) > 1 else ""
        ratio = published / median if published else None
        digits = "-" if ratio is None else f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
        lines.append(
            f"| `{model}` | {median:.1e}{worst} | {len(found)} | {found[0]['steps']} | {cpu:.0f} | "
            f"{'-' if published is None else f'{published:.2e}'} | {digits} |"
        )
    return "\n".join(lines) + "\n"


def publish(rows: list[dict]) -> None:
    """Write both tables."""
    (RESULTS / "pinn_suite.md").write_text(table(rows))
    page = ROOT / "docs" / "pinns.md"
    head, rest = page.read_text().split(BEGIN)
    old, tail = rest.split(END)
    page.write_text(head + BEGIN + recipes(rows, old) + END + tail)


def main() -> None:
    """Run what was asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--optimizer", default="lm")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, help="what the recipe says, by default")
    parser.add_argument("--words", nargs="*", default=[], help="further words of every run")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    words = [*asked.words, *([f"trainer.max_steps={asked.steps}"] if asked.steps else [])]
    RESULTS.mkdir(exist_ok=True)
    path, clock = RESULTS / "pinn_suite.json", Clock()
    for model in asked.models:
        for seed in asked.seeds:
            row = run(model, asked.optimizer, seed, words, clock)
            print(json.dumps(row), flush=True)
            if "metrics" not in row:  # refused, diverged or interrupted: nothing to keep
                continue
            key = ("model", "optimizer", "seed", "threads", "words")
            rows = json.loads(path.read_text()) if path.exists() else []
            rows = [r for r in rows if any(r.get(k) != row.get(k) for k in key)] + [row]
            path.write_text(json.dumps(rows, indent=1) + "\n")
            publish(rows)
    rows = json.loads(path.read_text())
    publish(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
