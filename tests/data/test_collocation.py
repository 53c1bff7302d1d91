"""Random streams and collocation points: functions of (seed, rank, step) and nothing else."""

import itertools

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.data.collocation import CollocationData
from sciml.errors import InvalidArgument
from sciml.physics.problems.biharmonic import Biharmonic
from sciml.physics.problems.hjb import HJBLQG

torch.set_num_threads(1)
D = 6


def data(**options):
    return CollocationData(problem=HJBLQG(dim=D), points=7, **options)


# --- streams ----------------------------------------------------------------------------------
def numbers(seed, step, rank, name, count=2000):
    return torch.randn(count, generator=Streams(seed, step, rank).generator(name))


def test_streams_are_independent_in_every_argument():
    keys = list(itertools.product((0, 1), (0, 1, 2), (0, 1, 2), ("points", "dims")))
    drawn = torch.stack([numbers(*key) for key in keys])
    correlation = torch.corrcoef(drawn) - torch.eye(len(keys))
    assert correlation.abs().max() < 5 / 2000**0.5
    assert len({float(v) for v in drawn.flatten()[:: len(keys)]}) > 0.99 * 2000


def test_a_stream_can_be_had_again():
    assert torch.equal(numbers(3, 4, 1, "dims"), numbers(3, 4, 1, "dims"))


def test_neighbouring_arguments_do_not_collide():
    """Sums such as seed + rank + step would: streams with the same sum must differ."""
    first = {
        float(numbers(seed, step, rank, "points", 1))
        for seed, step, rank in itertools.product(range(8), repeat=3)
    }
    assert len(first) == 8**3


def test_common_streams_are_the_same_on_all_ranks_and_no_ranks_own():
    common = [
        torch.rand(4, generator=Streams(0, 5, rank).generator("keep", common=True))
        for rank in range(3)
    ]
    own = [torch.rand(4, generator=Streams(0, 5, rank).generator("keep")) for rank in range(3)]
    assert torch.equal(common[0], common[1]) and torch.equal(common[0], common[2])
    assert not any(torch.equal(common[0], o) for o in own)


def test_the_world_size_does_not_change_a_ranks_stream():
    a, b = (torch.rand(4, generator=Streams(0, 1, 0, w).generator("points")) for w in (1, 4))
    assert torch.equal(a, b)


def test_large_and_negative_seeds():
    for seed in (2**63, 2**64 - 1, -1):
        assert torch.isfinite(numbers(seed, 10**12, 4000, "points", 3)).all()


# --- batches ----------------------------------------------------------------------------------
def test_batches_depend_on_seed_step_and_rank_only():
    a, b = data(seed=3), data(seed=3)
    for step in (0, 17):
        b.batch(step + 5)  # what was drawn before has no influence
        torch.rand(10)
        first, second = a.batch(step, 1, 2), b.batch(step, 1, 2)
        assert torch.equal(first.points.x, second.points.x)
        assert torch.equal(first.points.t, second.points.t)
    reference = a.batch(0, 0, 2).points.x
    for other in (a.batch(1, 0, 2), a.batch(0, 1, 2), data(seed=4).batch(0, 0, 2)):
        assert not torch.isclose(other.points.x, reference, rtol=1e-5).any()


def test_two_ranks_draw_different_points_unless_they_share_them():
    alone = [data().batch(3, rank, 2).points.x for rank in range(2)]
    assert not torch.equal(*alone)
    shared = [data(share_points=True).batch(3, rank, 2).points for rank in range(2)]
    assert torch.equal(shared[0].x, shared[1].x) and torch.equal(shared[0].t, shared[1].t)


def test_sizes_and_counts():
    batch = data(candidates=3).batch(0, 1, 4)
    assert len(batch.points) == 21 and batch.counts == {"interior": 28}
    assert batch.streams.rank == 1 and batch.streams.world == 4
    soft = CollocationData(problem=Biharmonic(dim=3), points=5, condition_points=9)
    batch = soft.batch(2, 0, 2)
    assert len(batch.conditions["normal_derivative"]) == 9
    assert batch.counts == {"interior": 10, "normal_derivative": 18}


def test_conditions_and_interior_are_drawn_apart():
    soft = CollocationData(problem=Biharmonic(dim=3), points=9, condition_points=9)
    batch = soft.batch(0)
    inside = batch.points.x / batch.points.x.norm(dim=1, keepdim=True)
    wall = batch.conditions["normal_derivative"].x
    wall = wall / wall.norm(dim=1, keepdim=True)
    assert not torch.isclose(inside, wall, rtol=1e-5).all(1).any()


def test_validation_points_are_fixed_and_not_training_points():
    a = data()
    first, again = a.val_batch(0, 2).points.x, a.val_batch(0, 2).points.x
    assert torch.equal(first, again) and len(first) == 128
    assert not torch.equal(first, a.val_batch(1, 2).points.x)
    assert not torch.isclose(first[:7], a.batch(0).points.x, rtol=1e-5).any()


def test_test_points_are_cut_into_chunks_and_do_not_depend_on_the_seed(monkeypatch):
    monkeypatch.setattr("sciml.data.collocation._CHUNK_ELEMENTS", 4 * D)
    a, b = data(test_points=70, seed=1), data(test_points=70, seed=2)
    chunks = [a.test_chunk(i) for i in range(19)]
    assert [len(c) for c in chunks] == [4] * 17 + [2, 0]
    assert all(c.x.dtype == torch.float64 for c in chunks)
    assert all(torch.equal(c.x, b.test_chunk(i).x) for i, c in enumerate(chunks))
    assert len(torch.cat([c.x for c in chunks]).unique(dim=0)) == 70
    # Small sets are cut too, so that ranks share the work.
    small = data(test_points=32, seed=1)
    assert [len(small.test_chunk(i)) for i in range(17)] == [2] * 16 + [0]


def test_default_number_of_test_points_falls_with_the_dimension():
    assert data().test_points == 20_000
    wide = CollocationData(problem=HJBLQG(dim=100_000))
    assert 1000 <= wide.test_points < 20_000


def test_the_counter_of_batches_is_all_the_state_there_is():
    a = data()
    a.drawn = 12
    b = data()
    b.load_state_dict(a.state_dict())
    assert b.drawn == 12 and set(a.state_dict()) == {"drawn"}


@pytest.mark.parametrize(
    "name", ["points", "condition_points", "val_points", "candidates", "fixed_for", "test_points"]
)
def test_sizes_that_are_not_positive_are_refused(name):
    sizes = {"points": 7, name: 0}
    with pytest.raises(InvalidArgument, match=f"data.{name}=0"):
        CollocationData(problem=HJBLQG(dim=D), **sizes)
