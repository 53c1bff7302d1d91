"""Files as training data: splits, statistics, blocks, windows, symmetries, what is refused."""

import numpy as np
import pytest
import torch

from sciml.data.batch import joined
from sciml.data.field_files import FieldFiles
from sciml.data.files.rows import window_places
from sciml.data.regression import kernel_ridge, modal, nearest, relative
from sciml.errors import InvalidArgument
from sciml.testing import small_files as small


def test_statistics_are_of_the_training_part_alone(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=20, n=8)
    data = FieldFiles(path=str(path), periodic=True)
    plain, held = data.sizes["fields"], np.load(path)
    rows = data.chosen["train"]
    assert len(rows) == 16 and not set(rows) & {*data.chosen["val"], *data.chosen["test"]}
    assert plain["mean"][0] == pytest.approx(held["x"][rows].astype(float).mean(), rel=1e-6)
    assert plain["std"][0] == pytest.approx(held["x"][rows].astype(float).std(), rel=1e-6)
    assert plain["out_std"][0] == pytest.approx(held["y"][rows].astype(float).std(), rel=1e-6)
    assert data.ranges["x"][1] == pytest.approx(held["x"][rows].max(), rel=1e-6)
    again = FieldFiles(path=str(path), periodic=True, seed=5)
    np.testing.assert_array_equal(again.chosen["train"], rows)  # seeds share one split


def test_batches_are_rows_of_the_file_and_ranks_share_them_out(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=20, n=8)
    for memory in (1000, 0):
        data = FieldFiles(path=str(path), batch_size=4, memory=memory)
        data.rows.block = 4
        held = np.load(path)
        one = data.batch(3)
        rows = data.places(3, 0, 1)
        np.testing.assert_array_equal(one.inputs["x"], held["x"][rows])
        np.testing.assert_array_equal(one.target[:, 0], held["y"][rows])
        two = [data.batch(0, rank, 2) for rank in (0, 1)]
        assert two[0].count == 8 and len(joined(two).target) == 8
        seen = [set(data.places(s, r, 2)) for s in range(2) for r in (0, 1)]
        assert len(set.union(*seen)) == 16  # one epoch: every training sample once


