"""The noise test where loss terms see parts of a network, one sample, or nothing at all."""

import math

import pytest
import torch
from torch import nn

from sciml.callbacks import adaptive_batch
from sciml.callbacks.adaptive_batch import AdaptiveBatch, sample_noise
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.testing import runs

torch.set_num_threads(1)
F64 = torch.float64


def parts():
    torch.manual_seed(1)
    plain, full = nn.Linear(2, 3, bias=False), nn.Linear(2, 2)
    return nn.ModuleDict({"plain": plain, "full": full, "idle": nn.Linear(1, 1)}).double()


def by_samples(net, terms):
    """Return V and |g|^2 from a gradient per sample of every term."""
    noise, total = 0.0, 0.0
    for term in terms:
        rows = []
        for r in term.outputs:
            loss = term.weight * r.square().sum()
            found = torch.autograd.grad(
                loss, list(net.parameters()), retain_graph=True, materialize_grads=True
            )
            rows.append(torch.cat([g.flatten() for g in found]))
        rows = torch.stack(rows)
        if len(rows) > 1:
            noise = noise + rows.var(0).sum() / len(rows)
        total = total + rows.mean(0)
    return noise, total.square().sum()


@pytest.mark.parametrize("second", [5, 1])
def test_every_term_counts_with_the_layers_that_it_sees(second):
    net = parts()
    x, q = torch.randn(7, 2, dtype=F64), torch.randn(second, 2, dtype=F64)

    def terms():
        return [
            LossTerm("a", net["plain"](x).sin(), 0.7, len(x)),
            LossTerm("b", net["full"](q) - 1.0, 2.0, len(q)),
        ]

    noise, square = sample_noise(Objective(terms), net)
    wanted_noise, wanted_square = by_samples(net, terms())
    torch.testing.assert_close(noise, wanted_noise, rtol=1e-12, atol=0)
    torch.testing.assert_close(square, wanted_square, rtol=1e-12, atol=0)


SMALL = [
    "model=pinn_hjb", "problem.dim=5", "estimator.num_dims=3", "network.width=8", "data.points=6",
    "schedule=constant", "callbacks=adaptive_batch", "callbacks.adaptive_batch.every=3",
]  # fmt: skip


def test_noise_is_logged_relative_to_the_gradient_and_tested_every_few_steps(tmp_path, monkeypatch):
    """Noise 1.5 and signal 2: relative noise sqrt(0.75), whatever the tolerance."""
    calls = []

    def found(objective, module):
        calls.append(objective.step)
        return torch.tensor(1.5, dtype=F64), torch.tensor(2.0, dtype=F64)

    monkeypatch.setattr(adaptive_batch, "sample_noise", found)
    words = [*SMALL, "callbacks.adaptive_batch.tolerance=2.0"]
    trainer = {"max_steps": 7, "limit_val_batches": 0}
    run = runs.fit(runs.prepare(words, tmp_path, callbacks=["adaptive_batch"], trainer=trainer))
    assert calls == [0, 3, 6]
    metrics = run.trainer.callback_metrics
    assert float(metrics["train/gradient_noise"]) == pytest.approx(math.sqrt(0.75))
    assert float(metrics["train/points"]) == 6.0 == run.data.points  # less noise than accepted


def test_what_holds_without_options():
    callback = AdaptiveBatch()
    assert (callback.tolerance, callback.every, callback.limit) == (0.3, 50, 10_000)
    assert callback.variance is None
    AdaptiveBatch(every=1, limit=1, tolerance=1e-9)  # the least that is allowed
