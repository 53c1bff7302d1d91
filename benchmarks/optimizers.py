"""Error against time for every optimizer on the same problems.

    python benchmarks/optimizers.py                                   # everything (hours)
    python benchmarks/optimizers.py --problems poisson2d hjb100 --optimizers adam spring engd
    python benchmarks/optimizers.py --missing --jobs 2                # what has no result yet

Every optimizer gets the same time as Adam (`--budget` scales it), all of it or a fraction of it
(`--fractions`), with the learning-rate schedule stretched over the run: a few pilot steps measure
the time of a step. Its settings are those of `python train.py model=M optimizer=X`, recipes
included. Time is processor time of one thread, which is wall time on a quiet machine and nearly so
on a busy one. Evaluation is not on the clock. Errors are relative L2 on 2000 points that no
optimizer sees; skill is the error over the best constant's error. Results are kept in
benchmarks/results/optimizers.json, beside tables and a plot; later calls add to them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "optimizers.json"
PICTURE = HERE.parent / "docs" / "pictures" / "optimizers.png"
MARKS = 24  # evaluations per run, evenly spread over the logarithm of time


@dataclass(frozen=True)
class Problem:
    """One problem: its command line and the seconds Adam is given."""

    words: str
    seconds: float


PROBLEMS = {
    "poisson2d": Problem("model=pinn_poisson2d", 15),
    "poisson2d_deep": Problem("model=pinn_poisson2d network.depth=5", 20),
    "poisson5d": Problem("model=pinn_poisson5d", 40),
    "heat4d": Problem("model=pinn_heat4d", 40),
    "hjb100": Problem("model=pinn_hjb", 60),
    "sg100": Problem("model=pinn_sine_gordon problem.centred=true problem.dim=100", 30),
}


# --- one run, in a process of its own -------------------------------------------------------------
def one(words: list[str], budget: float) -> dict:
    """Train for `budget` seconds and return the curve."""
    import lightning.pytorch as pl
    import torch

    from sciml.modules.evaluation.solution_errors import Report
    from sciml.testing import runs

    torch.set_num_threads(1)

    class Clock(pl.Callback):
        """Counts training seconds, evaluates at marks, stops at the end."""

        def __init__(self, marks: list[float], end: float, warm: int = 0) -> None:
            self.marks, self.end, self.warm = list(marks), end, warm
            self.curve: list[tuple[float, float]] = []
            self.spent, self.steps = 0.0, 0

        def on_train_start(self, trainer, pl_module) -> None:
            self.since = time.process_time()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            now = time.process_time()
            self.steps += 1
            if self.steps <= self.warm:  # first steps are no measure: searches are long there
                self.since = now
                return
            self.spent += now - self.since
            last = trainer.global_step >= trainer.max_steps or self.spent >= self.end
            if last or (self.marks and self.spent >= self.marks[0]):
                while self.marks and self.spent >= self.marks[0]:
                    self.marks.pop(0)
                self.curve.append((self.spent, error(pl_module)))
            if last:
                trainer.should_stop = True
            self.since = time.process_time()

    points = {}

    def error(module) -> float:
        if not points:
            p = module.problem.sample_test(2000, torch.Generator().manual_seed(99))
            p = p.to(torch.float64)
            points["p"], points["u"] = p, module.problem.exact(p.x, p.t).reshape(-1).double()
        module.eval()
        u = module.predict_points(points["p"])
        module.train()
        return float((u - points["u"]).norm() / points["u"].norm())

    def fit(steps: int, clock: Clock, schedule: int):
        trainer = {"max_steps": steps, "limit_val_batches": 0, "logger": False}
        more = [f"trainer.max_steps={schedule}"]
        run = runs.prepare([*words, *more], Path("."), trainer=trainer)
        runs.fit(run, clock)
        return run

    pilot = Clock([], min(max(0.1 * budget, 1.0), 3.0), warm=8)
    fit(10_000, pilot, 10_000)
    step = pilot.spent / max(pilot.steps - pilot.warm, 1)
    steps = max(round(budget / step), 1)
    marks = [budget * 10 ** (-2 + 2 * i / MARKS) for i in range(MARKS)]
    clock = Clock(marks, 1.2 * budget)
    run = fit(steps, clock, steps)
    p = points["p"]
    report = Report(run.module.problem, len(p))
    run.module.eval()
    report.add(p, run.module.predict_points(p))
    report.finish(run.module.predict_points)
    return {
        "budget": budget,
        "steps": clock.steps,
        "step_ms": round(1e3 * step, 3),
        "curve": [(round(s, 3), e) for s, e in clock.curve],
        "rel_l2": clock.curve[-1][1],
        "skill": report.metrics.get("test/skill"),
    }


# --- all runs -------------------------------------------------------------------------------------
def launch(problem: str, optimizer: str, seed: int, fraction: float, scale: float) -> dict:
    """Run one cell in a fresh process."""
    budget = PROBLEMS[problem].seconds * fraction * scale
    words = [*PROBLEMS[problem].words.split(), f"optimizer={optimizer}", f"seed={seed}"]
    command = [sys.executable, __file__, "--one", str(budget), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    limit = 6 * budget + 120
    cell = {"problem": problem, "optimizer": optimizer, "seed": seed, "fraction": fraction}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {**cell, "error": f"no result in {limit:.0f} s"}
    if done.returncode:
        return {**cell, "error": done.stderr.strip().splitlines()[-1][:300]}
    return {**cell, **json.loads(done.stdout.strip().splitlines()[-1])}


def cell_of(row: dict) -> tuple:
    """Return what identifies a stored result."""
    return row["problem"], row["optimizer"], row["seed"], row["fraction"]


def seconds_to(row: dict, target: float) -> float | None:
    """Return when a run was first seen at or below an error."""
    return next((s for s, e in row["curve"] if e <= target), None)


def spread(values: list[float], form: str) -> str:
    """Return least and largest value, or the one there is."""
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} – {high}"


def table(rows: list[dict]) -> str:
    """Return one Markdown table per problem, best first; ranges over seeds."""
    lines = []
    for problem in PROBLEMS:
        here = [r for r in rows if r["problem"] == problem]
        adam = [r for r in here if r["optimizer"] == "adam" and r["fraction"] == 1.0]
        if not adam:
            continue
        lines += ["", f"**{problem}**", ""]
        lines += ["| optimizer | error | skill | given | step | to Adam's error | speed-up |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        found = []
        for name in dict.fromkeys(r["optimizer"] for r in here):
            mine = [r for r in here if r["optimizer"] == name]
            for share in sorted({r["fraction"] for r in mine}, reverse=True):
                runs = [r for r in mine if r["fraction"] == share]
                if any("error" in r for r in runs):
                    said = next(r["error"] for r in runs if "error" in r)
                    found.append((float("inf"), f"| {name} | {said[:80]} | | | | | |"))
                    continue
                pairs = [(r, a) for r in runs for a in adam if a["seed"] == r["seed"]]
                times = [(seconds_to(r, a["rel_l2"]), a["curve"][-1][0]) for r, a in pairs]
                speed = "never |"
                if times and all(t is not None for t, _ in times):
                    taken, ratios = [t for t, _ in times], [b / t for t, b in times]
                    speed = f"{spread(taken, '.1f')} s | {spread(ratios, '.1f')}"
                error = spread([r["rel_l2"] for r in runs], ".1e")
                skill = [r["skill"] for r in runs if r["skill"] is not None]
                shown = spread(skill, ".1e") if skill else "-"
                given = f"{runs[0]['budget']:.0f} s"
                step = f"{median([r['step_ms'] for r in runs]):.0f} ms"
                line = f"| {name} | {error} | {shown} | {given} | {step} | {speed} |"
                found.append((median([r["rel_l2"] for r in runs]), line))
        lines += [line for _, line in sorted(found, key=lambda f: f[0])]
    return "\n".join(lines).strip()


def summary(rows: list[dict]) -> str:
    """Return one table of final errors, optimizers by problems, full time, seed 0; best first.

    The order is that of the mean logarithm of error over Adam's error. The last row is the error of
    the best constant; skill is the quotient.
    """
    full = {
        (r["problem"], r["optimizer"]): r for r in rows if r["fraction"] == 1.0 and r["seed"] == 0
    }
    shown = [p for p in PROBLEMS if (p, "adam") in full]
    names = [o for o in dict.fromkeys(o for _, o in full) if "," not in o]

    def rank(name: str) -> float:
        logs = []
        for p in shown:
            row = full.get((p, name), {})
            value = row.get("rel_l2") or 1.0
            logs.append(math.log(min(value, 1.0) / full[p, "adam"]["rel_l2"]))
        return sum(logs) / len(logs)

    def cell(row: dict | None, best: float) -> str:
        if row is None or "error" in row:
            return "-"
        value = row["rel_l2"]
        text = f"{value:.1e}" if value < 10 else "diverges"
        return f"**{text}**" if value == best else text

    seconds = [f"{p}, {PROBLEMS[p].seconds:.0f} s" for p in shown]
    lines = [f"| | {' | '.join(seconds)} |", "| --- " * (len(shown) + 1) + "|"]
    bests = {p: min(full[p, o].get("rel_l2", 9e9) for o in names if (p, o) in full) for p in shown}
    for name in sorted(names, key=rank):
        cells = [cell(full.get((p, name)), bests[p]) for p in shown]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    constants = [full[p, "adam"]["rel_l2"] / full[p, "adam"]["skill"] for p in shown]
    lines.append(f"| best constant | {' | '.join(f'{c:.2g}' for c in constants)} |")
    return "\n".join(lines)


def median(values: list[float]) -> float:
    """Return the lower median."""
    return sorted(values)[(len(values) - 1) // 2]


def leaders(rows: list[dict], count: int = 3) -> list[str]:
    """Return the optimizers that are among the best of some problem at full time, seed 0."""
    names: list[str] = []
    for problem in PROBLEMS:
        here = [
            r
            for r in rows
            if (r["problem"], r["seed"], r["fraction"]) == (problem, 0, 1.0) and "curve" in r
        ]
        best = sorted(here, key=lambda r: r["rel_l2"])[:count]
        names += [r["optimizer"] for r in best if r["optimizer"] not in names]
    return names


def plot(rows: list[dict], path: Path) -> None:
    """Draw error against seconds, one panel per problem; the best in colour, the rest in grey."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [p for p in PROBLEMS if any(r["problem"] == p for r in rows)]
    colours = {n: plt.get_cmap("tab10")(i % 10) for i, n in enumerate(leaders(rows))}
    colours["adam"] = "black"
    figure, axes = plt.subplots(2, 3, figsize=(15, 9.6), squeeze=False)
    lines = {}
    for axis, problem in zip(axes.flat, shown, strict=False):
        for row in rows:
            if row["problem"] != problem or "curve" not in row or row["seed"] != 0:
                continue
            name = row["optimizer"]
            curve = [(s, e) for s, e in row["curve"] if e == e and e < 10]
            if not curve or (name not in colours and row["fraction"] < 1):
                continue
            style = "-" if row["fraction"] == 1.0 else ":"
            kind = (colours[name], 2.2, 3) if name in colours else ("0.8", 0.9, 1)
            colour, wide, above = kind
            (line,) = axis.loglog(
                *zip(*curve, strict=True), style, lw=wide, color=colour, zorder=above
            )
            if style == "-":
                lines[name if name in colours else "others"] = line
        axis.set_title(problem)
        axis.set_xlabel("seconds of one processor")
        axis.set_ylabel("relative L2 error")
        axis.grid(True, which="both", alpha=0.2)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    figure.legend(lines.values(), lines.keys(), ncol=6, loc="lower center", fontsize=11)
    figure.suptitle("solid: Adam's time; dotted: a share of it, with a schedule of its own")
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> int:
    """Run the cells asked for, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--optimizers", nargs="*", help="all of configs/optimizer by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--fractions", nargs="*", type=float, default=[1.0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budget", type=float, default=1.0, help="factor on all wall times")
    parser.add_argument("--missing", action="store_true", help="skip cells with a stored result")
    parser.add_argument("--report", action="store_true", help="tables of stored results only")
    parser.add_argument("--one", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[1:], float(args.one[0]))))
        return 0
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    names = args.optimizers or sorted(p.stem for p in (HERE.parent / "configs/optimizer").iterdir())
    cells = [
        (p, o, s, f)
        for p in args.problems
        for s in args.seeds
        for o in names
        for f in args.fractions
    ]
    if args.missing:
        have = {cell_of(r) for r in stored["rows"]}
        cells = [cell for cell in cells if cell not in have]
    if not args.report:
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            jobs = {pool.submit(launch, *cell, args.budget): cell for cell in cells}
            for job in concurrent.futures.as_completed(jobs):
                row, cell = job.result(), jobs[job]
                stored["rows"] = [r for r in stored["rows"] if cell_of(r) != cell] + [row]
                stored["machine"] = {
                    "processor": platform.machine(),
                    "cores": os.cpu_count(),
                    "threads": 1,
                    "jobs": args.jobs,
                }
                RESULTS.parent.mkdir(parents=True, exist_ok=True)
                RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
                print(*cell, row.get("error") or f"{row['rel_l2']:.3e}", flush=True)
    plot(stored["rows"], PICTURE)
    text = f"{summary(stored['rows'])}\n\n{table(stored['rows'])}\n"
    RESULTS.with_suffix(".md").write_text(f"# Error against time, every optimizer\n\n{text}")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
