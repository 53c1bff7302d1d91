"""Scores: sums over chunks against the formulas on everything at once."""

import numpy as np
import pytest
import torch

from sciml.modules.evaluation.scores import Classification, Regression


def test_regression_against_the_formulas():
    torch.manual_seed(0)
    u = torch.randn(40, 3, dtype=torch.float64) + torch.tensor([1.0, -2.0, 0.0])
    p = u + 0.1 * torch.randn_like(u)
    score = Regression()
    for rows in (slice(0, 7), slice(7, 8), slice(8, 40)):
        score.add(p[rows], u[rows])
    found = score.metrics("test")
    e, c = (p - u).numpy(), (u - u.mean(0)).numpy()
    rows = np.linalg.norm(e, axis=1) / np.linalg.norm(u.numpy(), axis=1)
    assert found["test/rel_l2"] == pytest.approx(rows.mean(), rel=1e-12)
    assert found["test/rel_l2_all"] == pytest.approx(np.linalg.norm(e) / u.norm().item())
    assert found["test/rel_l1"] == pytest.approx(np.abs(e).sum() / u.abs().sum().item())
    assert found["test/mae"] == pytest.approx(np.abs(e).mean())
    assert found["test/max_abs"] == pytest.approx(np.abs(e).max())
    assert found["test/r2"] == pytest.approx(1 - (e**2).sum() / (c**2).sum())
    assert found["test/skill"] == pytest.approx(np.linalg.norm(e) / np.linalg.norm(c))
    constant = found["test/baseline/constant"]
    assert constant == pytest.approx(np.linalg.norm(c) / u.norm().item())
    # the mean of the targets scores what the baseline says
    dull = Regression()
    dull.add(u.mean(0).expand_as(u), u)
    assert dull.metrics("t")["t/skill"] == pytest.approx(1)
    assert dull.metrics("t")["t/rel_l2_all"] == pytest.approx(constant)


def test_instances_of_several_rows_and_rows_without_weight():
    u = torch.tensor([3.0, 4.0, 1.0, 100.0], dtype=torch.float64)
    p = torch.tensor([3.0, 5.0, 3.0, 0.0], dtype=torch.float64)
    index, weight = torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    score = Regression()
    score.add(p, u, index, weight)
    found = score.metrics("test")
    assert found["test/rel_l2"] == pytest.approx((1 / 5 + 2) / 2)  # of instances, then the mean
    assert found["test/mae"] == pytest.approx(1.0)
    assert found["test/max_abs"] == 2.0
    assert len(score.figures()["reference"]) == 3


def test_an_instance_that_vanishes_has_no_relative_error():
    u = torch.tensor([[0.0], [2.0]])
    score = Regression()
    score.add(u + 1, u)
    assert score.metrics("test")["test/rel_l2"] == pytest.approx(0.5)


def test_classification_counts():
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 3, 0], [0, 0, 1], [1, 0, 0]])
    labels = torch.tensor([0, 1, 2, 2, 0])
    score = Classification()
    score.add(logits[:2], labels[:2])
    score.add(logits[2:], labels[2:])
    found = score.metrics("test")
    assert found["test/accuracy"] == pytest.approx(4 / 5)
    assert found["test/skill"] == pytest.approx(1 / 3)  # always 0 or 2 would miss three
    entropy = torch.nn.functional.cross_entropy(logits.double(), labels)
    assert found["test/cross_entropy"] == pytest.approx(entropy.item(), rel=1e-12)
    assert score.confusion.tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_fields_are_kept_for_the_picture():
    u = torch.randn(5, 1, 4, 6)
    score = Regression()
    score.add(u + 1, u)
    shown = score.figures()["fields"]
    assert len(shown) == 3 and shown[2]["reference"].shape == (4, 6)
    np.testing.assert_allclose(shown[1]["prediction"] - shown[1]["reference"], 1, rtol=1e-6)


def test_an_empty_score_has_no_metrics():
    assert Regression().metrics("test") == {} and Classification().metrics("test") == {}
    assert Regression().figures() == {} and Classification().figures() == {}


def test_scores_keep_no_graph():
    """What is added may require gradients: sums, scatter and fields are plain numbers."""
    target = torch.randn(4, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    inputs = {"a": torch.randn(4, 1, 4, 6, dtype=torch.float64, requires_grad=True)}
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    score = Regression()
    score.add(target * 2, target, weight=weight, inputs=inputs)
    assert not any(value.requires_grad for value in (*score.sums.values(), *score.pairs))
    shown = score.figures()["fields"]
    np.testing.assert_array_equal(shown[1]["inputs"]["a"], inputs["a"][1, 0].detach())
    assert score.metrics("t")["t/rel_l2"] == pytest.approx(1)
    logits = torch.randn(5, 3, requires_grad=True)
    labels = logits.argmax(1)
    count = Classification()
    count.add(logits, labels, weight=torch.ones(5, requires_grad=True))
    assert count.metrics("t")["t/accuracy"] == 1
