"""The contract of every method, on the laws of cells."""

from sciml.testing import runs
from sciml.testing.contract import ModuleContract, resumes_bit_identical

SMALL = (
    "data.cell.n=2",
    "data.train=12",
    "data.val=3",
    "data.test=3",
    "data.small=2",
    "data.batch_size=6",
    "data.warm_batch=6",
    "network.width=8",
    "network.depth=2",
    "optimizer.lr=5e-3",
)
MODES = ("data.points=20", "network.modes=4")


def model(name, *words):
    # the models' own optimizer makes no backward pass, which the contract looks at
    return [f"model={name}", "optimizer=adam", *SMALL, *words]


class TestModels(ModuleContract):
    cases = {
        "equino": model("equino_disk", *MODES),
        "published": model("equino_disk", *MODES, "module.norm=plain", "data.radial=false")
        + ["network.linear=false", "network.odd=false", "network.anchor=false"],
        "vpionet": model("vpionet_disk", "network.modes=4"),
        "labels": model("equino_disk", "module=stress_law", "network.modes=3", "data.labels=true"),
    }
    optimizer_cases = ("equino",)
    rank_cases = ("equino", "vpionet")
    overfit = (40, 0.97)
    # what is anchored at zero strain does not see its last bias
    unused = ("network.branch.output.bias", "displacement.output.bias")


def test_an_interrupted_search_ends_the_same(tmp_path):
    words = model("equino_disk", *MODES, "optimizer.adam_steps=3")
    resumes_bit_identical([w for w in words if w != "optimizer=adam"], tmp_path)


def test_runs_end_with_errors_of_whole_fields(tmp_path):
    run = runs.fit(runs.prepare(model("equino_disk", *MODES, "trainer.max_steps=2"), tmp_path))
    run.trainer.test(run.module, run.data, verbose=False)
    found = run.module.test_report["metrics"]
    for part in ("test", "test_small", "test_isochoric"):
        names = ("stress_xx", "stress_xy_median", "u_x_max", "rel_l2_max", "tangent", "r2_xy")
        assert {f"{part}/{name}" for name in names} <= set(found)
        # no branch is better than the projection onto its modes
        for c in ("xx", "yy", "xy"):
            assert found[f"{part}/floor_stress_{c}"] <= found[f"{part}/stress_{c}"]
