"""The base of data-driven methods: losses, evaluation over chunks and ranks, the report."""

import functools
import json
import os
import socket

import lightning as L
import pytest
import torch
from torch import nn

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.steps import StepData
from sciml.errors import InvalidArgument
from sciml.modules.supervised import Supervised
from sciml.optim.curvature.terms import total_loss
from sciml.testing.ranks import run_ranks


class Lines(StepData):
    """Targets 2 x + 1 in three columns; a second, harder test set."""

    def __init__(self, kind="regression", rows=6, **options):
        super().__init__(**options)
        self.kind, self.rows = kind, rows

    def _make(self, rows, streams, count, part="test"):
        x = torch.randn(rows, 3, generator=streams.generator("x"), dtype=torch.float64)
        target = (x.sum(1) > 0).long() if self.kind == "classification" else 2 * x + 1
        return Batch({"x": x}, target, streams, count, part=part)

    def batch(self, step, rank=0, world=1):
        return self._make(self.rows, Streams(self.seed, step, rank, world), self.rows * world)

    val_chunks, test_chunks = 3, 5

    def val_chunk(self, index):
        return self._make(4 + index, Streams(100, index), 0)

    def test_chunk(self, index):
        hard = "test_hard" if index >= 3 else "test"
        return self._make(3 + index, Streams(200, index), 0, hard)


class Affine(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.linear = nn.Linear(3, outputs)

    def forward(self, x):
        return self.linear(x)


def module(data, loss="mse", outputs=3, lr=0.1):
    torch.manual_seed(0)
    sgd = functools.partial(torch.optim.SGD, lr=lr)
    return Supervised(network=Affine(outputs), data=data, optimizer=sgd, loss=loss)


def trainer(steps=3, **options):
    return L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        num_sanity_val_steps=0,
        **{"val_check_interval": 3, "check_val_every_n_epoch": None, **options},
    )


def test_losses_are_means_over_the_global_batch():
    data = Lines()
    batch = data.batch(0).to("cpu", torch.float32)
    m = module(data)
    p, u = m(**batch.inputs), batch.target
    assert torch.allclose(
        total_loss(m.loss_terms(batch)), nn.functional.mse_loss(p, u), rtol=1e-6, atol=1e-8
    )
    r = module(data, "relative")
    wanted = ((p - u).norm(dim=1) / u.norm(dim=1)).square().mean()
    assert torch.allclose(total_loss(r.loss_terms(batch)), wanted, rtol=1e-6, atol=1e-8)
    data = Lines("classification")
    batch = data.batch(0).to("cpu", torch.float32)
    m = module(data, outputs=2)
    wanted = nn.functional.cross_entropy(m(**batch.inputs), batch.target)
    assert torch.allclose(total_loss(m.loss_terms(batch)), wanted, rtol=1e-6, atol=1e-8)


def test_rows_without_weight_do_not_count():
    data = Lines()
    batch = data.batch(0).to("cpu", torch.float32)
    batch.extra["weight"] = torch.tensor([1.0, 1, 1, 0, 0, 0])
    batch.count = 3
    m = module(data)
    wanted = nn.functional.mse_loss(m.network(batch.inputs["x"][:3]), batch.target[:3])
    assert torch.allclose(total_loss(m.loss_terms(batch)), wanted, rtol=1e-5, atol=1e-8)


def test_shapes_must_agree():
    data = Lines()
    with pytest.raises(InvalidArgument, match=r"\(6, 2\).*\(6, 3\)"):
        module(data, outputs=2).loss_terms(data.batch(0).to("cpu", torch.float32))
    with pytest.raises(InvalidArgument, match="mse.*relative"):
        module(data, "mae")


def test_scores_cover_every_chunk_and_part():
    data, t = Lines(), trainer()
    m = module(data)
    t.fit(m, data)
    validated = float(t.callback_metrics["val/loss"])
    chunks = [data.val_chunk(i).to("cpu", torch.float32) for i in range(3)]
    x, u = (torch.cat([c.inputs["x"] for c in chunks]), torch.cat([c.target for c in chunks]))
    assert validated == pytest.approx(nn.functional.mse_loss(m.network(x), u).item(), rel=1e-5)
    (found,) = t.test(m, data, verbose=False)
    for part, chosen in {"test": range(3), "test_hard": range(3, 5)}.items():
        chunks = [data.test_chunk(i).to("cpu", torch.float32) for i in chosen]
        x, u = (torch.cat([c.inputs["x"] for c in chunks]), torch.cat([c.target for c in chunks]))
        wanted = ((m.network(x) - u).norm(dim=1) / u.norm(dim=1)).mean().item()
        assert found[f"{part}/rel_l2"] == pytest.approx(wanted, rel=1e-5)
    report = m.test_report
    assert report["metrics"]["test_hard/r2"] == pytest.approx(found["test_hard/r2"])
    assert set(report["baselines"]) == {"constant"} and len(report["reference"]) == 3 * (3 + 4 + 5)


def test_an_interrupted_count_goes_on():
    data = Lines(fixed_for=2)
    assert [data.next_step() for _ in range(3)] == [0, 0, 1]
    other = Lines(fixed_for=2)
    other.load_state_dict(data.state_dict())
    assert other.next_step() == 1
    with pytest.raises(InvalidArgument, match="positive"):
        Lines(fixed_for=0)


def _on_a_rank(rank, folder, port):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "RANK": str(rank)}
    t = trainer(devices=2, strategy="ddp")
    data = Lines()
    m = module(data)
    t.fit(m, data)
    (found,) = t.test(m, data, verbose=False)
    if rank == 0:
        weights = [p.tolist() for p in m.network.parameters()]
        found |= {"val/loss": float(t.callback_metrics.get("val/loss", 0))}
        (folder / "found.json").write_text(json.dumps({"metrics": found, "weights": weights}))


def test_two_ranks_score_like_one(tmp_path):
    """Five test and three validation chunks on two ranks: one rank gets none in the last round."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    run_ranks(_on_a_rank, (tmp_path, port), 2)
    found = json.loads((tmp_path / "found.json").read_text())
    data, m = Lines(), module(Lines())
    for p, value in zip(m.network.parameters(), found["weights"], strict=True):
        p.data = torch.tensor(value)
    (wanted,) = trainer().test(m, data, verbose=False)
    for name, value in wanted.items():
        assert found["metrics"][name] == pytest.approx(value, rel=1e-6), name
