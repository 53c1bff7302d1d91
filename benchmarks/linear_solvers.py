"""Pressure solves on irregular domains: multigrid and learned multigrid against classical solvers.

    pip install -e ".[amg]"                         # without it the AMG rows are missing
    python benchmarks/linear_solvers.py             # results/linear_solvers.json, .md and .png
    python benchmarks/linear_solvers.py --threads 2 --grids 64x64x64    # adds to these files
    python benchmarks/linear_solvers.py --grids 64x64 --batch 4 --out small.json   # seconds

Random domains with bodies, cut cells, open ends and free surfaces (`RandomDomains`), white noise on
the right, iterations to a *true* relative residual of 1e-6 in float64, no start. `learned` is the
shipped `pressure_2d` or `pressure_3d`. Cases:

* `single`: one system.
* `batch`: as many right-hand sides as `--batch` for one matrix: set-up once, then one solve.
* `new matrices`: as many systems as `--batch`, each with a matrix of its own, as in a flow past a
  moving solid: set-up counts for every one.

Batches are left out where they would have more than 5 million unknowns. Methods whose iterations
grow with the grid (`SLOW`) solve batches in 3-D only, and CG of this package is left out at a
million unknowns and more.

All preconditioners serve the same flexible CG of this package; `scipy cg` is SciPy's, one system
after the other. AMG is PyAMG with its defaults, one V-cycle. Every row states set-up and solve per
system, in wall time and in processor time: on a shared machine the latter means more. Rows of one
grid are measured in turns, and minima over the repetitions count; what takes seconds is not
repeated.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from scipy.sparse.linalg import cg
from torch import Tensor

from sciml.errors import MissingPackage
from sciml.networks.preconditioners import LearnedPreconditioner
from sciml.physics.fluids import RandomDomains
from sciml.pretrained import load_pretrained
from sciml.solvers import Status
from sciml.solvers.linear import (
    AlgebraicMultigrid,
    FlexibleCG,
    IncompleteCholesky,
    Multigrid,
    Stencil,
)

RTOL, LONGEST = 1e-6, 20_000
MOST = 5_000_000  # unknowns of a batch
LONG = 2.0  # seconds of processor time after which a side is not repeated
SLOW = ("MIC(0)", "IC(0)", "none", "scipy cg")
GRIDS = ["256x256", "512x512", "1024x1024", "64x64x64", "128x128x128"]
RESULTS = Path(__file__).parent / "results"
Make = Callable[[Stencil], Any]

SIDES: dict[str, Make] = {
    "multigrid": lambda s: Multigrid(s, dtype=torch.float32),
    "MIC(0)": IncompleteCholesky,
    "IC(0)": lambda s: IncompleteCholesky(s, modified=0.0),
    "AMG Ruge-Stuben": AlgebraicMultigrid,
    "AMG aggregation": lambda s: AlgebraicMultigrid(s, "smoothed_aggregation"),
    "none": lambda s: None,
}


def clocks() -> np.ndarray:
    """Return wall and processor time in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def systems(grid: tuple[int, ...], count: int, seed: int) -> Stencil:
    """Return irregular domains, their components found (no side has to look for them)."""
    stencil = RandomDomains().draw(count, grid, torch.Generator().manual_seed(seed)).stencil
    stencil.singular  # noqa: B018 (found here, and kept)
    return stencil


def noise(stencil: Stencil, count: int) -> Tensor:
    """Return right-hand sides `(count, *grid)`."""
    draw = torch.Generator().manual_seed(7)
    b = torch.randn(count, *stencil.grid, dtype=torch.float64, generator=draw)
    return stencil.project(torch.where(stencil.unknown, b, 0.0))


def solved(make: Make, stencil: Stencil, b: Tensor) -> dict[str, Any]:
    """Return times per system, iterations and the worst true residual of one side."""
    begin = clocks()
    preconditioner = make(stencil)
    ready = clocks()
    solver = FlexibleCG(rtol=RTOL, max_iter=LONGEST, preconditioner=preconditioner)
    out = solver(stencil.operator(b), b)
    end = clocks()
    return {
        "setup": ((ready - begin) / len(b)).tolist(),
        "solve": ((end - ready) / len(b)).tolist(),
        "iterations": float(out.iterations.double().mean()),
        "residual": true_residual(stencil, out.value, b),
        "unsolved": int((out.status != Status.CONVERGED).sum()),
    }


def scipys(stencil: Stencil, b: Tensor) -> dict[str, Any]:
    """Return the same of SciPy's CG; assembling the matrix is its set-up."""
    count, x, steps = stencil.problems.numel(), torch.zeros_like(b), []
    begin = clocks()
    matrices = [stencil.to_csr(k) for k in range(count)]
    ready = clocks()
    for k in range(len(b)):
        matrix, mask = matrices[k % count], stencil.unknown[k % count]
        steps.append(0)

        def count_step(_x: np.ndarray) -> None:
            steps[-1] += 1

        found, _ = cg(
            matrix, b[k][mask].numpy(), rtol=RTOL, atol=0, maxiter=LONGEST, callback=count_step
        )
        x[k][mask] = torch.from_numpy(found)
    end = clocks()
    return {
        "setup": ((ready - begin) / len(b)).tolist(),
        "solve": ((end - ready) / len(b)).tolist(),
        "iterations": float(np.mean(steps)),
        "residual": true_residual(stencil, x, b),
        "unsolved": 0,
    }


def true_residual(stencil: Stencil, x: Tensor, b: Tensor) -> float:
    """Return the worst relative residual."""
    left = (b - stencil.times(x)).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
    return float(left.max())


