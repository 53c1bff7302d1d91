"""Every layout that people bring is read back to identical numbers; nothing in a file runs code."""

import pickle

import numpy as np
import pytest
import torch

from sciml.data.files.statistics import Moments
from sciml.data.layouts.field_layout import recognise
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument
from sciml.testing import small_files as small


def everything(array):
    return array.rows(slice(None))


def test_npz_is_read_in_place_and_in_any_order(tmp_path):
    path = small.pairs(tmp_path / "a.npz", n=8)
    array = open_source(path).arrays["x"]
    with np.load(path) as held:
        np.testing.assert_array_equal(array.rows([5, 0, 5]), held["x"][[5, 0, 5]])
        np.testing.assert_array_equal(array.rows(slice(2, 4)), held["x"][2:4])


def test_compressed_npz_and_other_byte_order(tmp_path):
    x = small.smooth(4, 8)
    np.savez_compressed(tmp_path / "a.npz", x=x.astype(">f8"), y=x)
    source = open_source(tmp_path / "a.npz")
    found = source.arrays["x"].rows([1, 0])
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, x[[1, 0]])
    assert any("compressed" in note for note in source.notes)


def test_npy_with_fortran_order(tmp_path):
    u = np.asfortranarray(small.smooth(4, 5, 8))
    np.save(tmp_path / "u.npy", u)
    np.testing.assert_array_equal(
        open_source(tmp_path / "u.npy").arrays["u"].rows([3, 1]), u[[3, 1]]
    )


def test_torch_files(tmp_path):
    x, y = torch.rand(4, 8) > 0.5, torch.rand(4, 8, dtype=torch.float64)
    torch.save({"x": x, "y": y, "visc": torch.tensor([[0.1]])}, tmp_path / "a.pt")
    source = open_source(tmp_path / "a.pt")
    np.testing.assert_array_equal(everything(source.arrays["x"]), x.numpy())
    np.testing.assert_array_equal(everything(source.arrays["y"]), y.numpy())
    assert source.attributes == {"visc": pytest.approx(0.1, rel=1e-6)}
    torch.save((x, y), tmp_path / "pair.pt")
    assert list(open_source(tmp_path / "pair.pt").arrays) == ["x", "y"]
    torch.save([{"points": torch.rand(3, 2)}, {"points": torch.rand(5, 2)}], tmp_path / "c.pt")
    assert [c["points"].shape for c in open_source(tmp_path / "c.pt").clouds] == [(3, 2), (5, 2)]


@pytest.mark.parametrize("write", [small.matlab, small.matlab73])
def test_matlab_of_both_versions_with_time_last(tmp_path, write):
    a, u = write(tmp_path / "ns.mat")
    source = open_source(tmp_path / "ns.mat")
    np.testing.assert_array_equal(source.arrays["a"].rows([4, 0, 1]), a[[4, 0, 1]])
    np.testing.assert_array_equal(everything(source.arrays["u"]), u)
    layout = recognise(source)
    assert [x.axes for x in (*layout.inputs, *layout.outputs)] == [("x", "y"), ("x", "y", "t")]


