"""Systems of equations against other packages: same network, points and processor time.

    python -m venv peers && peers/bin/pip install deepxde        # each an environment of its own
    python -m venv pina && pina/bin/pip install pina-mathlab
    python -m venv jinns && jinns/bin/pip install jinns
    python benchmarks/pinn_peers.py --peer DEEPXDE_PYTHON --pina PINA_PYTHON --jinns JINNS_PYTHON
    python benchmarks/pinn_peers.py --peer DEEPXDE_PYTHON --problems burgers --steps 150

Every cell is a process of its own, confined to `--threads` threads. What counts is the processor
time of that process from the first step on: imports, building and the compilation of JAX are free.
Problems are those of DeepXDE's examples, with tanh networks of three hidden layers of twenty:

burgers     0.01 / pi, soft conditions, 2540 + 240 points; against Cole and Hopf
l_shape     -lap u = 1, u = 0, 1200 + 120 points; against finite differences, extrapolated
helmholtz   sin(pi x) sin(4 pi y), values built in, 2000 points; exact
allen_cahn  0.001 u_xx + 5 (u - u^3), values built in, 2500 points; against finite differences in
            space and an implicit solver in time
kovasznay   Reynolds number 20, velocity on the sides, pressure at the outflow, 1500 + 400 points;
            exact; error over u, v and p together

Sides: `sciml` is the default of `solve()`; `sciml adam` the same with Adam; `deepxde adam` and
`deepxde adam + l-bfgs`, half of the time each, in single precision, its default, and in double
precision, which its manual recommends for L-BFGS; `pina adam` and `jinns adam` in single precision.
Adam has a rate of 1e-3 throughout. Results are written to `results/pinn_peers.json`, tables to
`results/pinn_peers_errors.md` and `results/pinn_peers_steps.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pinn_peer_problems import (
    DEPTH,
    POINTS,
    PROBLEMS,
    RE,
    WIDTH,
    kovasznay,
    reference,
)
from pinn_peer_sides import SIDES

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
OURS = ("sciml", "sciml adam", "sciml adam float64")
THEIRS = tuple(SIDES)


# --- sciml ------------------------------------------------------------------------------------
def our_system(name: str):
    """Return the system, its conditions with their numbers of points."""
    from sciml.pinn import Initial, Interval, On, Rectangle, System, Time, torch

    inside, given = POINTS[name]
    if name == "burgers":

        class Burgers(System):
            domain = Interval(-1, 1) * Time(0, 1)
            conditions = {
                "start": Initial(u=lambda x: -torch.sin(torch.pi * x), points=given["start"]),
                "ends": On(domain.boundary, u=0, points=given["ends"]),
            }

            def residual(self, u):
                return u.t + u * u.x - 0.01 / torch.pi * u.xx

        return Burgers()
    if name == "l_shape":

        class LShape(System):
            domain = Rectangle((-1, -1), (1, 1)) - Rectangle((0, 0), (1, 1), name="notch")
            conditions = {"outside": On(domain.boundary, u=0, points=given["outside"])}

            def residual(self, u):
                return u.lap + 1

        return LShape()
    if name == "helmholtz":

        class Helmholtz(System):
            domain = Rectangle((-1, -1), (1, 1))

            def residual(self, u, x, y):
                wave = torch.sin(torch.pi * x) * torch.sin(4 * torch.pi * y)
                return u.lap + u - (1 - 17 * torch.pi**2) * wave

            def hard(self, u, x, y):
                return (1 - x**2) * (1 - y**2) * u

        return Helmholtz()
    if name == "allen_cahn":

        class AllenCahn(System):
            domain = Interval(-1, 1) * Time(0, 1)

            def residual(self, u):
                return u.t - 1e-3 * u.xx - 5 * (u - u**3)

            def hard(self, u, x, t):
                return x**2 * torch.cos(torch.pi * x) + t * (1 - x**2) * u

        return AllenCahn()

    class Kovasznay(System):
        outputs = ("u", "v", "p")
        domain = Rectangle((-0.5, -0.5), (1, 1.5))
        conditions = {
            "sides": On(
                domain.boundary,
                u=lambda x, y: kovasznay(torch, x, y)[0],
                v=lambda x, y: kovasznay(torch, x, y)[1],
                points=given["sides"],
            ),
            "outflow": On(
                domain.right, p=lambda x, y: kovasznay(torch, x, y)[2], points=given["outflow"]
            ),
        }

        def residual(self, u, v, p):
            return {
                "x-momentum": u * u.x + v * u.y + p.x - u.lap / RE,
                "y-momentum": u * v.x + v * v.y + p.y - v.lap / RE,
                "continuity": u.x + v.y,
            }

    return Kovasznay()


def ours(name: str, side: str, seconds: float, steps: int | None, seed: int) -> dict:
    """Train with this package."""
    from sciml import pinn

    system = our_system(name)
    clock = {"began": None, "steps": 0, "spent": 0.0}

    class Limit(pinn.History):
        """Ends the run when its processor time is up; the steps before `warm` do not count."""

        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            if clock["began"] is None and trainer.global_step >= (20 if steps else 0):
                clock["began"], clock["at"] = time.process_time(), time.perf_counter()
                clock["steps"] = -trainer.global_step

        def on_train_batch_end(self, trainer, *given) -> None:
            super().on_train_batch_end(trainer, *given)
            if clock["began"] is not None:
                clock["spent"] = time.process_time() - clock["began"]
                clock["wall"] = time.perf_counter() - clock["at"]
                trainer.should_stop = not steps and clock["spent"] > seconds
                clock["total"] = trainer.global_step + clock["steps"]

    pinn.History = Limit
    words = ["schedule=constant"] if "adam" in side else []
    if "float64" in side:
        words.append("trainer.precision=64-true")
    solution = pinn.solve(
        system,
        *words,
        optimizer="adam" if "adam" in side else "lm",
        steps=steps + 20 if steps else 10**8,
        points=POINTS[name][0],
        width=WIDTH,
        depth=DEPTH,
        seed=seed,
    )

    def predict(x: np.ndarray) -> np.ndarray:
        found = solution(x)
        return np.stack([found[k].numpy() for k in system.outputs], 1)

    spent = {"seconds": clock["spent"], "wall_s": clock["wall"]}
    return spent | {"steps": clock["total"], "predict": predict}


# --- the benchmark ------------------------------------------------------------------------------
def worker(asked: argparse.Namespace) -> None:
    """Measure one cell and print it."""
    if not asked.side.startswith("jinns"):  # which needs no torch
        import torch

        torch.set_num_threads(asked.threads)
    run = ours if asked.side in OURS else SIDES[asked.side]
    found = run(asked.problems[0], asked.side, asked.seconds, asked.steps, asked.seed)
    predict = found.pop("predict")
    with np.load(asked.answer) as file:
        x, wanted = file["x"], file["u"]
    got = np.asarray(predict(x), dtype=np.float64).reshape(wanted.shape)
    found["rel_l2"] = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
    found["ms_per_step"] = 1e3 * found["seconds"] / max(found["steps"], 1)
    found["wall_ms_per_step"] = 1e3 * found["wall_s"] / max(found["steps"], 1)
    print("RESULT " + json.dumps(found))


def measured(asked: argparse.Namespace, name: str, side: str, answer: Path) -> dict:
    """Return one row, from a process of its own."""
    package = side.split()[0]
    python = {"sciml": sys.executable, "deepxde": asked.peer}.get(package) or getattr(
        asked, package, None
    )
    row = {"problem": name, "side": side, "seed": asked.seed, "threads": asked.threads}
    if python is None:
        return row | {"error": "no Python with it was given"}
    row["load"] = round(os.getloadavg()[0], 1)
    words = [python, str(Path(__file__).resolve()), "--side", side, "--problems", name]
    words += ["--answer", str(answer), "--seconds", str(asked.seconds), "--seed", str(asked.seed)]
    words += ["--threads", str(asked.threads)]
    words += ["--steps", str(asked.steps)] if asked.steps else []
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(asked.threads),
        "MKL_NUM_THREADS": str(asked.threads),
    }
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=HERE.parent)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return row | {"error": "".join((done.stdout + done.stderr).strip().splitlines()[-1:])}
    return row | json.loads(lines[-1].removeprefix("RESULT "))


def table(rows: list[dict], kind: str) -> str:
    """Return errors by problem and side, with the steps taken and their time; or every time."""
    lost = [
        f"\nFailed: {r['side']}, {r['problem']}: {r['error'].splitlines()[-1]}"
        for r in rows
        if "error" in r
    ]
    if kind == "steps":
        lines = [
            "| problem | side | threads | seed | steps | CPU ms a step | wall ms a step | load |",
            "|---" * 8 + "|",
        ]
        keys = ("problem", "side", "threads", "seed", "steps")
        for r in rows:
            if "steps" in r:
                wall, load = r.get("wall_ms_per_step"), r.get("load", "-")
                cells = [str(r[k]) for k in keys] + [f"{r['ms_per_step']:.1f}"]
                cells += [f"{wall:.1f}" if wall else "-", str(load)]
                lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([*lines, *lost]) + "\n"
    sides = [s for s in (*OURS, *THEIRS) if any(r["side"] == s for r in rows)]
    lines = ["| problem | " + " | ".join(sides) + " |", "|---" * (len(sides) + 1) + "|"]
    for name in PROBLEMS:
        cells = []
        for side in sides:
            mine = [r for r in rows if (r["problem"], r["side"]) == (name, side)]
            if mine and "rel_l2" in mine[-1]:
                r = mine[-1]
                cells.append(f"{r['rel_l2']:.1e} ({r['steps']}, {r['ms_per_step']:.1f})")
            else:
                cells.append("failed" if mine else "-")
        if any(c != "-" for c in cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, *lost]) + "\n"


def main() -> None:
    """Run what was asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python with DeepXDE")
    parser.add_argument("--pina", help="Python with PINA")
    parser.add_argument("--jinns", help="Python with jinns")
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--sides", nargs="*", default=[*OURS, *THEIRS], choices=[*OURS, *THEIRS])
    parser.add_argument("--seconds", type=float, default=30.0, help="processor time per cell")
    parser.add_argument("--steps", type=int, help="this many steps instead, for their time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        worker(asked)
        return
    RESULTS.mkdir(exist_ok=True)
    kind = "steps" if asked.steps else "errors"
    path = RESULTS / "pinn_peers.json"
    kept = json.loads(path.read_text()) if path.exists() else {"steps": [], "errors": []}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.problems:
            x, u = reference(name)
            answer = Path(folder) / f"{name}.npz"
            np.savez(answer, x=x, u=u)
            for side in asked.sides:
                row = measured(asked, name, side, answer)
                print(json.dumps(row), flush=True)
                key = ("problem", "side", "seed", "threads")
                rest = [r for r in kept[kind] if any(r.get(k) != row[k] for k in key)]
                kept[kind] = [*rest, row]
                path.write_text(json.dumps(kept, indent=1) + "\n")
    said = {"errors": "relative L2 error (steps, CPU ms per step)", "steps": "time of a step"}
    text = f"{kind}: {said[kind]}\n\n{table(kept[kind], kind)}"
    (RESULTS / f"pinn_peers_{kind}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
