"""The folder that a run leaves: which class stands in it, for functions, operators and systems."""

import json

import pytest

from sciml.callbacks import ExportPretrained
from sciml.callbacks.export_callback import describe, describe_operator
from sciml.testing import runs

MLP = "sciml.networks.pointwise.mlp.MLP"
KINDS = {
    "TrialSolution": ["model=pinn_poisson2d", "network.width=8", "network.depth=2",
                      "data.points=16"],
    "Ansatz": ["model=pinn_burgers1d", "network.width=4", "network.depth=2",
               "data.points=32"],
    "DEQ": ["model=deq_digits", "network.width=8"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_leaves_its_class(tmp_path, kind):
    """Written at `teardown` of the fit."""
    run = runs.prepare(KINDS[kind], tmp_path, trainer={"max_steps": 1, "limit_val_batches": 0})
    config = runs.compose(KINDS[kind])
    runs.fit(run, ExportPretrained(tmp_path, config["model"], config))
    spec = json.loads((tmp_path / "pretrained" / "model.json").read_text())
    assert (spec["class"], spec["name"]) == (kind, config["model"])
    assert kind != "DEQ" or spec["arguments"]["width"] == 8


def test_a_network_is_described_by_name_with_what_it_accepts():
    assert describe("network", {"_target_": MLP, "width": 8}) == {
        "class": "MLP", "arguments": {"width": 8},
    }  # fmt: skip
    assert describe("network", {"_target_": "my.own.Network"}) is None
    assert describe("network", None) is None
    assert describe_operator({"network": None}, {}) is None
    assert describe_operator({}, {}) is None
