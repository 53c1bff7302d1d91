"""Adaptive batches: the two noise estimates, the growth they cause, and a resume."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from sciml.callbacks import adaptive_batch
from sciml.callbacks.adaptive_batch import AdaptiveBatch, rank_noise, sample_noise
from sciml.errors import InvalidArgument
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.testing import runs
from sciml.testing.ranks import run_ranks

torch.set_num_threads(1)
F64 = torch.float64
SMALL = [
    "model=pinn_hjb",
    "problem.dim=5",
    "estimator.num_dims=3",
    "network.width=8",
    "data.points=6",
    "schedule=constant",
    "callbacks=adaptive_batch",
    "callbacks.adaptive_batch.every=2",
    "callbacks.adaptive_batch.limit=40",
]


def problem(net, x, q):
    return [
        LossTerm("vector", net(x) - torch.sin(x), 0.7, len(x)),
        LossTerm("other", net(q)[:, 0], 2.0, len(q)),
    ]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_noise_from_samples_equals_a_loop_over_samples():
    net = network()
    x, q = torch.randn(7, 2, dtype=F64), torch.randn(4, 2, dtype=F64)
    noise, square = sample_noise(Objective(lambda: problem(net, x, q)), net)
    wanted, total = 0, 0
    for term in problem(net, x, q):
        rows = []
        for r in term.outputs:
            loss = term.weight * r.square().sum()  # one sample of a mean
            grads = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
        rows = torch.stack(rows)
        wanted, total = wanted + rows.var(0).sum() / len(rows), total + rows.mean(0)
    torch.testing.assert_close(noise, wanted, rtol=1e-11, atol=0)
    torch.testing.assert_close(square, total.square().sum(), rtol=1e-11, atol=0)


def test_noise_from_samples_is_the_variance_over_fresh_points():
    net = network()
    found, grads = [], []
    for i in range(400):
        x = torch.randn(7, 2, dtype=F64, generator=torch.Generator().manual_seed(i))
        objective = Objective(lambda x=x: problem(net, x, x[:4]))
        loss = sum(t.loss() for t in problem(net, x, torch.randn(4, 2, dtype=F64)))
        grads.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, net.parameters())]))
        found.append(sample_noise(objective, net)[0])
    true, found = torch.stack(grads).var(0).sum(), torch.stack(found)
    assert found.mean() == pytest.approx(float(true), rel=0.25)


def test_growth_follows_the_formula_and_stops_at_the_limit():
    callback = AdaptiveBatch(tolerance=0.5, limit=100)
    data = SimpleNamespace(points=10, condition_points=5)
    callback.sizes = {"points": 10, "condition_points": 5}
    callback._grow(data, 0.9)
    assert data.points == 10
    callback._grow(data, 2.01)
    assert (data.points, data.condition_points) == (21, 11)
    callback._grow(data, 1e9)
    assert (data.points, data.condition_points) == (100, 53)
    callback._grow(data, 1e9)
    assert data.points == 100


def train(folder, steps, tolerance=0.2, ckpt_path=None, words=()):
    run = runs.prepare(
        [*SMALL, f"callbacks.adaptive_batch.tolerance={tolerance}", *words],
        folder,
        callbacks=["adaptive_batch", "checkpoint"],
        trainer={"max_steps": steps, "limit_val_batches": 0},
    )
    return runs.fit(run, ckpt_path=ckpt_path)


@pytest.mark.parametrize("optimizer", ["adam", "sophia", "spring"])
def test_a_run_grows_its_batch_and_resumes_exactly(tmp_path, optimizer):
    words = [f"optimizer={optimizer}"]
    whole = train(tmp_path / "a", 9, words=words)
    assert 6 < whole.data.points <= 40
    assert not {"loss_terms", "backward"} & set(vars(whole.module))
    part = train(tmp_path / "b", 5, words=words)
    assert part.data.points > 6
    rest = train(tmp_path / "c", 9, ckpt_path=tmp_path / "b/checkpoints/last.ckpt", words=words)
    assert rest.data.points == whole.data.points
    for a, b in zip(whole.module.parameters(), rest.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_generous_tolerance_changes_nothing(tmp_path):
    assert train(tmp_path, 4, tolerance=1e6).data.points == 6


class Check(pl.Callback):
    """Compares the noise over ranks with that of the gradients of both, on each of them."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_start(self, trainer, module):
        net = network()
        shares = torch.randn(2, 5, 2, dtype=F64, generator=torch.manual_seed(3))
        x = shares[trainer.global_rank]

        def terms():
            found = problem(net, x, x[:2])
            for term in found:
                term.count *= 2
            return found

        noise, square = rank_noise(Objective(terms), net)
        grads = []
        for x_r in shares:
            loss = sum(t.loss() for t in problem(net, x_r, x_r[:2]))
            found = torch.autograd.grad(loss, list(net.parameters()))
            grads.append(torch.cat([g.flatten() for g in found]))
        grads = torch.stack(grads)
        torch.testing.assert_close(noise, grads.var(0).sum() / 2, rtol=1e-11, atol=0)
        torch.testing.assert_close(square, grads.mean(0).square().sum(), rtol=1e-11, atol=0)

    def on_train_end(self, trainer, module):
        total = sum(float(p.sum()) for p in module.parameters())
        text = f"points {trainer.datamodule.points} weight {total!r}"
        (self.folder / f"rank{trainer.global_rank}").write_text(text)


def _two_ranks(_, folder):
    torch.set_num_threads(1)
    words = [*SMALL, "callbacks.adaptive_batch.tolerance=0.1"]
    words += ["callbacks.adaptive_batch.every=3", "data.points=3"]
    two = {"devices": 2, "strategy": "ddp_fork", "accelerator": "cpu"}
    trainer = {"max_steps": 7, "limit_val_batches": 0, **two}
    run = runs.prepare(words, folder, callbacks=["adaptive_batch"], trainer=trainer)
    runs.fit(run, Check(folder))


def test_two_ranks_agree(tmp_path):
    run_ranks(_two_ranks, (tmp_path,), 1)
    texts = [(tmp_path / f"rank{r}").read_text() for r in range(2)]
    assert texts[0] == texts[1]
    assert int(texts[0].split()[1]) > 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.share_points=true"], "data.share_points=true"),
        (["trainer.accumulate_grad_batches=2"], "accumulate_grad_batches=2"),
        (["callbacks.adaptive_batch.variance=ranks"], "variance=ranks on one rank"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, words, message):
    with pytest.raises(InvalidArgument, match=message):
        train(tmp_path, 2, words=words)


def test_bad_options_are_named():
    for options in ({"tolerance": 0.0}, {"every": 0}, {"variance": "both"}):
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            AdaptiveBatch(**options)


def test_the_first_growth_is_noise_over_the_tolerance_squared(tmp_path, monkeypatch):
    """Noise 1.5, signal 2 and tolerance 0.5 ask for 1.5 / (0.25 2) = 3 times as many points."""
    found = torch.tensor(1.5, dtype=F64), torch.tensor(2.0, dtype=F64)
    monkeypatch.setattr(adaptive_batch, "sample_noise", lambda objective, module: found)
    assert train(tmp_path, 1, tolerance=0.5).data.points == 18
