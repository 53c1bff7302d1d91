"""The contract of every method, on the operators of steady problems."""

import math

import pytest
import torch

from sciml.testing import runs
from sciml.testing.contract import ModuleContract

SMALL = (
    "network.width=4",
    "network.hidden=8",
    "network.modes=2",
    "data.problem.n=8",
    "data.train=16",
    "data.val=4",
    "data.test=4",
    "data.hard=4",
    "data.batch_size=4",
    "optimizer.lr=1e-2",
    "schedule.warmup=0",
)
SMOOTH = ("data.problem.cutoff=1.0",)
TIGHT = ("solver.rtol=1e-6", "adjoint.linear.rtol=1e-6", "adjoint.linear.max_iter=50")


def model(name, *words):
    return [f"model=fno_deq_{name}", *SMALL, *words]


class TestModels(ModuleContract):
    waits = {"semilinear": 8, "darcy": 8, "navier_stokes": 8}
    waits |= {"contraction": 7, "broyden_phantom": 3}
    slow_cases = ("darcy", "navier_stokes", "contraction", "broyden_phantom")
    cases = {
        "semilinear": model("semilinear", *SMOOTH, *TIGHT, "solver.max_iter=60"),
        "darcy": model("darcy"),
        "navier_stokes": model("navier_stokes", *SMOOTH),
        "contraction": model("semilinear", *SMOOTH, "network.contraction=0.9", "data.noise=0.1"),
        "fno": model("semilinear", *SMOOTH, "network=fno"),
        "broyden_phantom": model("semilinear", *SMOOTH)[:-1]
        + [*SMOOTH, "solver=broyden", "adjoint=phantom"],
    }
    overfit = (40, 0.6)
    optimizer_cases = ("semilinear",)
    rank_cases = ("semilinear", "fno")


def finished(tmp_path, *words):
    run = runs.fit(runs.prepare(model("semilinear", *SMOOTH, *words), tmp_path))
    run.trainer.test(run.module, run.data, verbose=False)
    return run


def test_both_test_sets_are_scored_and_the_budget_read_off(tmp_path):
    words = ("trainer.max_steps=3", "solver.max_iter=60", "module.budgets=[1,4,16]")
    run = finished(tmp_path, *words)
    found = run.module.test_report["metrics"]
    for part in ("test", "test_hard"):
        assert {f"{part}/rel_l2", f"{part}/deq/iters_mean", f"{part}/ten_times_change"} <= set(
            found
        )
    curve = run.module.test_report["curves"]["budget"]
    assert curve["x"] == [1, 4, 16]
    assert set(curve["y"]) == {"test", "test_hard"}
    # the error after one evaluation, by hand
    data, network = run.data, run.module.network.eval()
    batch = data.test_chunk(0).to("cpu", torch.float32)
    with torch.no_grad():
        g = network.lifted(batch.inputs["field"])
        u = network.decoded(network.map(g, g, *network.layer.kernel()))
    error = (u - batch.target).flatten(1).norm(dim=1) / batch.target.flatten(1).norm(dim=1)
    assert curve["y"]["test"][0] == pytest.approx(float(error.mean()), rel=1e-4)
    assert found["test/ten_times_change"] < 1e-3


def test_explicit_network_has_no_budget(tmp_path):
    run = finished(tmp_path, "network=fno", "trainer.max_steps=1")
    assert "curves" not in run.module.test_report
    assert math.isfinite(run.module.test_report["metrics"]["test_hard/rel_l2"])
