"""Convergent graph solvers: edge lists against dense matrices and sparse factors, on one thread.

    python benchmarks/cgs.py                 # about ten minutes; results/cgs.json, results/cgs.png
    python benchmarks/cgs.py step solve      # some parts only
    python benchmarks/cgs.py growth --fresh  # forget the rows of earlier runs

* `step`: a training step on 32 decision graphs, see `benchmarks/cgs_step.py`.
* `solve`: 8 graphs of 128 nodes, 16 heads, six edges per node, gamma 0.99, float32: the forward
  solve and that of the adjoint. Plain iteration beside it.
* `growth`: one head on cubic lattices of 1000 to 1 000 000 nodes, conductances over two decades,
  gamma 0.99, float64 to 1e-8: this package's solve on edges, forward and backward; scipy's sparse
  LU; a dense solve. Every cell is a process with a limit on processor time and memory; one that
  exceeds it is a cell that says so, and larger sizes are not tried. Cells are written as soon as
  they are there, and a run that was interrupted goes on where it stopped.

Times are processor times of the process, minima over interleaved repetitions (one in `growth`). On
a shared machine the ratios still mean something, the milliseconds little.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import scipy
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from cgs_step import fastest, step
from torch import Tensor

from sciml.networks.graph.graph_layers import Edges
from sciml.networks.graph.graph_solve import EdgeOperator, EdgeSolver, equilibrium, error_bound
from sciml.solvers import Segments

SIDES = (10, 16, 25, 40, 63, 100)
METHODS = ("edges", "sparse LU", "dense")
GAMMA = 0.99
SECONDS = 180  # processor time a cell may take
GIGABYTES = 8  # and memory
RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "cgs.json"


# --- a solve --------------------------------------------------------------------------------------
def solve() -> dict:
    """Return times of solves at gamma = 0.99."""
    generator = torch.Generator().manual_seed(0)
    graphs, nodes, heads, degree, gamma = 8, 128, 16, 6, 0.99
    target = torch.arange(graphs * nodes).repeat_interleave(degree)
    source = torch.randint(0, nodes, (len(target),), generator=generator) + target // nodes * nodes
    batch = torch.arange(graphs * nodes) // nodes
    edges = Edges.build(torch.stack([source, target]), graphs * nodes, batch)
    m = gamma * edges.softmax(torch.randn(len(target), heads, generator=generator))
    b, g = torch.randn(2, graphs * nodes, heads, generator=generator)
    operator = EdgeOperator(edges, m, Segments(batch, graphs, per_column=True))
    found: dict = {"graphs": graphs, "nodes": nodes, "heads": heads, "gamma": gamma}
    runs, outcomes = {}, {}
    for method in ("bicgstab", "dense", "iterate"):
        solver = EdgeSolver(operator, method, factor=gamma, rtol=1e-5)

        def forward(solver: EdgeSolver = solver) -> object:
            operator.factors.clear()
            return solver(operator, b)

        runs[f"{method} forward"] = forward
        runs[f"{method} adjoint"] = lambda solver=solver: solver(operator.T, g)
        outcomes[method] = forward()
    exact = EdgeSolver(
        EdgeOperator(edges, m.double(), operator.layout), "bicgstab", factor=gamma, rtol=1e-12
    )
    want = exact(exact.operator, b.double()).value
    found["ms"] = fastest(runs, 10)
    found["adjoint_over_forward"] = (
        found["ms"]["bicgstab adjoint"] / found["ms"]["bicgstab forward"]
    )
    for method, out in outcomes.items():
        found[method] = {
            "iterations": int(out.iterations.max()),
            "solved": bool((out.status == 0).all()),
            "relative_error": float((out.value - want).abs().max() / want.abs().max()),
        }
    return found


# --- growth ---------------------------------------------------------------------------------------
def lattice(side: int) -> np.ndarray:
    """Return directed edges `(2, E)` of a cubic lattice, both ways."""
    number = np.arange(side**3).reshape(side, side, side)
    pairs = []
    for axis in range(3):
        low = np.delete(number, -1, axis).ravel()
        high = np.delete(number, 0, axis).ravel()
        pairs += [np.stack([low, high]), np.stack([high, low])]
    return np.concatenate(pairs, 1)


def problem(side: int) -> tuple[Edges, Tensor, Tensor]:
    """Return edges, entries of M `(E, 1)` and right-hand side `(N, 1)` on a lattice."""
    generator = torch.Generator().manual_seed(side)
    edges = Edges.build(torch.from_numpy(lattice(side)), side**3)
    logits = 2.3 * torch.randn(len(edges.row), 1, generator=generator, dtype=torch.float64)
    b = torch.randn(side**3, 1, generator=generator, dtype=torch.float64)
    return edges, GAMMA * edges.softmax(logits), b


def cell(side: int, method: str) -> dict:
    """Return seconds of one solve and a bound on its relative error in the max-norm."""
    if side > 4:
        cell(4, method)  # what is slow once in a process
    edges, m, b = problem(side)
    n, out = len(b), {}
    if method == "sparse LU":
        a = sp.coo_matrix((m[:, 0].numpy(), (edges.row.numpy(), edges.col.numpy())), (n, n))
        a = (sp.eye(n) - a).tocsc()
        start = time.thread_time()
        h = torch.from_numpy(spla.splu(a).solve(b[:, 0].numpy()))[:, None]
        out["seconds"] = time.thread_time() - start
    elif method == "dense":
        full = torch.eye(n, dtype=torch.float64)
        full.index_put_((edges.row, edges.col), -m[:, 0], accumulate=True)
        start = time.thread_time()
        h = torch.linalg.solve(full, b)
        out["seconds"] = time.thread_time() - start
    else:
        m.requires_grad_(), b.requires_grad_()
        start = time.thread_time()
        settings = {"factor": GAMMA, "method": "bicgstab", "rtol": 1e-8}
        found = equilibrium(edges, m, b, **settings, on_failure="raise")
        out["seconds"] = time.thread_time() - start
        found.value.square().sum().backward()
        out["backward_seconds"] = time.thread_time() - start - out["seconds"]
        out["iterations"] = int(found.iterations.max())
        m, b, h = m.detach(), b.detach(), found.value.detach()
    rest = (b - h + edges.propagate(m, h)).abs().max()
    out["error_bound"] = float(error_bound(edges, m, rest).max() / h.abs().max())
    return out


def measured(side: int, method: str) -> dict:
    """Return what `cell` says in a process of its own, or why there is nothing."""

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))

    words = [sys.executable, __file__, "cell", str(side), method]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limits)
    if done.returncode == 0:
        return json.loads(done.stdout)
    if done.returncode == -signal.SIGXCPU:
        return {"failed": f"more than {SECONDS} s"}
    # factorisations that get no memory raise, or die of it
    if done.returncode < 0 or "emory" in done.stderr:
        return {"failed": f"more than {GIGABYTES} GB"}
    raise SystemExit(done.stderr)


def growth(found: dict) -> dict:
    """Return times of solves on lattices of growing size; cells in `found` are not repeated."""
    settings = {"gamma": GAMMA, "seconds_allowed": SECONDS, "gigabytes_allowed": GIGABYTES}
    rows = found.get("growth", {}).get("rows", [])
    failed: dict[str, int] = {}
    for side in SIDES:
        row = next((row for row in rows if row["nodes"] == side**3), None)
        if row is None:
            row = {"nodes": side**3, "edges": 6 * side**2 * (side - 1), "cells": {}}
            rows.append(row)
        for method in METHODS:
            if method in failed:
                reason = f"not tried, {failed[method]} nodes were too many"
                row["cells"][method] = {"failed": reason}
            elif method not in row["cells"]:
                row["cells"][method] = measured(side, method)
            if "failed" in row["cells"][method]:
                failed.setdefault(method, side**3)
            write(found | {"growth": settings | {"rows": rows}})
        print(json.dumps(row), flush=True)
    first, last = rows[-3], rows[-1]
    power = math.log(_seconds(last) / _seconds(first)) / math.log(last["edges"] / first["edges"])
    return settings | {"rows": rows, "exponent_of_edges": power}


def _seconds(row: dict, method: str = "edges") -> float:
    return row["cells"][method].get("seconds", math.nan)


# --- results --------------------------------------------------------------------------------------
def plot(growth: dict, path: Path) -> None:
    """Draw seconds over nodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    nodes = [row["nodes"] for row in growth["rows"]]
    for method in METHODS:
        seconds = [_seconds(row, method) for row in growth["rows"]]
        label = "on edges" if method == "edges" else method
        axes.loglog(nodes, seconds, "o-", label=label, markersize=4)
    axes.set(xlabel="nodes", ylabel="seconds, one core", title="Solve on a cubic lattice")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def table(growth: dict) -> str:
    """Return the cells of `growth` as a table in Markdown."""
    lines = ["| nodes | edges | on edges | " + " | ".join(METHODS[1:]) + " |", "|---" * 5 + "|"]
    for row in growth["rows"]:
        cells = [row["cells"][method] for method in METHODS]
        shown = [c["failed"] if "failed" in c else f"{c['seconds']:.3g} s" for c in cells]
        lines.append("| " + " | ".join([str(row["nodes"]), str(row["edges"]), *shown]) + " |")
    return "\n".join(lines)


def write(found: dict) -> None:
    """Store what was found, with the machine."""
    found["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "torch": torch.__version__,
        "scipy": scipy.__version__,
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Run the parts asked for, and keep what was found before of the others."""
    torch.set_num_threads(1)
    words = sys.argv[1:]
    if words[:1] == ["cell"]:
        print(json.dumps(cell(int(words[1]), words[2])))
        return
    fresh = "--fresh" in words
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    parts = [word for word in words if word != "--fresh"] or ["step", "solve", "growth"]
    if fresh and "growth" in parts:
        found.pop("growth", None)
    for name in parts:
        done = growth(found) if name == "growth" else {"step": step, "solve": solve}[name]()
        found[name] = done | {"load": round(os.getloadavg()[0], 1)}
        write(found)
        if name == "growth":
            print(table(done))
            plot(done, RESULTS / "cgs.png")
        else:
            print(name, json.dumps(found[name], indent=1))


if __name__ == "__main__":
    main()