def test_blocks_of_a_large_file_are_read_by_one_rank_each():
    rows, block = np.arange(96, 1120), 16
    first, second = (
        np.concatenate([window_places(7, rows, block, 8, s, r, 2) for s in range(64)])
        for r in (0, 1)
    )
    assert sorted([*first, *second]) == rows.tolist()  # an epoch, each row once
    shared = set(first // block) & set(second // block)
    assert len(shared) <= 1  # the block in the middle of the order
    whole = np.concatenate([window_places(7, rows, block, 16, s, 0, 1) for s in range(64)])
    assert sorted(whole) == rows.tolist()
    assert len(set(whole[:128] // block)) == 8  # a window of eight blocks is read first
    later = window_places(7, rows, block, 8, 64, 0, 2)
    assert not np.array_equal(later, first[:8])  # another order in the next epoch
    np.testing.assert_array_equal(window_places(7, rows, block, 8, 9, 0, 2), first[72:80])


def test_reading_in_blocks_gives_the_same_samples_and_counts_blocks(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=40, n=8)
    held = FieldFiles(path=str(path))
    blocks = FieldFiles(path=str(path), memory=0)
    assert held.rows.held and not blocks.rows.held
    assert held.sizes["fields"]["mean"] == blocks.sizes["fields"]["mean"]
    rows = [31, 2, 17]
    for name, value in held.rows[rows].items():
        assert torch.equal(value, blocks.rows[rows][name])


def test_trajectories_are_cut_into_windows(tmp_path):
    path = small.trajectories(tmp_path / "u.npz", count=16, times=8)
    u = torch.from_numpy(np.load(path)["u"])
    data = FieldFiles(path=str(path), history=2, bundle=2, steps=2, batch_size=4)
    batch, rows = data.batch(5), data.places(5, 0, 1)
    assert batch.inputs["u"].shape == (4, 2, 16) and batch.target.shape == (4, 4, 16)
    starts = [s for s in range(3) if torch.equal(batch.inputs["u"], u[rows, s : s + 2])]
    assert len(starts) == 1
    assert torch.equal(batch.target, u[rows, starts[0] + 2 : starts[0] + 6])
    assert data.fields.base == [1, 1]  # changes of the last state known
    chunk = data.val_chunk(0)
    assert torch.equal(chunk.target, u[data.chosen["val"], 2:8])
    grown = FieldFiles(path=str(path), steps=3, ramp=10)
    assert [grown.batch(s).target.shape[1] for s in (0, 10, 90)] == [1, 2, 3]
    whole = FieldFiles(path=str(path), task="map")
    assert whole.batch(0).target.shape == (16, 7, 16) and not whole.fields.bundle


def test_pairs_whose_first_time_is_the_input_learn_changes(tmp_path):
    u = small.smooth(20, 5, 16)
    np.savez(tmp_path / "a.npz", x=u[:, 0], y=u)
    data = FieldFiles(path=str(tmp_path / "a.npz"))
    assert data.fields.base == [0] * 5
    change = (u - u[:, :1])[data.chosen["train"]]
    assert data.sizes["fields"]["out_std"][1:] == pytest.approx(change.std((0, 2))[1:], rel=1e-9)
    assert FieldFiles(path=str(tmp_path / "a.npz"), increment=False).fields.base == [-1] * 5


def test_grids_and_periods_are_seen_in_the_data(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=40)
    assert FieldFiles(path=str(path)).fields.periodic
    n = 16
    for kind, x in (("left", np.arange(n) / n), ("both", np.arange(n) / (n - 1))):
        size = np.random.default_rng(0).uniform(1, 2, (20, 1))
        k = np.pi if kind == "both" else np.pi * 0.99
        np.savez(tmp_path / "b.npz", x=size * np.ones(n), y=size * np.sin(k * x))
        data = FieldFiles(path=str(tmp_path / "b.npz"))
        assert data.fields.grid == [kind] and not data.fields.periodic


def test_subsampling_and_test_files_on_another_grid(tmp_path):
    small.pairs(tmp_path / "train.npz", count=20, n=16)
    small.pairs(tmp_path / "test.npz", count=6, n=32)
    data = FieldFiles(
        path=str(tmp_path / "train.npz"), test_path=str(tmp_path / "test.npz"), subsample=2
    )
    assert data.batch(0).target.shape[2:] == (8, 8) and data.fields.size == [8, 8]
    assert data.test_chunk(0).target.shape[2:] == (16, 16) and data.test_chunks == 1
    assert len(data.chosen["train"]) == 18


def test_symmetries_are_checked_on_the_data(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=120, n=8)
    data = FieldFiles(path=str(path), symmetries=["transpose", "flip_x", "shift", "odd"])
    assert len([n for n in data.notes if n.startswith("symmetry")]) == 4
    plain = FieldFiles(path=str(path))
    batch, before = data.batch(0), plain.batch(0)
    assert not torch.equal(batch.inputs["x"], before.inputs["x"])
    smoothed = torch.from_numpy(small.smoothed(batch.inputs["x"].numpy()))
    torch.testing.assert_close(batch.target[:, 0], smoothed, rtol=1e-5, atol=1e-6)
    x = small.smooth(120, 16)
    np.savez(tmp_path / "b.npz", x=x, y=np.roll(x, 3, 1))  # moves to the right
    with pytest.raises(InvalidArgument, match="flip_x, which these data do not have.*%"):
        FieldFiles(path=str(tmp_path / "b.npz"), symmetries=["flip_x"])


def test_regressions_find_linear_operators(tmp_path):
    x = torch.from_numpy(small.smooth(60, 12))[:, None]
    y = torch.from_numpy(small.smoothed(x[:, 0].numpy()))[:, None]
    known, new = (x[:50], y[:50]), x[50:]
    assert relative(modal(*known)(new), y[50:]) < 1e-6
    assert relative(kernel_ridge(*known)(new), y[50:]) < 1e-6
    assert torch.equal(nearest(*known)(x[7:8]), y[7:8])


def refused(tmp_path):
    """Yield settings that cannot be used, and what the message has to say."""
    x = small.smooth(20, 8)
    bad = x.copy()
    bad[:, 3] = np.where(np.arange(20) == 4, np.nan, bad[:, 3])
    np.savez(tmp_path / "nan.npz", x=bad, y=x)
    yield "nan.npz", {}, r"x\[4, 3\] is nan.*data.skip=\[4\]"
    np.savez(tmp_path / "flat.npz", x=x, y=np.ones_like(x))
    yield "flat.npz", {}, "output y is 1 in all 16 training samples"
    np.savez(tmp_path / "one.npz", x=x[:1], y=x[:1])
    yield "one.npz", {}, "1 sample, which would be split"
    np.savez(tmp_path / "keys.npz", alpha=x, beta=x, gamma=x)
    yield "keys.npz", {}, r"alpha \(20, 8\).*Type data.inputs="
    small.pairs(tmp_path / "ok.npz", count=20)
    yield "ok.npz", {"outputs": ["z"]}, r"data.outputs=z is no array.*y \(20, 16, 16\)"
    yield "ok.npz", {"subsample": [2]}, "data.subsample.*2 directions"
    yield "ok.npz", {"val": 30}, "data.val=30 of 20 samples"
    yield "ok.npz", {"grid": "middle"}, "left or both or cells"
    yield "ok.npz", {"task": "rollout"}, "without a trajectory"
    yield "ok.npz", {"symmetries": ["mirror"]}, "data.symmetries with mirror"
    np.savez(tmp_path / "other.npz", x=x, y=small.smooth(20, 9))
    yield "other.npz", {}, "x .20, 8. float64 on another grid|numbers"
    small.trajectories(tmp_path / "u.npz", times=4)
    yield "u.npz", {"steps": 9}, "with 4 times. Expected history"
    yield "u.npz", {"train": 0}, "data.train=0. Expected a share between 0 and 1, or a number"
    for word in ("horizon", "history"):
        yield "u.npz", {word: 0}, f"data.{word}=0. Expected a positive integer"
    yield "u.npz", {"horizon": -2}, "data.horizon=-2. Expected a positive integer"


def test_what_cannot_be_used_is_told_with_what_to_type(tmp_path):
    for name, settings, said in refused(tmp_path):
        if name == "other.npz":
            continue  # vectors of another length are numbers of the whole sample
        with pytest.raises(InvalidArgument, match=said):
            FieldFiles(path=str(tmp_path / name), **settings)
    data = FieldFiles(path=str(tmp_path / "nan.npz"), skip="nan")
    assert 4 not in np.concatenate(list(data.chosen.values()))
    assert FieldFiles(path=str(tmp_path / "other.npz")).fields.inputs[0].axes == ("c",)


def test_constant_channels_and_integers_are_told_and_used(tmp_path):
    x = np.random.default_rng(0).integers(0, 5, (20, 2, 16))
    x[:, 1] = 3
    np.savez(tmp_path / "a.npz", x=x, y=small.smooth(20, 16), mask=x[:, 0] > 2)
    data = FieldFiles(path=str(tmp_path / "a.npz"), inputs=["x", "mask"], outputs=["y"])
    assert "x, channel 1 is 3 in all training samples" in data.notes
    assert data.sizes["fields"]["std"][1] == 1.0
    batch = data.batch(0)
    assert batch.inputs["x"].dtype == batch.inputs["mask"].dtype == torch.float32
