"""Ten-fold accuracy of graph classification, honest and optimistic.

    python benchmarks/graph_folds.py                                  # the offline motif graphs
    python benchmarks/graph_folds.py data=tu data.source.name=MUTAG data.source.root=FOLDER

Runs `python train.py model=cgs_tu ... data.fold=k` for every fold and prints mean and standard
deviation over the folds of

    nested      accuracy at the step with the lowest validation loss,
    optimistic  the highest accuracy on the tested fold, as published tables report,
    last        accuracy of the weights at the end.

Some tables choose one common step by the mean accuracy over folds, which is less optimistic.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "nested": "test/accuracy_nested",
    "optimistic": "test/accuracy_optimistic",
    "last": "test/accuracy",
}


def metrics(words: list[str], fold: int, folder: Path) -> dict[str, float]:
    """Return the metrics of one fold."""
    run = [f"data.fold={fold}", f"hydra.run.dir={folder}"]
    command = [sys.executable, str(ROOT / "train.py"), "model=cgs_tu", *words, *run]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def main() -> None:
    """Run all folds and print the table."""
    words, folds = sys.argv[1:], 10
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(folds):
            found.append(metrics(words, fold, Path(folder) / str(fold)))
            shown = "  ".join(f"{n} {found[-1][key]:.3f}" for n, key in NAMES.items())
            print(f"fold {fold}: {shown}", flush=True)
    for name, key in NAMES.items():
        values = [run[key] for run in found]
        print(f"{name:<10}  {100 * mean(values):.1f} +- {100 * stdev(values):.1f} %")


if __name__ == "__main__":
    main()
