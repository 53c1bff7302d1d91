"""Systems made on the fly: reproducible, other ones per rank and step, mixed as published."""

import numpy as np
import pytest
import torch

from sciml.data.pressure_data import PressureData, RitzData, dirichlet_box
from sciml.errors import InvalidArgument
from sciml.networks.preconditioners.learned_preconditioner import arrays_of, stencil_of
from sciml.physics.fluids import RandomDomains
from sciml.testing import runs

FAMILY = RandomDomains(coefficients=("constant", "two_phase"), sealed=0.3)
NOISE = ["model=pressure_2d", "data=noise_box", "data.train_sizes=[8]"]
SMALL = {"batch_size": 3, "val": 3, "test": 3, "val_size": 8, "test_sizes": (8, 12), "chunk": 2}


def pressure(**more) -> PressureData:
    return PressureData(problem=FAMILY, train_sizes=(8, 12), **SMALL, **more)


def ritz(**more) -> RitzData:
    settings = {"size": 8, "lanczos": 24, **SMALL, **more}
    return RitzData(problem=RandomDomains(bodies=0), **settings)


@pytest.mark.parametrize("make", [pressure, ritz])
def test_batches_are_functions_of_seed_rank_and_step(make):
    one, two, other = make(seed=1), make(seed=1), make(seed=2)
    b = one.batch(3, 1, 2)
    assert torch.equal(b.inputs["residual"], two.batch(3, 1, 2).inputs["residual"])
    assert b.count == 6
    for batch in (one.batch(3, 0, 2), one.batch(4, 1, 2), other.batch(3, 1, 2)):
        same = batch.inputs["residual"].shape == b.inputs["residual"].shape
        assert not (same and torch.equal(batch.inputs["residual"], b.inputs["residual"]))
    # ranks share the size of the grid
    assert one.batch(5, 0, 2).target.shape == one.batch(5, 1, 2).target.shape
    assert torch.equal(one.val_chunk(1).target, other.val_chunk(1).target)


@pytest.mark.parametrize("make", [pressure, ritz])
def test_targets_solve_the_systems(make):
    data = make()
    for batch in (data.batch(0), data.val_chunk(0), data.test_chunk(3)):
        s = stencil_of(batch.inputs["weights"], batch.inputs["shift"])
        b = batch.inputs["residual"]
        left = b - s.times(batch.target)
        assert torch.allclose(
            b.flatten(1).norm(dim=1), torch.ones(len(b)).double(), rtol=1e-12, atol=0
        )
        assert bool((left.flatten(1).norm(dim=1) <= 1e-6).all())


def test_sets_have_the_sizes_asked_for():
    data = pressure()
    assert data.val_chunks == 2 and data.test_chunks == 4
    assert [len(data.val_chunk(i).target) for i in range(2)] == [2, 1]
    parts = [(data.test_chunk(i).part, data.test_chunk(i).target.shape[-1]) for i in range(4)]
    assert parts == [("test", 8), ("test", 8), ("test_12", 12), ("test_12", 12)]
    volume = pressure(dim=3)
    assert volume.batch(0).inputs["weights"].shape[1] == 3 and volume.batch(0).target.dim() == 4


def test_mixtures_are_nine_times_as_strong_below_the_middle():
    # many vectors: the norm that samples are divided by must not depend on one of them
    data = ritz(batch_size=1000, size=16, lanczos=100)
    m = len(data.values)
    assert data.strong == m // 2 + round(0.05 * m)
    assert bool((data.values[1:] >= data.values[:-1]).all())
    box = dirichlet_box(16, 2)
    want = np.linalg.eigvalsh(box.to_csr().toarray())
    assert abs(float(data.values[-1]) - want[-1]) < 1e-6
    b = data.batch(0).inputs["residual"]
    c = b.flatten(1) @ data.vectors.flatten(1).mT  # up to one factor per sample
    size = c.square().mean(0).sqrt()
    ratio = size[: data.strong].mean() / size[data.strong :].mean()
    assert 8.5 < float(ratio) < 9.5


@pytest.mark.parametrize("own", [["model=dcdm_2d", "data.size=8", "data.lanczos=24"], NOISE])
def test_boxes_that_judge_are_the_box_that_trains(own):
    small = "batch_size=3 val=3 test=3 val_size=8 test_sizes=[8,12] chunk=2"
    data = runs.prepare([*own, *(f"data.{word}" for word in small.split())], None).data
    for batch in (data.batch(0), data.val_chunk(0), data.test_chunk(2)):
        weights, shift = arrays_of(dirichlet_box(batch.target.shape[-1], 2))
        for name, wanted in (("weights", weights), ("shift", shift)):
            assert torch.equal(batch.inputs[name], wanted.expand_as(batch.inputs[name]))
        b = batch.inputs["residual"]
        assert bool((b != 0).all())


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InvalidArgument, match="batch_size=0"):
        PressureData(problem=FAMILY, batch_size=0)
    with pytest.raises(InvalidArgument, match="dim=4"):
        PressureData(problem=FAMILY, dim=4)
    with pytest.raises(InvalidArgument, match="train_sizes"):
        PressureData(problem=FAMILY, train_sizes=())
    with pytest.raises(InvalidArgument, match="share=0.7"):
        RitzData(problem=FAMILY, share=0.7)
