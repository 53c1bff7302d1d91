"""Samples along another axis than the first: named by the user, doubted, or refused."""

import numpy as np
import pytest
import torch

from sciml.data.field_files import FieldFiles
from sciml.data.layouts.field_layout import recognise
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument
from sciml.testing import small_files as small

NAMES = {"inputs": "kappa", "outputs": "temperature"}
LAST = {"kappa": ["x", "y", "n"], "temperature": ["x", "y", "n"]}
FIRST = {"kappa": ["n", "x", "y"], "temperature": ["n", "x", "y"]}


def fields(count=24, n=10, m=10):
    kappa = small.smooth(count, n, m).astype(np.float32)
    return kappa, small.smoothed(kappa).astype(np.float32)


def write(path, kappa, temperature, version="5"):
    """Write both arrays with samples last, in the format of the file's ending."""
    held = {"kappa": np.moveaxis(kappa, 0, -1), "temperature": np.moveaxis(temperature, 0, -1)}
    if path.suffix == ".mat" and version == "7.3":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, value in held.items():
                file[name] = value.T
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    elif path.suffix == ".mat":
        from scipy.io import savemat

        savemat(path, held)
    elif path.suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, value in held.items():
                file[name] = value
    else:
        (np.savez_compressed if version == "compressed" else np.savez)(path, **held)
    return str(path)


@pytest.mark.parametrize("memory", [1000, 0])
@pytest.mark.parametrize(
    ("name", "version"),
    [("a.mat", "5"), ("a.mat", "7.3"), ("a.npz", ""), ("a.npz", "compressed"), ("a.h5", "")],
)
def test_samples_may_stand_along_any_axis_that_is_named(tmp_path, name, version, memory):
    kappa, temperature = fields()
    path = write(tmp_path / name, kappa, temperature, version)
    data = FieldFiles(path=path, **NAMES, axes=LAST, memory=memory)
    assert data.layout.count == 24 and data.layout.space == (10, 10) and not data.doubts
    rows = [20, 3, 11]
    held = data.rows[rows]
    assert torch.equal(held["kappa"], torch.from_numpy(kappa[rows]))
    assert torch.equal(held["temperature"], torch.from_numpy(temperature[rows]))


def test_samples_in_the_middle_and_in_parts_of_a_folder(tmp_path):
    u = small.smooth(12, 5, 16)  # (n, t, x)
    np.savez(tmp_path / "u.npz", u=np.moveaxis(u, 0, 1))
    found = recognise(open_source(tmp_path / "u.npz"), axes={"u": ["t", "n", "x"]})
    assert found.moving == ("u",) and found.outputs[0].axes == ("t", "x")
    np.testing.assert_array_equal(found.outputs[0].rows([7, 2]), u[[7, 2]])
    np.testing.assert_array_equal(found.outputs[0].rows(slice(1, 4)), u[1:4])
    for part in ("train", "test"):  # files are put together along their first axes
        np.savez(tmp_path / f"{part}_0.npz", u=np.moveaxis(u, 0, 1))
    (tmp_path / "u.npz").unlink()
    with pytest.raises(InvalidArgument, match="samples first in each file"):
        recognise(open_source(tmp_path), axes={"u": ["t", "n", "x"]})
    assert recognise(open_source(tmp_path), axes={"u": ["n", "t", "x"]}).count == 10


def test_a_matlab_file_that_surely_has_samples_last_is_refused(tmp_path):
    path = write(tmp_path / "a.mat", *fields())
    with pytest.raises(InvalidArgument) as told:
        recognise(open_source(path), **NAMES)
    said = str(told.value)
    assert "looks like 24 samples along the last axis" in said
    assert '"data.axes={kappa: [x, y, n], temperature: [x, y, n]}"' in said
    # who has 10 samples on 10 x 24 points says so
    assert '10 samples, "data.axes={kappa: [n, x, y], temperature: [n, x, y]}"' in said
    assert recognise(open_source(path), **NAMES, axes=FIRST).space == (10, 24)


@pytest.mark.parametrize(
    ("name", "grid", "doubted"),
    [("a.mat", (10, 12), True), ("a.npz", (10, 10), True), ("a.npz", (10, 12), False)],
)
def test_what_may_have_samples_last_is_said(tmp_path, name, grid, doubted):
    path = write(tmp_path / name, *fields(24, *grid))
    data = FieldFiles(path=path, **NAMES, val=1, test=1)
    assert bool(data.doubts) == doubted
    for text in data.doubts:
        assert f"read as {grid[0]} samples" in text and "the samples (24)" in text
        assert text.endswith('type "data.axes={kappa: [x, y, n], temperature: [x, y, n]}"')
        assert text in data.notes
    assert not FieldFiles(path=path, **NAMES, axes=FIRST, val=1, test=1).doubts


def test_usual_files_are_not_doubted(tmp_path):
    small.matlab(tmp_path / "a.mat")
    files = [
        tmp_path / "a.mat",
        small.pairs(tmp_path / "b.npz"),
        small.pairs(tmp_path / "c.npz", 16),
    ]
    files.append(small.trajectories(tmp_path / "d.npz"))
    folder = tmp_path / "each"
    folder.mkdir()
    for k in range(8):  # one sample per file: samples come first for sure
        np.savez(folder / f"s_{k:02}.npz", x=np.zeros((8, 24)), y=np.zeros((8, 24)))
    for path in [*files, folder]:
        assert not recognise(open_source(path)).doubts, path


def test_axes_of_one_array_alone_or_without_samples_are_told(tmp_path):
    source = open_source(write(tmp_path / "a.npz", *fields()))
    with pytest.raises(InvalidArgument, match="Say data.axes of temperature too"):
        recognise(source, **NAMES, axes={"kappa": LAST["kappa"]})
    with pytest.raises(InvalidArgument, match="among them n"):
        recognise(source, **NAMES, axes={"kappa": ["x", "y", "t"]})
    np.savez(tmp_path / "b.npz", kappa=np.zeros((3, 24)), temperature=np.zeros((10, 12, 24)))
    with pytest.raises(InvalidArgument) as told:
        recognise(open_source(tmp_path / "b.npz"), **NAMES)
    assert 'type "data.axes={kappa: [c, n], temperature: [x, y, n]}"' in str(told.value)


def test_one_word_is_a_list_of_one(tmp_path):
    kappa, temperature = fields()
    np.savez(tmp_path / "a.npz", kappa=kappa, temperature=temperature)
    path = str(tmp_path / "a.npz")
    data = FieldFiles(path=path, **NAMES, symmetries="transpose")
    assert [a.name for a in data.layout.inputs] == ["kappa"]
    assert data.sizes["fields"]["symmetries"] == ["transpose"]
    apart = [FieldFiles(path=path, inputs="kappa"), FieldFiles(path=path, outputs="temperature")]
    assert all(d.names == ("temperature",) for d in apart)


def test_names_that_are_not_known_are_told_as_a_line_to_copy(tmp_path):
    kappa, temperature = fields()
    np.savez(tmp_path / "a.npz", kappa=kappa, temperature=temperature)
    with pytest.raises(InvalidArgument) as told:
        recognise(open_source(tmp_path / "a.npz"))
    assert "Type data.inputs=[kappa] data.outputs=[temperature], or" in str(told.value)
