"""Step time of hard constraints against the number of their points, one expert and several.

    python benchmarks/constraints.py                     # everything; an hour on a busy machine
    python benchmarks/constraints.py --problems diffusion_sorption --threads 1 --points 100 1000
    python benchmarks/constraints.py --solver            # one iteration of the solver, its memory
    python benchmarks/constraints.py --report            # table and picture of what is stored

A training step is: basis functions by a small Fourier operator (untrained, one sample, float64),
their features, the solve of all experts on the given number of points in total (each expert takes
its share), the residual of the assembled field as loss, and the backward pass. Inference stops
after the solve, at a tolerance ten times smaller. PI-HC is one expert.

* `step` and `infer`: wall and processor time, minima over repetitions taken in turns.
* `solve`: the layer alone, forward and with its backward pass, in a training step.
* `device`: the same with the points of one expert, a K-th: what the slowest of K devices would take
  that hold an expert each. The published ratios are of that kind (four devices, K = 4).
* `iterations`, `failed`: of the solves in training, largest number and share of experts at most 20
  iterations did not suffice for; `device_iterations`: of the solve with a K-th of the points.
* `reduction`: of the root of |equation|^2 + |conditions|^2, over the grid, from unit weights, where
  the published solver starts, to the solution.
* `memory`: peak of a training step over what the process held before it, in MB.
* `shares`: where the processor time of one training step goes: the network's functions, their
  features on the whole grid (inside the layer), the rest of the layer (points, Picard's iteration,
  the solve), the loss, and the backward pass.

`--solver` times Levenberg-Marquardt alone on 24 problems with 20 000 rows of diffusion-sorption's
form and 16 unknowns, by QR and by the Gram matrix: an iteration is the difference between two
numbers of iterations, over their difference; memory is the peak of a solve with its backward pass.

On one machine all experts share the cores, and K problems of P / K points have as many rows as one
of P: what they save is iterations, since an expert that is done drops out, and cache misses (1.6
times for training diffusion-sorption at 100 000 points with K = 4, 1.2 for Navier-Stokes). With a
device per expert the solve is 3.7 times faster at 100 000 points of diffusion-sorption with K = 4
on one thread, 2.5 on two (published: 3.2 and 3.0 for whole steps), 6.5 and 4.1 with K = 8. For
Navier-Stokes it is 1.3 and 1.7 times at 10 000 (published: 12.8) and 3.2 at 100 000: derivatives
and velocities of the basis on the whole grid, which no split makes cheaper, are half of the solve
at 10 000 points, and one expert takes as few iterations as four. An untrained basis of diffusion-
sorption is nearly dependent: its solves use all 20 iterations with any K. Two threads were
measured on a quiet machine (a training step at 100 000 points: 2.0 to 2.7 s), one thread beside
three other processes, whose wall times are two to three times its processor times.

`results/constraints.json` has the figures, `.md` the table, `.png` the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from worker import current, limit_threads, peak, reset

RESULTS = Path(__file__).parent / "results"
PROBLEMS = ("diffusion_sorption", "navier_stokes")
EXPERTS = (1, 2, 4, 8)
POINTS = (100, 1000, 10_000, 100_000)
PAPER = {"diffusion_sorption": {100_000: 3.189}, "navier_stokes": {10_000: 12.838}}
INFER = {"diffusion_sorption": {100_000: 3.048}, "navier_stokes": {10_000: 12.864}}


# --- one cell, in a process of its own ------------------------------------------------------------
class Cell:
    """One problem with K experts and P points in total.

    Args:
        problem: Name of the problem.
        experts: K.
        points: P.
    """

    def __init__(self, problem: str, experts: int, points: int) -> None:
        import torch

        from sciml.networks.spectral.constrained_fno import ConstrainedFNO
        from sciml.physics.constraints import HardConstraint
        from sciml.solvers import LevenbergMarquardt

        torch.manual_seed(0)
        equation = equation_of(problem)
        # points of diffusion-sorption's walls go to every expert besides
        self.layer = HardConstraint(
            equation,
            experts=experts,
            points=max(1, points // experts),
            ridge=1e-8,
            solver=LevenbergMarquardt(1e-4, max_iter=20),
        )
        self.network = ConstrainedFNO(
            self.layer, functions=16, width=8, hidden=16, modes=6, blocks=2
        ).double()
        generator = torch.Generator().manual_seed(1)
        self.field = equation.problem.sample(1, generator)
        self.torch, self.iterations, self.failed = torch, 0, 0.0

    def draw(self):
        """Return the source of the points, the same in every repetition."""
        return self.torch.Generator().manual_seed(2)

    def step(self) -> None:
        """Take a training step, without the optimizer."""
        self.network.zero_grad()
        out = self.network.constraint(
            self.network.functions(self.field), self.field, generator=self.draw()
        )
        self.layer.residual(out.value, self.field).square().mean().backward()
        self.iterations = int(out.iterations.max())
        self.failed = float((~out.converged).double().mean())

    def shares(self) -> dict[str, float]:
        """Return where the processor time of a training step goes, see the top of this file."""
        self.network.zero_grad()
        found, took = {}, {}

        def part(name, run):
            took[name] = timed(lambda: found.update({name: run()}))[1]

        field, equation = self.field, self.layer.equation
        part("network", lambda: self.network.functions(field))
        basis = found["network"]
        part("layer", lambda: self.network.constraint(basis, field, generator=self.draw()))
        value = found["layer"].value
        part("loss", lambda: self.layer.residual(value, field).square().mean())
        part("backward", found["loss"].backward)
        columns = found["layer"].columns.detach()
        part("features", lambda: equation.features(columns, field.double(), data=False))
        took["layer"] -= took["features"]
        whole = sum(took.values())
        return {name: spent / whole for name, spent in took.items()}

    def infer(self) -> None:
        """Predict, with points as few as in training."""
        with self.torch.no_grad():
            basis = self.network.functions(self.field)
            self.network.patient(basis, self.field, generator=self.draw())

    def solve(self) -> None:
        """Run the layer on fixed functions, with its backward pass."""
        if not hasattr(self, "basis"):
            with self.torch.no_grad():
                self.basis = self.network.functions(self.field)
        basis = self.basis.requires_grad_()
        out = self.network.constraint(basis, self.field, generator=self.draw())
        out.value.square().mean().backward()
        basis.grad = None
        self.iterations = int(out.iterations.max())

    def reduction(self) -> float:
        """Return the norm of all rows at the solution over that at unit weights."""
        with self.torch.no_grad():
            basis = self.network.functions(self.field)
            out = self.network.constraint(basis, self.field, generator=self.draw())
            offset = self.layer.equation.offset(basis.double(), self.field.double())
            return self._size(out.value) / self._size(offset + out.columns.sum(1))

    def _size(self, value) -> float:
        rows = self.layer.residual(value, self.field).square().mean()
        return float((rows + self.layer.conditions(value, self.field).square().sum()).sqrt())


def equation_of(problem: str):
    """Return the constraint on a grid of about 100 000 points."""
    from sciml.physics import constraints, evolution

    if problem == "diffusion_sorption":
        family = evolution.DiffusionSorption(1024, time_count=101)
        return constraints.DiffusionSorptionConstraint(family)
    family = evolution.VorticityNavierStokes(64, time_count=26, horizon=2.5, viscosity=1e-3)
    return constraints.VorticityConstraint(family)


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Return wall and processor time in milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def measure(problem: str, experts: int, points: int, threads: int, repeats: int) -> dict:
    """Return the figures of one cell."""
    limit_threads(threads)
    import torch

    torch.set_num_threads(threads)
    cell = Cell(problem, experts, points)
    cell.step()  # plans of Fourier transforms, and memory as in a run
    exact, before = reset(), current()
    cell.step()
    row = {
        "problem": problem,
        "experts": experts,
        "points": points,
        "threads": threads,
        "iterations": cell.iterations,
        "failed": cell.failed,
        "memory_mb": peak() - before if exact else None,
        "reduction": cell.reduction(),
        "shares": cell.shares(),
        "load": os.getloadavg()[0],
    }
    alone = Cell(problem, 1, max(1, points // experts)) if experts > 1 else cell
    runs = {"step": cell.step, "infer": cell.infer, "solve": cell.solve, "device": alone.solve}
    best = {name: (float("inf"), float("inf")) for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            best[name] = tuple(map(min, best[name], timed(run)))
    row["device_iterations"] = alone.iterations
    for name, (wall, cpu) in best.items():
        row[f"{name}_ms"], row[f"{name}_cpu_ms"] = wall, cpu
    return row


# --- the solver alone -----------------------------------------------------------------------------
def measure_solver(factor: str, iterations: int, repeats: int) -> dict:
    """Return processor time and peak memory of a solve with so many iterations, and its backward.

    Args:
        factor: Of `LevenbergMarquardt`.
        iterations: All are taken.
        repeats: Repetitions, of which the least time counts.
    """
    limit_threads(1)
    import torch

    from sciml.solvers import LevenbergMarquardt, least_squares
    from sciml.solvers.nonlinear.pointwise_least_squares import PointwiseRows

    torch.set_num_threads(1)
    problems, rows, unknowns = 24, 20_000, 16
    draw = torch.Generator().manual_seed(0)
    kind = {"generator": draw, "dtype": torch.float64}
    features = [torch.randn(problems, rows, unknowns, **kind).requires_grad_() for _ in range(3)]
    offsets = [torch.zeros(problems, rows, dtype=torch.float64) for _ in range(3)]

    def formula(values, aux):
        slope, flux, u = values
        return slope - flux / (1 + 2 * (u.square() + 1e-2) ** -0.063) - 0.3

    made = PointwiseRows(formula, 1e-8)
    scale = torch.full((problems, rows), rows**-0.5, dtype=torch.float64)
    none = torch.zeros(problems, 0, unknowns, dtype=torch.float64)
    theta = (features, offsets, [], scale, none, none[..., 0])
    # a damping that takes long to fall: no solve ends before its last iteration
    solver = LevenbergMarquardt(3e-16, max_iter=iterations, damping=1e8, factor=factor)
    start = torch.zeros(problems, unknowns, dtype=torch.float64)

    def solve():
        return least_squares(
            made.rows,
            start,
            theta,
            on_failure="best",
            solver=solver,
            jacobian=made.jacobian,
            hessian=made.hessian,
            gradient=made.gradient,
        )

    exact, before = reset(), current()
    out = solve()
    taken = int(out.iterations.min())
    back = timed(out.value.square().sum().backward)[1]
    memory = peak() - before if exact else None
    del out
    forward = min(timed(solve)[1] for _ in range(repeats))
    return {
        "factor": factor,
        "iterations": taken,
        "forward_cpu_ms": forward,
        "backward_cpu_ms": back,
        "memory_mb": memory,
    }


# --- all cells --------------------------------------------------------------------------------
def key(row: dict) -> tuple:
    """Return what names a cell."""
    return tuple(row[name] for name in ("problem", "threads", "points", "experts"))


def main() -> None:
    """Measure the cells that were asked for, and report all that are stored."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--problems", nargs="+", default=PROBLEMS, choices=PROBLEMS)
    asked.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    asked.add_argument("--points", nargs="+", type=int, default=POINTS)
    asked.add_argument("--experts", nargs="+", type=int, default=EXPERTS)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--missing", action="store_true", help="only cells without a result")
    asked.add_argument("--solver", action="store_true", help="the solver alone, nothing else")
    asked.add_argument("--report", action="store_true", help="measure nothing")
    asked.add_argument("--cell", help=argparse.SUPPRESS)
    chosen = asked.parse_args()
    if chosen.cell:
        words = json.loads(chosen.cell)
        print(json.dumps(measure_solver(**words) if "factor" in words else measure(**words)))
        return
    file = RESULTS / "constraints.json"
    stored = json.loads(file.read_text()) if file.exists() else {"rows": [], "solver": []}
    rows = {key(row): row for row in stored["rows"]}
    solver = stored.get("solver", [])
    if chosen.solver:
        chosen.report = True
        asked_for = [(factor, n) for factor in ("qr", "gram") for n in (2, 7, 17)]
        found = [
            in_process({"factor": factor, "iterations": n, "repeats": chosen.repeats})
            for factor, n in asked_for
        ]
        solver = [row for row in found if row is not None]
        store(file, rows, solver)
    cells = [
        {"problem": p, "threads": t, "points": m, "experts": k}
        for p in chosen.problems
        for t in chosen.threads
        for m in chosen.points
        for k in chosen.experts
    ]
    for cell in () if chosen.report else cells:
        if chosen.missing and key(cell) in rows:
            continue
        row = in_process(cell | {"repeats": chosen.repeats})
        if row is None:
            continue
        rows[key(row)] = row
        print(f"{key(row)}: step {row['step_ms']:.0f} ms, infer {row['infer_ms']:.0f} ms")
        store(file, rows, solver)
    text = table(rows) + solver_table(solver)
    (RESULTS / "constraints.md").write_text(text)
    plot(rows, RESULTS / "constraints.png")
    print(text)


