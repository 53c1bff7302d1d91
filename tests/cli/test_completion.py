"""Completion of the command line in a shell: Hydra's own, over our choices and keys."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("model=pinn_hj", {"model=pinn_hjb", "model=pinn_hjb_linear", "model=pinn_hjb_rosenbrock"}),
        ("model=pinn_hjb optimizer=kf", {"optimizer=kfac", "optimizer=kfac_star"}),
        ("model=pinn_hjb optimizer.l", {"optimizer.lr="}),
    ],
)
def test_words_are_completed(typed, wanted):
    line = f"python train.py {typed}"
    environ = {**os.environ, "COMP_LINE": line, "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "train.py", "-sc", "query=bash"],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and set(done.stdout.split()) == wanted, done.stderr
