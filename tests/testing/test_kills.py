"""Ninety kills, half of them in the folders of older runs. Takes a quarter of an hour."""

import json
import random
import subprocess
import sys

import pytest
import torch

from sciml.testing import finished_runs, kills

POINTS = "data.points=64 data.condition_points=16 network.width=16"
WALKS = (
    "data.nodes=20 data.pool=16 data.batch_size=4 data.val_count=2 data.val_walks=4 "
    "data.test_count=2 network.width=4 network.modes=4"
)
FIELDS = (
    "data.problem.n=20 data.train=16 data.val=4 data.test=4 data.hard=4 data.batch_size=4 "
    "network.width=8 network.modes=4"
)
MODELS = (
    f"pinn_poisson2d optimizer=kfac {POINTS}",
    f"pinn_poisson2d optimizer=engd {POINTS}",
    "pinn_hjb problem.dim=20 data.val_points=32 data.points=16 network.width=16",
    "deq_digits data.batch_size=8 network.width=8",
    "homoode_digits data.batch_size=8 network.width=8",
    "cgs_chains data.source.chains=4 data.source.length=20",
    f"fno_deq_semilinear {FIELDS}",
    f"wos_poisson2d {WALKS}",
    f"pino_poisson2d {WALKS}",
)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda line: "-".join(line.split()[:2]))
def test_killed_runs_end_as_if_nothing_had_happened(model):
    command = [sys.executable, "-m", "sciml.testing.kills", f"{model} callbacks.plots=null"]
    done = subprocess.run(command, capture_output=True, text=True)  # forks: without our threads
    found = json.loads(done.stdout)
    assert found["wrong"] == [] and found["identical"] == found["kills"] == 10
    assert found["used"] == 5 and found["before"] <= 3


def test_what_is_compared():
    a, b = {"x": [torch.ones(2), (1, "y")]}, {"x": [torch.ones(2), (1, "y")]}
    assert finished_runs.same(a, b)
    b["x"][0] = torch.tensor([1.0, 1.0 + 2**-23])
    assert not finished_runs.same(a, b)
    assert kills.end(kills.start(["model=nothing"])) == 2


def test_what_tells_the_time_is_not_compared(tmp_path):
    names = ("train/samples_per_s", "train/walk_share", "curvature/share")
    names += ("data/share_of_time_reading", "train/grad_norm")
    (tmp_path / "metrics.csv").write_text(",".join(("step", *names)) + "\n0,1,2,3,4,5\n")
    assert finished_runs.rows(tmp_path) == [{"step": "0", "train/grad_norm": "5"}]


def test_moments_are_spread_over_the_whole_run():
    times = [0.0, 4.0, *(4.0 + 0.1 * i for i in range(1, 15)), 6.0]  # 15 rows, and the end
    draws = [random.Random(number) for number in range(10)]
    found = [kills.moment(number, 10, times, draw) for number, draw in enumerate(draws)]
    assert found[0].rows == 0 and found[0].delay < 4.0 and found[1].file == "metrics.json"
    assert sum(moment.rows > 0 for moment in found) == 8
    assert [moment.rows for moment in found] == sorted(moment.rows for moment in found)
    assert found[2].rows <= 2 and found[9].rows >= 14
    assert sum(moment.file == "checkpoints/.last.draft" for moment in found) == 4


def folder(path, seed, status, value=1.0):
    """Return a run folder that holds a record and a row."""
    path.mkdir()
    said = {"seed": seed, "status": status, "seconds": {}, "metrics": {"x": value, "x_per_s": seed}}
    (path / "metrics.json").write_text(json.dumps(said))
    (path / "metrics.csv").write_text("step,x\n0,1.0\n")
    return path


def test_a_record_is_compared_with_what_was_killed(tmp_path):
    whole, old = folder(tmp_path / "whole", 0, "completed"), folder(tmp_path / "old", 77, "failed")
    cases = {
        "running": (0, "running", None),
        "over": (0, "completed", None),
        "early": (0, "completed", "completed, but it was killed"),
        "ended": (0, "failed", "failed, but it was killed"),
        "untouched": (77, "failed", None),
    }
    for name, (seed, status, wanted) in cases.items():
        found = folder(tmp_path / name, seed, status, 0.5 if name == "early" else 1.0)
        assert finished_runs.untruth(found, whole, old) == wanted, name
    assert finished_runs.untruth(tmp_path / "untouched", whole, None) == "the record of seed 77"
    (tmp_path / "untouched" / "metrics.csv").unlink()
    assert "is not whole" in finished_runs.untruth(tmp_path / "untouched", whole, old)
    (tmp_path / "running" / "metrics.json").unlink()
    assert finished_runs.untruth(tmp_path / "running", whole, old) == "metrics without a record"
