"""Pairs of fields: fixed sets, epochs over ranks, noise, and the file cache."""

import os
import stat

import pytest
import torch

from sciml.data.steady_fields import FieldData, fields
from sciml.data.trajectories import solved as module
from sciml.errors import InvalidArgument
from sciml.physics.steady.steady_semilinear import Semilinear

COUNTS = {"train": 12, "val": 4, "test": 66, "hard": 3}


def problem():
    return Semilinear(8, cutoff=1.0)


def data(**options):
    return FieldData(problem=problem(), **{**COUNTS, "batch_size": 3, **options})


def test_pairs_solve_the_problem_and_hard_ones_are_harder():
    d = data(hard=60)
    for field, target in d.sets.values():
        assert d.problem.residual(target[:, 0], field[:, 0]).abs().max() < 1e-8
    assert d.sets["test_hard"][0].std() > 1.2 * d.sets["test"][0].std()


def test_sets_do_not_depend_on_the_seed_of_the_run_but_the_order_does():
    one, two = data(seed=1), data(seed=2)
    assert torch.equal(one.sets["train"][0], two.sets["train"][0])
    assert not torch.equal(one.batch(0).inputs["field"], two.batch(0).inputs["field"])
    assert torch.equal(one.batch(5).target, data(seed=1).batch(5).target)


def test_an_epoch_shows_every_pair_once_to_all_ranks_together():
    d = data()
    seen = torch.cat([d.places(step, rank, 2) for step in (0, 1) for rank in (0, 1)])
    assert seen.sort().values.tolist() == list(range(12))
    later = torch.cat([d.places(step, rank, 2) for step in (2, 3) for rank in (0, 1)])
    assert later.sort().values.tolist() == list(range(12))
    assert later.tolist() != seen.tolist()
    # two ranks see what one process with the joined batch sees
    wide = data(batch_size=6)
    assert wide.places(1, 0, 1).tolist() == [*d.places(1, 0, 2), *d.places(1, 1, 2)]


def test_noise_has_the_size_asked_for_and_is_drawn_anew():
    clean, noisy = data(batch_size=12), data(batch_size=12, noise=0.5)
    change = noisy.batch(0).inputs["field"] - clean.batch(0).inputs["field"]
    assert change.std().item() == pytest.approx(0.5 * clean.sizes["std"][0], rel=0.1)
    assert not torch.allclose(noisy.batch(0).target, noisy.batch(4).target, rtol=1e-3)
    assert torch.equal(noisy.test_chunk(0).target, clean.test_chunk(0).target)


def test_chunks_cover_both_test_sets():
    d = data()
    parts = [d.test_chunk(i) for i in range(d.test_chunks)]
    assert [(p.part, len(p.target)) for p in parts] == [
        ("test", 64),
        ("test", 2),
        ("test_hard", 3),
    ]
    assert [len(d.val_chunk(i).target) for i in range(d.val_chunks)] == [4]


def test_statistics_are_those_of_the_training_set():
    d = data()
    assert d.sizes["std"] == [pytest.approx(d.sets["train"][0].std().item())]
    assert d.sizes["out_std"] == pytest.approx(d.sets["train"][1].std().item())
    assert d.sizes["positions"] is False


def test_the_same_recipe_is_solved_once_and_kept_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MADE", {})
    calls = []
    monkeypatch.setattr(
        Semilinear,
        "solve",
        lambda self, f, solve=Semilinear.solve: calls.append(1) or solve(self, f),
    )
    counts = {"train": 2, "test": 1}
    first = fields(problem(), counts, str(tmp_path))
    assert len(calls) == 2
    same = fields(problem(), counts, str(tmp_path))
    assert all(a is b for p in first for a, b in zip(first[p], same[p], strict=True))
    module._MADE.clear()  # as in a new process
    again = fields(problem(), counts, str(tmp_path))
    assert len(calls) == 2
    assert all(torch.equal(a, b) for p in first for a, b in zip(first[p], again[p], strict=True))
    fields(Semilinear(8, cutoff=1.0, std=2.0), counts, str(tmp_path))
    assert len(calls) == 4
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_colleagues_may_read_the_cache(tmp_path, mask):
    before = os.umask(mask)
    try:
        module._write(tmp_path / "x.safetensors", {"val.field": torch.ones(2)}, "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o666 & ~mask


def test_wrong_settings_are_refused():
    with pytest.raises(InvalidArgument, match="data.hard=0"):
        data(hard=0)
    with pytest.raises(InvalidArgument, match="data.noise"):
        data(noise=-1.0)