def measured(
    grid: tuple[int, ...], batch: int, sides: dict[str, Make], repeats: int
) -> list[dict[str, Any]]:
    """Return the rows of one grid."""
    one = systems(grid, 1, 11)
    cases = {"single": (one, noise(one, 1))}
    if batch * math.prod(grid) <= MOST:
        many = systems(grid, batch, 12)
        cases |= {"batch": (one, noise(one, batch)), "new matrices": (many, noise(many, batch))}
    runs = {
        name: scipys if make is scipys else functools.partial(solved, make)
        for name, make in sides.items()
    }
    cells = math.prod(grid)
    if cells >= 1_000_000:
        runs.pop("none", None)
    rows = []
    for case, (stencil, b) in cases.items():
        best: dict[str, dict[str, Any]] = {}
        for _ in range(repeats):
            for name, run in runs.items():
                if name in SLOW and len(grid) == 2 and case != "single":
                    continue
                old = best.get(name)
                if old and len(b) * (old["setup"][1] + old["solve"][1]) > LONG:
                    continue
                found = run(stencil, b)
                if old is not None:
                    for key in ("setup", "solve"):
                        found[key] = np.minimum(found[key], old[key]).tolist()
                best[name] = found
        for name, found in best.items():
            rows.append({"grid": list(grid), "case": case, "side": name, **found})
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Return a row of the table, milliseconds per system: wall time, both of processor time."""
    grid = "x".join(map(str, row["grid"]))
    setup, solve = 1e3 * row["setup"][0], 1e3 * row["solve"][0]
    spent = 1e3 * (row["setup"][1] + row["solve"][1])
    return (
        f"| {grid} | {row['case']} | {row['side']} | {row['iterations']:.1f} | {setup:.1f} | "
        f"{solve:.1f} | {setup + solve:.1f} | {spent:.1f} | {row['residual']:.1e} |"
    )


def title(threads: int) -> str:
    """Return what stands above a table."""
    return f"{threads} thread(s), milliseconds per system"


HEAD = (
    "| grid | case | side | iterations | set-up | solve | both | processor time | true residual |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure what the command line asks for and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", nargs="+", default=GRIDS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=[*SIDES, "scipy cg"])
    parser.add_argument(
        "--learned", nargs="*", default=["pressure_2d", "pressure_3d"], help="names or folders"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "linear_solvers.json")
    asked = parser.parse_args()
    every = {**SIDES, "scipy cg": scipys}
    sides = {name: every[name] for name in asked.sides}
    networks = [load_pretrained(name).network for name in asked.learned]
    try:
        AlgebraicMultigrid(systems((8, 8), 1, 0))
    except MissingPackage as error:
        print(error)
        sides = {name: make for name, make in sides.items() if not name.startswith("AMG")}
    rows: dict[str, dict[str, Any]] = {}
    if asked.out.exists():
        rows = {key(row): row for row in json.loads(asked.out.read_text())["rows"]}
    for threads in asked.threads:
        torch.set_num_threads(threads)
        print(f"\n{title(threads)}\n\n{HEAD}")
        for text in asked.grids:
            grid = tuple(int(n) for n in text.split("x"))
            mine = dict(sides)
            for network in networks:
                if network.dim == len(grid):
                    mine["learned"] = functools.partial(LearnedPreconditioner, network)
            for row in measured(grid, asked.batch, mine, asked.repeats):
                row = {"threads": threads, **row}
                rows[key(row)] = row
            keep(asked.out, rows, asked.batch)


def key(row: dict[str, Any]) -> str:
    """Return what a row is replaced by, when it is measured again."""
    return f"{row['threads']} {row['grid']} {row['case']} {row['side']}"


def keep(out: Path, rows: dict[str, dict[str, Any]], batch: int) -> None:
    """Write all rows, their tables and their picture."""
    about = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "torch": torch.__version__,
        "scipy": scipy.__version__,
        "batch": batch,
        "rtol": RTOL,
    }
    found = list(rows.values())
    out.write_text(json.dumps({"about": about, "rows": found}, indent=1))
    tables = [
        f"{title(t)}\n\n{HEAD}\n" + "\n".join(line(row) for row in found if row["threads"] == t)
        for t in sorted({row["threads"] for row in found})
    ]
    out.with_suffix(".md").write_text("\n\n".join(tables) + "\n")
    fewest = min(row["threads"] for row in found)
    picture([row for row in found if row["threads"] == fewest], out.with_suffix(".png"))


def picture(rows: list[dict[str, Any]], place: Path) -> None:
    """Draw set-up and solve of single systems per unknown, over the unknowns."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for d, ax in zip((2, 3), axes, strict=True):
        mine = [r for r in rows if len(r["grid"]) == d and r["case"] == "single"]
        for name in dict.fromkeys(r["side"] for r in mine):
            points = [r for r in mine if r["side"] == name]
            cells = [math.prod(r["grid"]) for r in points]
            cost = [
                1e6 * (r["setup"][1] + r["solve"][1]) / n
                for r, n in zip(points, cells, strict=True)
            ]
            ax.loglog(cells, cost, "o-", label=name)
        ax.set(xlabel="cells", title=f"{d}-D, one system, to a true residual of {RTOL:g}")
    axes[0].set_ylabel("set-up and solve, microseconds per cell")
    if rows:
        axes[0 if len(rows[0]["grid"]) == 2 else 1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(place, dpi=110)


if __name__ == "__main__":
    main()
