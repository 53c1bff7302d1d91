import json

import pytest
import torch

from sciml.callbacks import ExportPretrained
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.problems.hjb import HJBLQG
from sciml.pretrained import load_pretrained

CONFIG = {
    "seed": 3,
    "problem": {"_target_": "sciml.physics.problems.hjb.HJBLQG", "dim": 4, "mu": 1.0},
    "network": {"_target_": "sciml.networks.pointwise.mlp.MLP", "width": 8},
    "data": {"_target_": "sciml.data.collocation.CollocationData", "points": 8},
}


@pytest.fixture
def solved(module):
    """A module with a trial solution that the test hooks leave alone."""
    model = module()
    inputs = ("x", "t", "terminal")
    network = MLP(dim=4, time=True, features=1, width=8)
    model.trial = TrialSolution(HJBLQG(dim=4), network, inputs)
    return model


def test_folder_after_fit_and_metrics_after_test(
    solved, make_trainer, batches, few_batches, tmp_path
):
    trainer = make_trainer(ExportPretrained(tmp_path, "pinn_hjb", CONFIG))
    trainer.fit(solved, batches)
    spec = json.loads((tmp_path / "pretrained" / "model.json").read_text())
    assert spec["metrics"] == {} and spec["name"] == "pinn_hjb" and spec["data"]["seed"] == 3
    trainer.test(solved, few_batches, verbose=False)
    model = load_pretrained(tmp_path)
    assert model.metrics == {"test/rel_l2": 0.5}
    assert "test/rel_l2 | 0.5" in (tmp_path / "pretrained" / "README.md").read_text()
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    t = torch.full((16, 1), 0.5)
    with torch.no_grad():
        assert torch.equal(model.predict(x, t)["value"], solved.trial(x, t)[:, 0])


def test_a_class_outside_the_table_is_said_and_left_out(
    solved, make_trainer, batches, tmp_path, caplog
):
    config = {**CONFIG, "problem": {"_target_": "my.own.PDE"}}
    with caplog.at_level("INFO"):
        make_trainer(ExportPretrained(tmp_path, "mine", config)).fit(solved, batches)
    assert "class of the problem is neither" in caplog.text
    assert not (tmp_path / "pretrained").exists()
