"""The contract of every method, on operators whose output obeys an equation."""

import math

import pytest
import torch

from sciml.data.batch import Batch
from sciml.errors import ConfigError, InvalidArgument
from sciml.pretrained import load_pretrained
from sciml.testing import runs
from sciml.testing.contract import ModuleContract

SMALL = (
    "network.width=6",
    "network.hidden=8",
    "network.modes=2",
    "network.blocks=2",
    "data.train=12",
    "data.val=2",
    "data.test=3",
    "data.references=4",
    "data.batch_size=3",
    "optimizer.lr=1e-2",
    "schedule.warmup=0",
    "trainer.precision=64-true",
)
COLUMN = ("data.problem.cells=12", "data.problem.time_count=8")
HARD = ("network.functions=4",)
TIGHT = ("solver.rtol=1e-8", "solver.max_iter=40")


def model(name, *words):
    return [f"model={name}", *SMALL, *words]


COLUMN_CASE = [
    *model("moe_diffusion_sorption", *COLUMN, *HARD, *TIGHT),
    "network.constraint.experts=2",
    "network.constraint.points=20",
    "network.constraint.overlap=1",
]
DARCY_CASE = model("moe_darcy", *HARD, "data.problem.cells=8")


class TestModels(ModuleContract):
    waits = {"moe_column": 18, "moe_darcy": 4}
    cases = {
        "moe_column": COLUMN_CASE,
        "moe_darcy": DARCY_CASE,
    }
    overfit = (30, 0.7)
    optimizer_cases = ()
    rank_cases = ("moe_darcy",)


@pytest.mark.slow
class TestFurtherModels(ModuleContract):
    cases = {
        "moe_darcy": DARCY_CASE,
        "pisc_column": model("pisc_diffusion_sorption", *COLUMN),
        "moe_flow": model("moe_navier_stokes", *HARD, *TIGHT, "data.problem.points=24")
        + ["data.problem.time_count=6", "data.problem.horizon=0.5"]
        + ["network.constraint.points=60", "module.balance=0.01", "module.loss_points=100"],
        "pihc_burgers": model("pihc_burgers", *HARD, *TIGHT, "data.problem.points=32")
        + ["data.problem.time_count=6", "module.loss=norm"],
        "experts_over_ranks": [*COLUMN_CASE, "network.constraint.expert_ranks=2"],
    }
    overfit = (30, 0.7)
    optimizer_cases = ("moe_darcy",)
    rank_cases = ("experts_over_ranks",)


def finished(tmp_path):
    trainer = {"max_steps": 1, "limit_val_batches": 0}
    run = runs.fit(runs.prepare(COLUMN_CASE, tmp_path, callbacks=["export"], trainer=trainer))
    run.trainer.test(run.module, run.data, verbose=False)
    return run


def test_every_expert_is_reported_in_and_beyond_the_horizon_beside_baselines(tmp_path):
    run = finished(tmp_path)
    found, others = (run.module.test_report[key] for key in ("metrics", "baselines"))
    for part in ("test", "test_beyond"):
        assert {f"{part}/rel_l2", f"{part}/residual", f"{part}/jump"} <= set(found)
        for k in range(2):
            name = f"{part}/constraint/expert_{k}"
            assert {f"{name}/fail_frac", f"{name}/iters_mean", f"{name}/residual"} <= set(found)
    assert {"constant", "nearest", "pod_regression", "pod_constrained"} <= set(others)
    curve = run.module.test_report["curves"]["error_over_time"]
    assert curve["x"] == run.data.problem.times.tolist()
    # by hand: what lies beyond the levels of training
    data, network = run.data, run.module.network.eval()
    field, u = data.inputs["test"], data.targets["test"]
    with torch.no_grad():
        v = network(field)
    late = slice(data.levels, None)
    over_time = (v - u).square().sum((0, 2)) / u.square().sum((0, 2))
    torch.testing.assert_close(
        torch.tensor(curve["y"]["test"]).double(), over_time.sqrt(), rtol=1e-6, atol=1e-9
    )
    error = (v - u)[:, late].flatten(1).norm(dim=1) / u[:, late].flatten(1).norm(dim=1)
    assert data.levels < u.shape[1]
    assert found["test_beyond/rel_l2"] == pytest.approx(float(error.mean()), rel=1e-6)


