"""Every chunk of a test or validation set is evaluated once, whatever the number of ranks."""

from collections import Counter as Multiset
from types import SimpleNamespace

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.batch import Batch
from sciml.data.collocation import CollocationData
from sciml.data.steps import StepData
from sciml.physics.problems.unit_ball import SineGordon


class Numbered(StepData):
    """Chunks that hold their own number."""

    val_chunks, test_chunks = 4, 7

    def batch(self, step, rank=0, world=1):
        return self.made(100 * step + rank)

    def val_chunk(self, index):
        assert 0 <= index < self.val_chunks
        return self.made(-1 - index)

    def test_chunk(self, index):
        assert 0 <= index < self.test_chunks
        return self.made(index)

    def made(self, number):
        return Batch({"x": torch.tensor([number])}, torch.zeros(1), Streams(0, 0), 1)


def trainer_of(rank, world, stage):
    """Return what a data module asks of a trainer."""
    module = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    stages = {name: name == stage for name in ("training", "validating", "testing")}
    more = {"sanity_checking": False, "lightning_module": module}
    return SimpleNamespace(global_rank=rank, world_size=world, **stages, **more)


def seen(data, world, stage):
    """Return what every rank is given."""
    found = []
    for rank in range(world):
        data.trainer = trainer_of(rank, world, stage)
        loader = data.test_dataloader() if stage == "testing" else data.val_dataloader()
        found.append([data.on_after_batch_transfer(number, 0) for number in loader])
    return found


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("stage", ["testing", "validating"])
def test_every_chunk_comes_once(world, stage):
    data = Numbered()
    ranks = seen(data, world, stage)
    assert len({len(own) for own in ranks}) == 1  # or one rank waits for another
    numbers = [int(b.inputs["x"]) for own in ranks for b in own if b is not None]
    wanted = range(7) if stage == "testing" else range(-4, 0)
    assert Multiset(numbers) == Multiset(wanted)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_test_point_comes_once(world):
    data = CollocationData(problem=SineGordon(dim=3), test_points=37)
    whole = torch.cat([data.test_chunk(i).x for i in range(13)])
    assert len(whole) == 37 and len(whole.unique(dim=0)) == 37
    ranks = seen(data, world, "testing")
    assert len({len(own) for own in ranks}) == 1
    found = torch.cat([points.x for own in ranks for points in own])
    assert len(found) == 37
    assert torch.equal(found.unique(dim=0), whole.unique(dim=0))


def test_ranks_train_on_batches_of_their_own():
    data = Numbered()
    for rank, wanted in ((1, 1), (1, 101), (0, 200)):
        data.trainer = trainer_of(rank, 2, "training")
        assert int(data.on_after_batch_transfer(0, 0).inputs["x"]) == wanted
