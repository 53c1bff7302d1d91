"""Operators trained on walks on two processes: other walks, equal weights, one set of metrics."""

import json

import lightning.pytorch as pl
import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.walk_labels.walk_data import WalkData
from sciml.physics.elliptic.elliptic_families import StarPoisson
from sciml.testing import runs
from sciml.testing.ranks import run_ranks

WORDS = ["model=wos_poisson2d", "network.width=4", "network.modes=3", "network.layers=1"]
WORDS += ["network.hidden=8", "data.nodes=14", "data.table=24", "data.pool=4"]
WORDS += ["data.batch_size=2", "data.val_count=20", "data.val_walks=4", "data.test_count=2"]


class Record(pl.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        weights = torch.cat([p.detach().flatten() for p in module.network.parameters()])
        seen = {"weights": weights, "target": batch.target, "boundary": batch.inputs["boundary"]}
        torch.save(seen, self.folder / f"{trainer.global_rank}-{batch_idx}.pt")


def _steps_and_scores(_, folder):
    torch.set_num_threads(1)
    two = {"accelerator": "cpu", "max_steps": 3, "devices": 2, "strategy": "ddp_fork"}
    run = runs.prepare(WORDS, folder, trainer={**two, "limit_val_batches": 0})
    weights = runs.fit(run, Record(folder)).module.state_dict()
    answers = []
    for trainer in (two, {**two, "devices": 1, "strategy": "auto"}):
        run = runs.prepare(WORDS, folder, trainer=trainer)
        run.module.load_state_dict(weights)
        found = run.trainer.validate(run.module, run.data, verbose=False)[0]
        answers.append({**found, **run.trainer.test(run.module, run.data, verbose=False)[0]})
    (folder / "scores.json").write_text(json.dumps(answers))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(_steps_and_scores, (folder,), 1)
    return folder


def test_weights_are_equal_and_batches_are_not(two_ranks):
    before = None
    for step in range(3):
        one, other = (torch.load(two_ranks / f"{rank}-{step}.pt") for rank in range(2))
        assert torch.equal(one["weights"], other["weights"])
        assert not torch.equal(one["target"], other["target"])
        assert not torch.equal(one["boundary"], other["boundary"])
        assert before is None or not torch.equal(before, one["weights"])
        before = one["weights"]


def test_metrics_are_those_of_one_process(two_ranks):
    """20 validation problems in 2 chunks, 4 test sets of one chunk each, shared by the ranks."""
    two, one = json.loads((two_ranks / "scores.json").read_text())
    assert two.keys() == one.keys()
    assert {"val/rel_l2", "test/rel_l2", "test_l_shape/rel_l2", "test/baseline/first_guess"} <= set(
        one
    )
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5), name


def test_walks_of_two_ranks_from_the_same_points_are_independent():
    """Noise of the labels of the very same problems, rank by rank."""
    d = WalkData(StarPoisson(), batch_size=4, pool=4, nodes=24, table=32, walks=4, control=0)
    domain, shapes = d._drawn(Streams(0, 0))
    instances = d.family.fields(domain, Streams(0, 0).generator("fields"))

    def labels(rank, walks=4):
        generator = Streams(0, 7, rank, 2).generator("walks")
        estimate, (_, own) = d._walked(d._engine(walks), instances, shapes, generator)
        return estimate.mean[own]

    exact = labels(5, 1024)
    one, other = (labels(rank) - exact for rank in range(2))
    assert torch.equal(one, labels(0) - exact)
    assert len(one) > 300
    # correlation of nearby nodes is none: every walk is its own
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 5 / len(one) ** 0.5