def test_baselines_know_the_solutions_they_were_given(tmp_path):
    run = runs.prepare(COLUMN_CASE, tmp_path)
    data, others = run.data, run.module._others
    others.learn()
    batch = data.test_chunk(0)
    known = Batch({"field": data.inputs["train"][:4]}, data.references, batch.streams, 4)
    others.add(known, slice(None))
    found = others.metrics()
    assert found["test/baseline/nearest"] == 0.0
    assert found["test/baseline/pod_regression"] < 1e-6
    assert found["test/baseline/pod_constrained"] < 0.05


def test_a_pretrained_operator_solves_its_constraint_and_says_how_well(tmp_path):
    run = finished(tmp_path)
    operator = load_pretrained(tmp_path)
    field, times = run.data.inputs["test"], run.data.problem.times
    found = operator.predict(field=field)
    assert found["value"].shape == (3, 8, 12)
    assert found["status"].shape == found["iterations"].shape == (3, 2)
    assert found["expert_residual"].shape == (3, 2)
    assert (found["rank"] == 4).all()  # four functions, none a combination of the others
    assert torch.equal(found["converged"], found["status"] == 0)
    layer = operator.network.patient
    size = layer.residual(found["value"], field).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found["residual"], size, rtol=1e-10, atol=1e-12)
    later = 500.0 * (torch.arange(11) / 7) ** 2  # graded as in training, and further
    torch.testing.assert_close(later[:8].double(), times, rtol=1e-6, atol=0)
    longer = operator.predict(field=field, times=later)
    assert longer["value"].shape == (3, 11, 12)
    with pytest.raises(InvalidArgument, match="the times that the operator was trained with"):
        operator.predict(field=field, times=later / 2)


def test_short_names_of_a_model_are_its_keys():
    short = runs.compose(["model=moe_burgers", "experts=2", "split=time"])
    full = ["network.constraint.experts=2", "network.constraint.split=time"]
    assert short == runs.compose(["model=moe_burgers", *full])
    with pytest.raises(ConfigError, match="experts is unknown"):
        runs.compose(["model=pihc_burgers", "experts=2"])


def test_a_rollout_begins_where_the_last_round_ended(tmp_path):
    run = finished(tmp_path)
    network = load_pretrained(tmp_path).network
    field = run.data.inputs["test"]
    first, second = network.rollout(field, 2)
    alone = network.solve(first.value[:, -1:])
    assert torch.equal(second.value, alone.value)
    assert second.status.shape == (3, 2)


def test_one_expert_and_the_penalty_are_the_same_module():
    moe, hard, soft = (
        runs.compose([f"model={kind}_diffusion_sorption"]) for kind in ("moe", "pihc", "pisc")
    )
    assert moe["module"] == hard["module"] == soft["module"]
    assert moe["data"] == hard["data"] == soft["data"]
    assert hard["network"]["constraint"]["experts"] == 1
    per, whole = moe["network"]["constraint"], hard["network"]["constraint"]
    assert whole["points"] == per["experts"] * per["points"]


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("module.loss=cubed", "squared"),
        ("module.balance=-1", "zero or positive"),
        ("module.loss_points=0", "loss_points=0"),
        ("network.constraint.experts=200", "none is empty"),
        ("network.functions=300", "basis functions"),
        ("network.constraint.equation.t_min=500", "less than the horizon"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, word, match):
    with pytest.raises(ValueError, match=match):
        runs.fit(runs.prepare([*COLUMN_CASE, word], tmp_path, trainer={"max_steps": 1}))


def test_a_dead_sample_does_not_touch_the_others(tmp_path):
    run = runs.prepare(COLUMN_CASE, tmp_path)
    network = run.module.network.double().eval()
    field = run.data.inputs["test"].clone()
    with torch.no_grad():
        clean = network.infer(field)
        field[1, 0, 3] = math.nan
        out = network.infer(field)
    assert (out["rank"][1] == 0).all() and (out["rank"][0] == 4).all()
    assert not out["converged"][1].any() and out["value"][1].isnan().all()
    assert torch.equal(out["value"][[0, 2]], clean["value"][[0, 2]])
