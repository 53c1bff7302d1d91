"""Time and memory of one training step of an SDGD network, beside other ways to write it.

    python benchmarks/sdgd.py [--threads 1 2] [--dims 100 1000 10000 100000 1000000]

Every cell (side, d, K, threads) is a process of its own; all cells of one size are measured in
turns, a burst of steps each, so that whatever else the machine does falls on all alike. Before
anything is timed, all sides must give the same residual. Sides that are not installed are listed
as such. Writes `sdgd.json` and `sdgd.png` and prints the tables and the targets.

Install the peers into an environment of its own: pip install -e .[bench]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from report import plot, tables, targets
from sides import ESTIMATE, FULL, SIDES

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4
PACKAGES = ("torch", "jax", "jaxlib", "optax", "deepxde", "pina-mathlab", "numpy")


class Cell:
    """A worker process for one side at one size.

    Args:
        side: Key of `SIDES`.
        case: Arguments of `Case`.
    """

    def __init__(self, side: str, case: dict) -> None:
        self.side, self.case, self.wall, self.cpu = side, case, [], []
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.answer: dict = {}
        self.send({"side": side, "case": case})

    def send(self, request: dict) -> None:
        """Hand over a request."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict:
        """Wait for the answer."""
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            return {"error": f"the process ended with code {code}"}
        return json.loads(line)

    def burst(self, seconds: float) -> None:
        """Measure about so many seconds of steps, at least one."""
        typical = statistics.median(self.wall) if self.wall else seconds
        self.send({"run": max(1, min(200, round(seconds / typical)))})
        answer = self.receive()
        if "error" in answer:
            self.answer["error"] = answer["error"]
            return
        self.wall += answer["wall"]
        self.cpu += answer["cpu"]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def row(self) -> dict:
        """Return the result as plain data."""
        row = {"side": self.side, **self.case}
        if "error" in self.answer:
            return row | {"error": self.answer["error"]}
        row |= self.answer["memory"] | {"setup_s": self.answer["setup_s"]}
        row |= {"relative_difference": self.answer["difference"], "steps": len(self.wall)}
        row["min_ms"], row["median_ms"] = 1e3 * min(self.wall), 1e3 * statistics.median(self.wall)
        row["cpu_min_ms"], row["cpu_median_ms"] = (
            1e3 * min(self.cpu),
            1e3 * statistics.median(self.cpu),
        )
        return row


def start(sides: list[str], cases: list[dict], together: bool) -> list[Cell]:
    """Start workers and wait until each has done its first steps."""
    cells = []
    for side, case in zip(sides, cases, strict=True):
        cells.append(Cell(side, case))
        if not together:
            cells[-1].answer = cells[-1].receive()
    if together:
        for cell in cells:
            cell.answer = cell.receive()
    return cells


def verify(cells: list[Cell]) -> None:
    """Compare every residual with that of the side it must equal.

    Raises:
        SystemExit: If one differs: its time would mean nothing.
    """
    known = {(c.side, c.case["sampled"]): c.answer.get("residual") for c in cells}
    for cell in cells:
        if "error" in cell.answer:
            continue
        reference = known.get((SIDES[cell.side].reference, cell.case["sampled"]))
        if reference is None:
            cell.answer["error"] = "its reference did not run"
            continue
        r, r0 = np.array(cell.answer["residual"]), np.array(reference)
        cell.answer["difference"] = float(np.linalg.norm(r - r0) / np.linalg.norm(r0))
        if not cell.answer["difference"] < TOLERANCE:
            for c in cells:
                c.close()
            raise SystemExit(
                f"{cell.side} at {cell.case}: residual differs by {cell.answer['difference']:.1e}"
            )