def test_pdebench_with_a_longer_time_axis(tmp_path):
    u = small.pdebench_tensor(tmp_path / "a.hdf5")
    source = open_source(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(source.arrays["tensor"].rows([9, 2]), u[[9, 2]])
    assert len(source.coordinates["t"]) == 6
    assert source.parts["test"].tolist() == [0]  # the first tenth
    assert source.attributes["beta"] == 0.1
    assert recognise(source).moving == ("tensor",)


def test_pdebench_compressible_and_darcy(tmp_path):
    held = small.pdebench_compressible(tmp_path / "c.hdf5")
    source = open_source(tmp_path / "c.hdf5")
    for name, values in held.items():
        np.testing.assert_array_equal(everything(source.arrays[name]), values)
    assert recognise(source).moving == tuple(held)
    a, u = small.pdebench_darcy(tmp_path / "d.hdf5")
    layout = recognise(open_source(tmp_path / "d.hdf5"))
    np.testing.assert_array_equal(everything(layout.inputs[0]), a)
    np.testing.assert_array_equal(everything(layout.outputs[0]), u)
    assert layout.outputs[0].axes == ("c", "x", "y")


def test_pdebench_groups_with_gaps(tmp_path):
    u = small.pdebench_grouped(tmp_path / "r.h5")
    source = open_source(tmp_path / "r.h5")
    np.testing.assert_array_equal(source.arrays["data"].rows([7, 3]), u[[7, 3]])
    assert source.arrays["data"].axes == ("t", "x", "c")
    assert source.parts["test"].tolist() == [9]  # the last tenth
    assert any("gaps" in note for note in source.notes)


def test_pdebench_frames_that_were_never_written(tmp_path):
    held = small.pdebench_incompressible(tmp_path / "i.h5")
    source = open_source(tmp_path / "i.h5")
    np.testing.assert_array_equal(everything(source.arrays["velocity"]), held["velocity"][:, :4])
    layout = recognise(source)
    assert [a.name for a in layout.inputs] == ["velocity", "particles", "force"]
    assert layout.moving == ("velocity", "particles")


def test_the_well_with_missing_axes(tmp_path):
    held = small.well(tmp_path / "set" / "data" / "train" / "a.hdf5")
    small.well(tmp_path / "set" / "data" / "test" / "b.hdf5")
    source = open_source(tmp_path / "set")
    arrays = source.arrays
    full = (6, 4, 8, 6)
    assert arrays["density"].shape == arrays["wind"].shape == full
    np.testing.assert_array_equal(arrays["density"].rows([4])[0], held["density"][1])
    np.testing.assert_array_equal(arrays["mask"].rows([5])[0], held["mask"])
    wind = np.broadcast_to(held["wind"][..., None], full[1:])
    np.testing.assert_array_equal(arrays["wind"].rows([0])[0], wind)
    stress = held["stress"].reshape(3, 4, 8, 6, 4)
    np.testing.assert_array_equal(everything(arrays["stress"])[3:], stress)
    assert arrays["velocity"].axes == ("t", "x", "y", "c") and arrays["mask"].axes == ("x", "y")
    np.testing.assert_array_equal(everything(arrays["Re"]), [1, 2, 3, 1, 2, 3])
    assert {k: v.tolist() for k, v in source.parts.items()} == {
        "train": [0, 1, 2],
        "test": [3, 4, 5],
    }
    assert source.attributes["periodic"] == [True, False]


def test_netcdf_names_axes_and_units(tmp_path):
    import h5py

    a, u = small.netcdf3(tmp_path / "c.nc")
    source = open_source(tmp_path / "c.nc")
    layout = recognise(source)
    np.testing.assert_array_equal(everything(layout.inputs[0]), a)
    np.testing.assert_array_equal(everything(layout.outputs[0]), u)
    assert layout.outputs[0].axes == ("t", "x", "y") and layout.outputs[0].unit == "K"
    with h5py.File(tmp_path / "d.nc", "w") as file:  # as version 4 lays it out
        for name, size in (("sample", 5), ("time", 4), ("lon", 8)):
            file[name] = np.arange(float(size))
            file[name].make_scale(name)
        file["u"] = small.smooth(5, 4, 8)
        for k, name in enumerate(("sample", "time", "lon")):
            file["u"].dims[k].attach_scale(file[name])
        file["u"].attrs["units"] = "m"
    found = open_source(tmp_path / "d.nc").arrays["u"]
    assert found.axes == ("t", "x") and found.unit == "m"


def test_tables_and_folders(tmp_path):
    table = np.arange(12.0).reshape(3, 4)
    lines = ["x0,x1,y0,y1", *(",".join(map(str, row)) for row in table)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    arrays = open_source(tmp_path / "a.csv").arrays
    np.testing.assert_array_equal(everything(arrays["x"]), table[:, :2])
    np.testing.assert_array_equal(everything(arrays["y"]), table[:, 2:])
    one, x = tmp_path / "one", small.smooth(12, 8)
    one.mkdir()
    for k in range(12):
        np.savez(one / f"s{k}.npz", x=x[k], y=2 * x[k])
    arrays = open_source(one).arrays
    np.testing.assert_array_equal(arrays["x"].rows([11, 2]), x[[11, 2]])  # s2 before s11
    parts = tmp_path / "parts"
    parts.mkdir()
    small.pairs(parts / "train_a.npz", count=4, n=8)
    small.pairs(parts / "test.npz", count=3, n=8)
    source = open_source(parts)
    assert source.arrays["x"].shape[0] == 7
    assert {k: len(v) for k, v in source.parts.items()} == {"train": 4, "test": 3}


def test_axes_are_recognised_and_can_be_typed(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros((9, 3, 16)), u=np.zeros((9, 16, 20)))
    layout = recognise(open_source(tmp_path / "a.npz"), axes={"u": ["n", "x", "t"]})
    assert layout.inputs[0].axes == ("c", "x") and layout.outputs[0].axes == ("x", "t")
    np.savez(tmp_path / "b.npz", u=np.zeros((9, 32, 32, 7)))
    assert recognise(open_source(tmp_path / "b.npz")).outputs[0].axes == ("x", "y", "t")
    np.savez(tmp_path / "c.npz", k=np.zeros((9, 2)), y=np.zeros((9, 16, 16)))
    assert recognise(open_source(tmp_path / "c.npz")).inputs[0].axes == ("c",)
    with pytest.raises(InvalidArgument, match=r"data.axes.u=\['n', 'x'\] for u \(9, 16, 20\)"):
        recognise(open_source(tmp_path / "a.npz"), axes={"u": ["n", "x"]})


class Touch:
    """Pickles to a call that would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def damaged(tmp_path):
    """Yield what is written, and what the message has to say."""
    x = small.smooth(6, 8)
    pair = np.empty(2, object)
    pair[0], pair[1] = x, x[0]
    np.savez(tmp_path / "objects.npz", X=pair, y=x)
    yield "objects.npz", r"X \(2,\) holds Python objects.*np.savez.*branch="
    whole = small.pairs(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    yield "cut.npz", "cannot be read.*truncated"
    np.save(tmp_path / "u.npy", x)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "u.npy").read_bytes()[:200])
    yield "cut.npy", "cannot be read.*truncated"
    torch.save({"x": torch.rand(9, 9)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:300])
    yield "cut.pt", "cannot be read.*truncated"
    with (tmp_path / "code.pt").open("wb") as file:
        pickle.dump({"x": Touch(tmp_path / "touched")}, file)
    yield "code.pt", "cannot be read|holds Python objects"
    torch.save({"x": [torch.rand(3, 4), torch.rand(3, 5)]}, tmp_path / "mixed.pt")
    yield "mixed.pt", r"x is a list of tensors of mixed shapes.*number 1"
    small.pdebench_tensor(tmp_path / "whole.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:600])
    yield "cut.h5", "cannot be read.*truncated"
    (tmp_path / "cut.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    yield "cut.mat", "cannot be read.*truncated"
    (tmp_path / "empty.npz").write_bytes(b"")
    yield "empty.npz", "is empty"
    (tmp_path / "bad.csv").write_text("x0,x1\n1,2\n3,?\n")
    yield "bad.csv", r"line 3, column x1: '\?'"
    (tmp_path / "a.xyz").write_text("1")
    yield "a.xyz", r"ends in .xyz. Expected a name ending in .npz"
    yield "none.npz", "there is no file.*There are"


def test_damaged_files_are_told_in_one_message(tmp_path):
    for name, said in damaged(tmp_path):
        with pytest.raises(InvalidArgument, match=said):
            open_source(tmp_path / name)
    assert not (tmp_path / "touched").exists()
    with pytest.raises(
        InvalidArgument, match=r"data.inputs=z is no array.*x \(24.*Available: x, y"
    ):
        recognise(open_source(tmp_path / "whole.npz"), ["z"])


def test_statistics_of_parts_are_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    values = 1e6 + torch.randn(7, 3, 4, 5, generator=generator, dtype=torch.float64)
    found = Moments()
    for part in values.split((2, 1, 4)):
        found.add(part)
    flat = values.movedim(1, 0).flatten(1)
    torch.testing.assert_close(found.mean, flat.mean(1), rtol=1e-14, atol=0)
    torch.testing.assert_close(found.std, flat.std(1, unbiased=False), rtol=1e-9, atol=0)
    assert torch.equal(found.low, flat.amin(1)) and torch.equal(found.high, flat.amax(1))


def test_npy_files_are_arrays_or_samples_by_their_names(tmp_path):
    x = small.smooth(12, 8)
    pair = tmp_path / "pair"
    pair.mkdir()
    np.save(pair / "x.npy", x)
    np.save(pair / "y.npy", 2 * x)
    layout = recognise(open_source(pair))
    np.testing.assert_array_equal(layout.outputs[0].rows([3, 1]), 2 * x[[3, 1]])
    assert "data.path=" in open_source(pair / "x.npy").notes[0]
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, part, values in (("x", "train", x[:9]), ("y", "train", 2 * x[:9]),
                               ("x", "test", x[9:]), ("y", "test", 2 * x[9:])):  # fmt: skip
        np.save(parts / f"{name}_{part}.npy", values)
    source = open_source(parts)
    np.testing.assert_array_equal(source.arrays["y"].rows([11, 0]), 2 * x[[11, 0]])
    assert source.parts["test"].tolist() == [9, 10, 11]
    single = tmp_path / "single"
    single.mkdir()
    for k in range(12):
        np.save(single / f"case_{k}.npy", x[k])
    assert open_source(single).arrays["values"].shape == (12, 8)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_stores(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    x = small.smooth(12, 8)
    settings = {"zarr_format": version} if hasattr(zarr, "create_group") else {}
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", **settings)
    for name, values in (("x", x), ("y", 2 * x)):
        node = (group.create_array if hasattr(group, "create_array") else group.create_dataset)(
            name, shape=values.shape, dtype=values.dtype, chunks=(5, 8)
        )
        node[:] = values
    source = open_source(tmp_path / "a.zarr")
    np.testing.assert_array_equal(source.arrays["y"].rows([11, 2]), 2 * x[[11, 2]])
    assert source.chunked == 5 and recognise(source).inputs[0].name == "x"
