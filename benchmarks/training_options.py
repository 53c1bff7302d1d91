"""Weights of loss terms that follow from the terms, and networks trained in stages.

    python benchmarks/training_options.py                 # both, seed 0; --seeds 0 1 2

`balance`: -lap u = f on the unit square, u = sin(pi x) e^y, values on the boundary as a second term
whose weight is set wrongly, by factors from 1e-3 to 1e5; tanh 2-24-24-1, Adam with cosine decay
from 2e-3, 2000 steps, 256 + 128 points. `built in` has no second term. `overhead` is the processor
time of a step beside that of `none`.

`stages`: `model=pinn_poisson2d` with one network for a number of steps, with one for half of them,
and with `network=staged`, two networks of the same size for half of the steps each.

Errors are relative, in the L2 norm. Results are printed and written to
`results/training_options.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sciml.cli.train import main as train  # noqa: E402 - after the path is known
from sciml.pinn import On, Rectangle, System, solve  # noqa: E402

PRESETS = (1e-3, 1.0, 1e2, 1e5)
RULES = ("none", "gradnorm", "ntk", "unit")
STEPS = {"lm": 1000, "engd": 1000}


class Soft(System):
    """The problem of the first table, for a weight of its boundary."""

    domain = Rectangle((0, 0), (1, 1))

    def __init__(self, weight: float | None) -> None:
        if weight is not None:
            rim = On(self.domain.boundary, u=lambda x, y: self.exact(x, y), weight=weight)
            self.conditions = {"rim": rim}

    def residual(self, u, x, y):
        """Return the equation."""
        return u.lap - (1 - math.pi**2) * self.exact(x, y)

    def exact(self, x, y):
        """Return the solution."""
        return torch.sin(math.pi * x) * torch.exp(y)


class BuiltIn(Soft):
    """The same with its boundary values built in."""

    def hard(self, u, x, y):
        """Return the ansatz: sin(pi x) (1 - y + e y) has the boundary values."""
        lift = torch.sin(math.pi * x) * (1 + (math.e - 1) * y)
        return lift + x * (1 - x) * y * (1 - y) * u


def balance(seeds: list[int]) -> list[str]:
    """Return the lines of the first table."""
    lines = ["| rule | " + " | ".join(f"{p:g}" for p in PRESETS) + " | ms a step |"]
    lines.append("|---" * (len(PRESETS) + 2) + "|")
    for rule in (*RULES, "built in"):
        row, seconds = [], []
        for weight in PRESETS if rule != "built in" else PRESETS[:1]:
            errors = []
            for seed in seeds:
                problem = Soft(weight) if rule != "built in" else BuiltIn(None)
                start = time.process_time()
                solution = solve(
                    problem, "optimizer.lr=2e-3", "schedule=cosine", "trainer.precision=64-true",
                    optimizer="adam", steps=2000, points=256, condition_points=128, width=24,
                    depth=3, balance=None if rule in ("none", "built in") else rule, seed=seed,
                )  # fmt: skip
                seconds.append(time.process_time() - start)
                side = torch.linspace(0, 1, 101, dtype=torch.float64)
                x, y = (part.flatten() for part in torch.meshgrid(side, side, indexing="ij"))
                known = problem.exact(x, y)
                errors.append(float((solution(x=x, y=y)["u"] - known).norm() / known.norm()))
            row.append(f"{statistics.median(errors):.3g}")
        row += [""] * (len(PRESETS) - len(row))
        line = f"| {rule} | " + " | ".join(row) + f" | {statistics.median(seconds) / 2:.2f} |"
        lines.append(line)
        print(line, flush=True)
    return lines


def staged(seeds: list[int]) -> list[str]:
    """Return the lines of the second table."""
    lines = ["| optimizer | seed | half of the steps | one network | two stages | CPU s |"]
    lines.append("|---" * 6 + "|")
    two = ["network=staged", "network.stages=2", "network.depth=2", "network.width=64"]
    for optimizer, steps in STEPS.items():
        for seed in seeds:
            found, seconds = [], []
            for words in ([f"trainer.max_steps={steps // 2}"], [], two):
                line = ["model=pinn_poisson2d", f"optimizer={optimizer}", f"seed={seed}"]
                line += [f"trainer.max_steps={steps}", *words, "callbacks.plots=null"]
                line = [word for k, word in enumerate(line) if word.split("=")[0] not in {
                    later.split("=")[0] for later in line[k + 1 :]}]  # fmt: skip
                start = time.process_time()
                with tempfile.TemporaryDirectory() as folder:
                    quiet = io.StringIO()
                    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                        train([*line, f"hydra.run.dir={folder}/run", "callbacks.export=null"])
                    record = json.loads(Path(folder, "run", "metrics.json").read_text())
                found.append(record["metrics"]["test/rel_l2"])
                seconds.append(time.process_time() - start)
            shown = " | ".join(f"{value:.2g}" for value in found)
            line = f"| {optimizer} | {seed} | {shown} | {seconds[1]:.0f}, {seconds[2]:.0f} |"
            lines.append(line)
            print(line, flush=True)
    return lines


def main() -> None:
    """Run both and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    text = ["Relative L2 error by the weight that the boundary was given (columns)", ""]
    text += [*balance(asked.seeds), "", "Two stages beside one network", "", *staged(asked.seeds)]
    (ROOT / "benchmarks" / "results" / "training_options.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
