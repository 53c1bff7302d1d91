"""Parts and numbered samples inside one file, and files of a folder that are parts or samples."""

import numpy as np
import pytest
import torch

from sciml.data.field_files import FieldFiles
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument

RANDOM = np.random.default_rng(0)
X, Y = np.cumsum(RANDOM.standard_normal((2, 50, 32)), -1)
TRAIN, TEST = slice(0, 40), slice(40, 50)


def write(path, held):
    """Write arrays by full names, nested where names have strokes."""
    if path.suffix == ".npz":
        np.savez(path, **{n.replace("/", "_"): v for n, v in held.items()})
    elif path.suffix == ".pt":
        nested = {}
        for name, value in held.items():
            *groups, last = name.split("/")
            inner = nested
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = torch.from_numpy(np.asarray(value))
        torch.save(nested, path)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, value in held.items():
                file[name] = value
    return str(path)


@pytest.mark.parametrize("name", ["a.h5", "a.pt", "a.npz"])
@pytest.mark.parametrize("form", ["{part}/{array}", "{array}/{part}"])
def test_parts_inside_a_file_are_parts(tmp_path, name, form):
    held = {}
    for part, rows in (("test", TEST), ("train", TRAIN)):
        held |= {form.format(part=part, array="x"): X[rows]}
        held |= {form.format(part=part, array="y"): Y[rows]}
    path = write(tmp_path / name, held)
    source = open_source(path)
    assert set(source.arrays) == {"x", "y"}
    np.testing.assert_array_equal(source.arrays["y"].rows(slice(None)), Y)
    np.testing.assert_array_equal(source.parts["test"], np.arange(40, 50))
    data = FieldFiles(path=path)
    assert [len(data.chosen[p]) for p in ("train", "val", "test")] == [36, 4, 10]
    held, *_ = data.tests["test"]
    np.testing.assert_allclose(held[[45]]["x"].numpy(), X[[45]], rtol=1e-6)
    assert any("40 train, 10 test" in note for note in source.notes)


def test_a_part_that_does_not_fit_is_left_out_and_told(tmp_path):
    held = {
        "x_train": X[TRAIN],
        "y_train": Y[TRAIN],
        "x_test": X[TEST, :16],
        "y_test": Y[TEST, :16],
    }
    source = open_source(write(tmp_path / "a.npz", held))
    np.testing.assert_array_equal(source.arrays["x"].rows(slice(None)), X[TRAIN])
    assert any("the part test is left out" in note and "data.test_path" in note
               for note in source.notes)  # fmt: skip


def test_one_word_alone_is_a_name(tmp_path):
    source = open_source(write(tmp_path / "a.npz", {"x_train": X, "y_train": Y}))
    assert set(source.arrays) == {"x_train", "y_train"} and not source.parts


@pytest.mark.parametrize("name", ["a.h5", "a.pt"])
def test_numbered_groups_are_samples(tmp_path, name):
    x, y = RANDOM.standard_normal((2, 12, 24, 24))
    grid = np.linspace(0, 1, 24)
    held = {}
    for k in range(12):
        held |= {f"sample_{k}/x": x[k], f"sample_{k}/y": y[k], f"sample_{k}/nu": np.float64(k)}
        held |= {f"sample_{k}/grid_x": grid}
    source = open_source(write(tmp_path / name, held))
    assert {n: a.shape for n, a in source.arrays.items()} == {
        "x": (12, 24, 24), "y": (12, 24, 24), "nu": (12,),
    }  # fmt: skip
    np.testing.assert_array_equal(source.arrays["y"].rows([11, 2, 3]), y[[11, 2, 3]])  # 2 before 11
    np.testing.assert_array_equal(source.arrays["nu"].rows(slice(None)), np.arange(12.0))
    np.testing.assert_array_equal(source.coordinates["x"], grid)
    assert any("(0 to 11) are one sample each" in note for note in source.notes)


def test_numbered_groups_of_several_lengths_are_batches(tmp_path):
    cuts = [0, 10, 25, 50]
    held = {f"run{k}/x": X[cuts[k] : cuts[k + 1]] for k in range(3)}
    held |= {f"run{k}/y": Y[cuts[k] : cuts[k + 1]] for k in range(3)}
    held |= {f"run{k}/nu": np.float64(k) for k in range(3)}
    held |= {f"run{k}/shape": Y[k, :4] for k in range(3)}
    source = open_source(write(tmp_path / "a.h5", held))
    assert source.arrays["nu"].rows([0, 9, 10, 49]).tolist() == [0, 0, 1, 2]
    np.testing.assert_array_equal(source.arrays["shape"].rows([24, 25]), Y[1:3, :4])
    np.testing.assert_array_equal(source.arrays["x"].rows([49, 0, 12]), X[[49, 0, 12]])
    assert any("batches, one behind" in note for note in source.notes)