def measure(sides: list[str], cases: list[dict], options: argparse.Namespace) -> list[dict]:
    """Measure sides of one size in turns and return their rows."""
    cells = start(sides, cases, options.together)
    verify(cells)
    for _ in range(options.rounds):
        for cell in cells:
            if "error" not in cell.answer:
                cell.burst(options.seconds / options.rounds)
    for cell in cells:
        cell.close()
    rows = [cell.row() for cell in cells]
    for row in rows:
        print("  " + describe(row), flush=True)
    return rows


def describe(row: dict) -> str:
    """Return one row as a line."""
    head = f"{SIDES[row['side']].label:28s} d={row['dim']:<8d} K={row['sampled']:<4d}"
    if "error" in row:
        return f"{head} {row['error']}"
    return (
        f"{head} {row['min_ms']:9.2f} ms (median {row['median_ms']:.2f}, "
        f"processor {row['cpu_min_ms']:.2f}), "
        f"{row['steady_mb']:.0f} MB more, first step {row['extra_mb']:.0f} MB"
    )


def groups(dim: int, options: argparse.Namespace) -> list[list[tuple[str, int, int]]]:
    """Return what is measured in turns at one d: lists of (side, points, sampled)."""
    points = options.points if dim < 1_000_000 else options.points_largest
    chosen = [s for s in ESTIMATE if s in options.sides and dim <= SIDES[s].largest]
    estimate = [(s, points, min(16, dim)) for s in chosen]
    if dim == 100_000:
        estimate += [(s, points, 64) for s in ("sciml", "sciml_compiled") if s in chosen]
    out = [estimate]
    if dim >= 1_000_000:  # several GB each: the form of the package and the published form apart
        lifted = [e for e in estimate if "sampled_lift" in e[0]]
        out = [[e for e in estimate if e not in lifted], lifted]
    if dim == 100:
        out.append([(s, points, dim) for s in FULL if s in options.sides])
    return [g for g in out if g]


def environment() -> dict:
    """Return what the figures depend on besides the code."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "load_before": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    dims = [100, 1_000, 10_000, 100_000, 1_000_000]
    parser.add_argument("--dims", type=int, nargs="+", default=dims)
    peers = [s for s in SIDES if not s.startswith("sciml")]
    parser.add_argument("--peers", nargs="*", choices=peers, default=peers)
    parser.add_argument("--points", type=int, default=100, help="collocation points per step")
    parser.add_argument("--points-largest", type=int, default=16, help="the same from d = 10^6 on")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time per cell")
    parser.add_argument("--rounds", type=int, default=8, help="turns of every cell")
    parser.add_argument("--together", action="store_true", help="start the workers side by side")
    parser.add_argument("--keep", action="store_true", help="keep rows of other sizes")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    options.sides = [s for s in SIDES if s.startswith("sciml") or s in options.peers]
    return options


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    results = {"environment": environment(), "rows": []}
    file = options.out / "sdgd.json"
    if options.keep and file.exists():
        before = json.loads(file.read_text())
        again = {(threads, dim) for threads in options.threads for dim in options.dims}
        results["rows"] = [r for r in before["rows"] if (r["threads"], r["dim"]) not in again]
    results["settings"] = {"seconds": options.seconds, "rounds": options.rounds}
    for threads in options.threads:
        for dim in options.dims:
            for group in groups(dim, options):
                kind = "full Laplacian" if group[0][2] == dim else f"K = {group[0][2]}"
                print(f"threads = {threads}, d = {dim}, N = {group[0][1]}, {kind}", flush=True)
                cases = [
                    {"dim": dim, "points": n, "sampled": k, "threads": threads} for _, n, k in group
                ]
                rows = measure([side for side, _, _ in group], cases, options)
                results["rows"] += [r | {"load": os.getloadavg()[0]} for r in rows]
    results["environment"]["load_after"] = os.getloadavg()
    results["targets"] = targets(results["rows"])
    print(tables(results["rows"], results["targets"]))
    options.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    plot(results["rows"], options.out / "sdgd.png")


if __name__ == "__main__":
    main()
