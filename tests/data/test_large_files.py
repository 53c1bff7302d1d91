"""A file larger than memory trains in little of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import resource, sys
from pathlib import Path
from sciml.testing import runs
words = ["model=fno", f"data.path={sys.argv[1]}", "network.width=8", "network.modes=4",
         "network.layers=1", "data.memory=100", "data.periodic=true", "data.grid=left"]
trainer = {"max_steps": 40, "limit_val_batches": 1}
run = runs.fit(runs.prepare(words, Path(sys.argv[2]), trainer=trainer))
assert run.data.rows.held == (sys.argv[3] == "held"), run.data.rows.block
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def write(path: Path, count: int) -> Path:
    """Write x and y (count, 64, 64); all but some samples are holes in the file."""
    import h5py

    values = np.random.default_rng(0).normal(size=(8, 64, 64)).astype(np.float32)
    with h5py.File(path, "w") as file:
        for name in ("x", "y"):
            node = file.create_dataset(name, (count, 64, 64), "f4")
            for start in range(0, count - 8, max(8, count // 64)):
                node[start : start + 8] = values
    return path


@pytest.mark.slow
def test_four_gigabytes_train_in_less_than_one_above_a_small_file(tmp_path):
    peaks = []
    for name, count in (("held", 256), ("blocks", 2**17)):
        path = write(tmp_path / f"{name}.h5", count)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path), str(tmp_path), name],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split("PEAK")[1]))
    assert path.stat().st_size > 0 and 2**17 * 64 * 64 * 4 * 2 == 2**32
    print(f"peak memory {peaks} MB")
    assert peaks[1] - peaks[0] < 1024