def test_numbered_groups_of_other_layouts_are_kept_apart_and_told(tmp_path):
    held = {f"g{k}/x": X[:, : 8 * (k + 1)] for k in range(3)}
    source = open_source(write(tmp_path / "a.h5", held))
    assert set(source.arrays) == {"g0/x", "g1/x", "g2/x"} and not source.certain
    assert any("are not put together: x has the shapes" in note for note in source.notes)


def test_parts_of_numbered_groups(tmp_path):
    held = {}
    for part, rows in (("train", range(40)), ("test", range(40, 50))):
        for k in rows:
            held |= {f"{part}/{k:03d}/x": X[k], f"{part}/{k:03d}/y": Y[k]}
    source = open_source(write(tmp_path / "a.h5", held))
    np.testing.assert_array_equal(source.arrays["x"].rows(slice(None)), X)
    np.testing.assert_array_equal(source.parts["test"], np.arange(40, 50))


def test_numbers_of_samples_in_a_folder(tmp_path):
    for k in range(40):
        np.savez(tmp_path / f"s{k}.npz", a=X[k], u=Y[k], nu=0.01 * (k + 1), dt=np.array([0.5]))
    data = FieldFiles(path=str(tmp_path), inputs=["a", "nu"])
    assert data.layout.space == (32,) and data.layout.outputs[0].axes == ("x",)
    np.testing.assert_allclose(
        data.source.arrays["nu"].rows([30, 2, 11]), [0.31, 0.03, 0.12], rtol=1e-12
    )
    assert data.source.attributes == {"dt": 0.5}
    np.savez(tmp_path / "s7.npz", a=X[7], u=Y[7], dt=np.array([0.5]))
    with pytest.raises(InvalidArgument, match=r"s7.npz \(file 7\) has no number nu.*Take s7.npz"):
        open_source(tmp_path)


def test_words_of_parts_stand_anywhere_in_names_of_files(tmp_path):
    np.savez(tmp_path / "darcy_train.npz", x=X[TRAIN], y=Y[TRAIN])
    np.savez(tmp_path / "darcy_test.npz", x=X[TEST], y=Y[TEST])
    source = open_source(tmp_path)
    np.testing.assert_array_equal(source.arrays["x"].rows(slice(None)), X)
    np.testing.assert_array_equal(source.parts["test"], np.arange(40, 50))
    assert not source.notes
    np.savez(tmp_path / "more.npz", x=X[:3], y=Y[:3])
    assert any("more.npz is of no part" in note for note in open_source(tmp_path).notes)
    np.savez(tmp_path / "darcy_test.npz", x=X[TEST, :16], y=Y[TEST, :16])
    with pytest.raises(InvalidArgument, match=r"data.test_path=\S*darcy_test.npz"):
        open_source(tmp_path)


def test_a_word_in_all_names_of_files_is_no_part(tmp_path):
    for k in range(12):
        np.savez(tmp_path / f"run_test_{k}.npz", u=X[k : k + 6])
    source = open_source(tmp_path)
    assert source.arrays["u"].shape == (12, 6, 32) and not source.parts


def test_a_trajectory_per_file_stays_one_beside_numbers_that_differ(tmp_path):
    for k in range(12):
        np.savez(tmp_path / f"s{k}.npz", u=X[k : k + 6], nu=0.1 * k)
    assert FieldFiles(path=str(tmp_path)).layout.moving == ("u",)
    data = FieldFiles(path=str(tmp_path), inputs=["u", "nu"], outputs="u")
    assert [a.name for a in data.layout.inputs] == ["u", "nu"]
    np.testing.assert_allclose(data.rows[[7]]["nu"].numpy().ravel(), [0.7], rtol=1e-6)


def test_trajectories_of_several_lengths_are_no_batches(tmp_path):
    held = {f"run{k}/u": np.ones((9 + k, 8, 8)) for k in range(3)}
    source = open_source(write(tmp_path / "a.h5", held))
    assert len(source.arrays) == 3
    assert any("cut trajectories to one length" in note for note in source.notes)