def in_process(words: dict) -> dict | None:
    """Return the figures of a cell from a process of its own; None, and a line, if it failed."""
    done = subprocess.run(
        [sys.executable, __file__, "--cell", json.dumps(words)], capture_output=True, text=True
    )
    if done.returncode:
        print(f"{words} failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def store(file: Path, rows: dict[tuple, dict], solver: list[dict]) -> None:
    """Write the figures with the environment."""
    import platform

    import torch

    about = {"torch": torch.__version__, "machine": platform.machine(), "cores": os.cpu_count()}
    ordered = [rows[name] for name in sorted(rows)]
    out = {"environment": about, "rows": ordered, "solver": solver}
    file.write_text(json.dumps(out, indent=1) + "\n")


def table(rows: dict[tuple, dict]) -> str:
    """Return the figures as Markdown."""
    lines = ["# Hard constraints: time against points", ""]
    lines.append(
        "Times in ms, minimum of wall time (processor time). `ratio` is the processor time of one "
        "expert over that of K, on one machine; `devices` the same of the solve with one expert "
        "per device, which the published ratios compare with."
    )
    for problem in PROBLEMS:
        for threads in sorted({row["threads"] for row in rows.values()}):
            found = [r for n, r in sorted(rows.items()) if n[:2] == (problem, threads)]
            if not found:
                continue
            lines += ["", f"## {problem}, {threads} thread{'s' * (threads > 1)}", ""]
            lines.append(
                "| points | K | training step | inference | solve | ratio, training | ratio, "
                "inference | devices | published | iterations | failed | reduction | memory, MB | "
                "network, features, layer, loss, backward |"
            )
            lines.append("|" + "---|" * 14)
            lines += [_line(row, rows) for row in found]
    return "\n".join(lines) + "\n"


def solver_table(rows: list[dict]) -> str:
    """Return the figures of the solver alone as Markdown."""
    if not rows:
        return ""
    lines = [
        "",
        "## Levenberg-Marquardt alone: 24 problems, 20 000 rows, 16 unknowns, 1 thread",
        "",
    ]
    lines.append(
        "| factor | iterations | forward, ms | more per iteration, ms | backward, ms | MB |"
    )
    lines.append("|" + "---|" * 6)
    for before, row in zip([None, *rows], rows, strict=False):
        each = ""
        if before is not None and before["factor"] == row["factor"]:
            more = row["forward_cpu_ms"] - before["forward_cpu_ms"]
            each = f"{more / (row['iterations'] - before['iterations']):.0f}"
        lines.append(
            f"| {row['factor']} | {row['iterations']} | {row['forward_cpu_ms']:.0f} | {each} | "
            f"{row['backward_cpu_ms']:.0f} | {row['memory_mb']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _line(row: dict, rows: dict[tuple, dict]) -> str:
    problem, threads, points, experts = key(row)
    one = rows.get((problem, threads, points, 1))

    def over(name: str, other: str | None = None) -> str:
        if one is None or experts == 1:
            return ""
        return f"{one[f'{name}_cpu_ms'] / row[f'{other or name}_cpu_ms']:.2f}"

    def both(name: str) -> str:
        return f"{row[f'{name}_ms']:.0f} ({row[f'{name}_cpu_ms']:.0f})"

    told = [PAPER[problem].get(points), INFER[problem].get(points)]
    published = " / ".join(f"{v:.1f}" for v in told) if experts == 4 and told[0] else ""
    memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
    parts = ("network", "features", "layer", "loss", "backward")
    spent = row.get("shares", {})
    shares = " ".join(f"{100 * spent[part]:.0f}" for part in parts) + " %" if spent else ""
    entries = [
        f"{points}", f"{experts}", both("step"), both("infer"), both("solve"), over("step"),
        over("infer"), over("solve", "device"), published, f"{row['iterations']}",
        f"{row['failed']:.0%}", f"{row['reduction']:.1e}", memory, shares,
    ]  # fmt: skip
    return "| " + " | ".join(entries) + " |"


def plot(rows: dict[tuple, dict], path: Path) -> None:
    """Draw step time against points, one panel per problem and kind of step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    problems = [p for p in PROBLEMS if any(n[0] == p for n in rows)]
    kinds = {"step": "training step", "infer": "inference", "device": "solve, an expert per device"}
    figure, axes = plt.subplots(
        len(problems), 3, figsize=(13, 4 * len(problems)), squeeze=False, sharey="row"
    )
    for line, problem in zip(axes, problems, strict=True):
        for axis, (kind, title) in zip(line, kinds.items(), strict=True):
            for colour, experts in enumerate(EXPERTS):
                for threads, style in ((1, "-o"), (2, "--s")):
                    found = [
                        (n[2], row[f"{kind}_cpu_ms" if threads == 1 else f"{kind}_ms"])
                        for n, row in sorted(rows.items())
                        if n[0] == problem and n[1] == threads and n[3] == experts
                    ]
                    if found:
                        name = "PI-HC" if experts == 1 else f"MoE, K = {experts}"
                        label = f"{name}, {threads} thread{'s' * (threads > 1)}"
                        axis.loglog(*zip(*found, strict=True), style, color=f"C{colour}",
                                    ms=4, label=label)  # fmt: skip
            axis.set(xlabel="points in total", title=f"{problem}: {title}")
            axis.grid(which="major", alpha=0.3)
        line[0].set_ylabel("ms (processor time for one thread)")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
