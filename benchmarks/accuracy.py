"""Accuracy of the PINN models against the figures to reach: every row a command of `train.py`.

    python benchmarks/accuracy.py                 # all rows, three seeds (hours on two cores)
    python benchmarks/accuracy.py --rows hjb sg   # rows whose name starts so
    python benchmarks/accuracy.py --list

Prints, per row, metric, limit, the seeds' values and wall times of the whole command, and writes
them to benchmarks/results/accuracy.json, where rows of earlier calls are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"


@dataclass(frozen=True)
class Row:
    """One figure to reach.

    Attributes:
        name: Short name.
        command: Arguments of `train.py`.
        limits: Metric to the largest value accepted.
        seconds: Wall time allowed for the whole command, None where none was set.
        seeds: Seeds to run.
    """

    name: str
    command: str
    limits: dict[str, float]
    seconds: float | None = None
    seeds: tuple[int, ...] = (0, 1, 2)


SG = "model=pinn_sine_gordon"
CENTRED = f"{SG} problem.centred=true"
PAIRS = f"{CENTRED} network=pairs module.inputs=[x]"
FEATURES = "estimator=exact module.inputs=[t,terminal] network.width=64 optimizer.lr=3e-3"
ROWS = (
    # The defaults.
    Row("hjb_100", "model=pinn_hjb", {"test/rel_l2": 1e-3}, 180),
    Row("hjb_1000", "model=pinn_hjb problem.dim=1000", {"test/rel_l2": 1e-3}, 300),
    Row("hjb_rosenbrock_100", "model=pinn_hjb_rosenbrock", {"test/skill": 0.1}, 180),
    Row(
        "hjb_100_features",
        f"model=pinn_hjb {FEATURES} data.points=200 trainer.max_steps=4000",
        {"test/rel_l2": 5e-4},
    ),
    # Sheet, section 10: steps and dimensions as stated there.
    Row(
        "sg_10_all",
        f"{SG} problem.dim=10 estimator.num_dims=10 trainer.max_steps=4000",
        {"test/rel_l2": 8e-3},
    ),
    Row(
        "sg_10_biased",
        f"{SG} problem.dim=10 estimator.num_dims=4 trainer.max_steps=4000",
        {"test/rel_l2": 1.5e-2},
    ),
    Row(
        "sg_10_unbiased",
        f"{SG} problem.dim=10 estimator.num_dims=4 estimator.algorithm=2 trainer.max_steps=4000",
        {"test/rel_l2": 1.5e-2},
    ),
    Row(
        "sg_20",
        f"{SG} problem.dim=20 estimator.num_dims=8 trainer.max_steps=4000",
        {"test/rel_l2": 8e-3},
    ),
    Row(
        "sg_100",
        f"{SG} problem.dim=100 trainer.max_steps=2500",
        {"test/rel_l2": 1.2e-2, "test/skill": 0.2},
    ),
    Row("sg_centred_100", f"{CENTRED} problem.dim=100 trainer.max_steps=4000", {"test/skill": 0.2}),
    Row(
        "sg_centred_1000",
        f"{CENTRED} problem.dim=1000 trainer.max_steps=2500",
        {"test/skill": 0.12},
    ),
    Row(
        "hjb_20",
        "model=pinn_hjb problem.dim=20 estimator.num_dims=8 trainer.max_steps=2500",
        {"test/rel_l2": 2.5e-2},
    ),
    Row("hjb_100_short", "model=pinn_hjb trainer.max_steps=2500", {"test/rel_l2": 2e-2}),
    # Centred two-body problem: a perceptron, then a network that sees pairs.
    Row(
        "centred_1000_mlp",
        f"{CENTRED} problem.dim=1000 trainer.max_steps=2500",
        {"test/skill": 0.065},
        60,
    ),
    Row("centred_1000_pairs", f"{PAIRS} problem.dim=1000", {"test/skill": 0.05}, 60),
    Row(
        "centred_10000_mlp",
        f"{CENTRED} problem.dim=10000 trainer.max_steps=2500",
        {"test/skill": 0.08},
        180,
    ),
    Row("centred_10000_pairs", f"{PAIRS} problem.dim=10000", {"test/skill": 0.08}, 180),
    # Least squares by stochastic gradients: lr = points / (8 scale^2) removes the error of the
    # points seen; a small scale keeps squares from slowing the linear part.
    Row(
        "centred_100000_pairs",
        f"{PAIRS} problem.dim=100000 problem.radius_power=8 network.scale=60 optimizer=sgd "
        "optimizer.lr=3.5e-3 optimizer.momentum=0 optimizer.nesterov=false trainer.max_steps=4500",
        {"test/skill": 0.5},
        1800,
        (0,),
    ),
)


def run(row: Row, seed: int, threads: int) -> dict:
    """Run one command in a fresh process and return its metrics and wall time."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "train.py"), *row.command.split()]
        command += [f"seed={seed}", f"hydra.run.dir={folder}/run"]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{row.name}, seed {seed}: exit code {done.returncode}\n{done.stderr}")
        record = json.loads(Path(folder, "run", "metrics.json").read_text())
    return {"seed": seed, "seconds": round(seconds, 1), "metrics": record["metrics"]}


def report(row: Row, runs: list[dict]) -> str:
    """Return one line per limit: values, limit, met or not, wall times."""
    lines = []
    for metric, limit in row.limits.items():
        values = [r["metrics"][metric] for r in runs]
        met = all(v <= limit for v in values)
        met &= row.seconds is None or all(r["seconds"] <= row.seconds for r in runs)
        shown = " ".join(f"{v:.3e}" for v in values)
        walls = " ".join(f"{r['seconds']:.0f}" for r in runs)
        allowed = f" of {row.seconds:.0f}" if row.seconds else ""
        verdict = "met" if met else "MISSED"
        lines.append(
            f"{row.name:22} {metric:12} <= {limit:.1e}  {shown}  [{walls} s{allowed}]  {verdict}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=[""], help="names, or how names begin")
    parser.add_argument("--seeds", nargs="*", type=int, help="instead of each row's own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    args = parser.parse_args()
    rows = [r for r in ROWS if any(r.name.startswith(prefix) for prefix in args.rows)]
    if args.list:
        for row in rows:
            print(f"{row.name:22} python train.py {row.command}")
        return 0
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    for row in rows:
        runs = [run(row, seed, args.threads) for seed in args.seeds or row.seeds]
        print(report(row, runs), flush=True)
        stored["rows"][row.name] = {
            "command": f"python train.py {row.command}",
            "limits": row.limits,
            "threads": args.threads,
            "runs": runs,
        }
        stored["machine"] = {"processor": platform.machine(), "cores": os.cpu_count()}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
