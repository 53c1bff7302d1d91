"""The contract's own checks: each must find what it is there to find."""

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.collocation import CollocationBatch
from sciml.errors import ConfigError
from sciml.physics.pde import Points
from sciml.testing import contract, runs
from sciml.testing.ranks import joined

WORDS = [
    "model=pinn_poisson",
    "problem.dim=3",
    "estimator.num_dims=3",
    "network.width=8",
    "data.points=8",
    "data.val_points=8",
]


def test_batches_of_two_ranks_become_one():
    def batch(rank):
        points = Points(torch.full((2, 3), float(rank)), None, torch.full((2,), float(rank)))
        return CollocationBatch(points, {"origin": points}, Streams(5, 7, rank, 2), {"interior": 4})

    one = joined([batch(0), batch(1)])
    assert one.points.x.tolist() == [[0.0] * 3] * 2 + [[1.0] * 3] * 2 and one.points.t is None
    assert one.conditions["origin"].source.tolist() == [0, 0, 1, 1]
    assert one.counts == {"interior": 4}
    assert (one.streams.rank, one.streams.world, one.streams.step) == (0, 1, 7)


def test_preflight_findings_come_together():
    with pytest.raises(ConfigError, match=r"(?s)widht.*pints"):
        runs.compose([*WORDS, "network.widht=3", "data.pints=8"])


def test_finds_a_parameter_without_gradient(tmp_path, monkeypatch):
    build = runs.build

    def with_spare(*arguments):
        run = build(*arguments)
        run.module.spare = torch.nn.Parameter(torch.zeros(1))
        return run

    monkeypatch.setattr(runs, "build", with_spare)
    with pytest.raises(AssertionError, match="no gradient reaches spare"):
        contract.gradient_reaches_every_parameter(WORDS, tmp_path)


def test_finds_a_loss_that_does_not_fall(tmp_path):
    with pytest.raises(AssertionError, match="only fell to"):
        contract.overfits_one_batch([*WORDS, "optimizer.lr=0.0"], tmp_path, steps=5)


def test_finds_a_resume_that_differs(tmp_path, monkeypatch):
    prepared = runs.prepare

    def forgetful(*arguments, **keywords):
        run = prepared(*arguments, **keywords)
        run.data.load_state_dict = lambda state: None  # draws the first points once more
        return run

    monkeypatch.setattr(runs, "prepare", forgetful)
    with pytest.raises(AssertionError, match="continued from step 3.*differ"):
        contract.resumes_bit_identical(WORDS, tmp_path)


def test_finds_an_optimizer_that_does_nothing(tmp_path):
    with pytest.raises(AssertionError, match="sgd did nothing"):
        contract.runs_or_is_refused([*WORDS, "optimizer.lr=0.0"], tmp_path, "sgd")


def test_a_refusal_is_an_answer(tmp_path):
    words = [*WORDS, "trainer.accumulate_grad_batches=2"]
    assert "lbfgs" in contract.runs_or_is_refused(words, tmp_path, "lbfgs")
