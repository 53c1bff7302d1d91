"""Dimensions with names: which of them counts samples, wherever it stands."""

import numpy as np
import pytest

from sciml.data.field_files import FieldFiles
from sciml.data.layouts.sample_axis import as_trained
from sciml.data.readers import open_source
from sciml.errors import InvalidArgument

H5 = "a.h5"


def write(path, arrays, **coordinates):
    """Write arrays with named dimensions: {name: (dims, values)}; NetCDF 3, or 4 as .h5."""
    sizes = {d: n for dims, v in arrays.values() for d, n in zip(dims, v.shape, strict=True)}
    if path.suffix == ".nc":
        from scipy.io import netcdf_file

        with netcdf_file(path, "w") as file:
            for dim, size in sizes.items():
                file.createDimension(dim, size)
            for name, (dims, values) in arrays.items():
                file.createVariable(name, values.dtype, dims)[:] = values
            for name, values in coordinates.items():
                file.createVariable(name, values.dtype, (name,))[:] = values
        return str(path)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for dim, size in sizes.items():
            file[dim] = coordinates.get(dim, np.zeros(size))
            known = dim in coordinates
            file[dim].make_scale(dim if known else f"This is a netCDF dimension but not a {dim}")
        for name, (dims, values) in arrays.items():
            file[name] = values
            for k, dim in enumerate(dims):
                file[name].dims[k].attach_scale(file[dim])
    return str(path)


def smooth(*shape):
    return np.cumsum(np.random.default_rng(0).standard_normal(shape), axis=-1)


@pytest.mark.parametrize("name", ["a.nc", H5])
def test_samples_are_found_wherever_their_dimension_stands(tmp_path, name):
    a, u = smooth(20, 12, 40), smooth(20, 12, 3, 40)
    path = write(
        tmp_path / name,
        {"a": (("lat", "lon", "sample"), a), "u": (("lat", "lon", "channel", "sample"), u)},
    )
    data = FieldFiles(path=path)
    inp, out = data.layout.inputs[0], data.layout.outputs[0]
    assert data.layout.count == 40 and inp.axes == ("y", "x") and out.axes == ("y", "x", "c")
    rows = [7, 30, 2]
    np.testing.assert_array_equal(inp.rows(rows), np.moveaxis(a, -1, 0)[rows])
    np.testing.assert_array_equal(out.rows(rows), np.moveaxis(u, -1, 0)[rows])
    assert not data.doubts and "put first" in data.source.format


@pytest.mark.parametrize("name", ["a.nc", H5])
@pytest.mark.parametrize(("dim", "told"), [("number", False), ("realization", False), ("kk", True)])
def test_an_unknown_name_beside_known_ones_counts_samples_and_is_told(tmp_path, name, dim, told):
    u = smooth(40, 24, 16)
    data = FieldFiles(path=write(tmp_path / name, {"u": ((dim, "x", "time"), u)}))
    out = data.layout.outputs[0]
    assert out.axes == ("x", "t") and data.layout.space == (24,) and data.layout.count == 40
    np.testing.assert_array_equal(out.rows([3]), u[[3]])
    assert (
        any(f"dimension {dim} is read as that of samples" in n for n in data.source.notes) == told
    )


def test_two_unknown_names_say_nothing(tmp_path):
    u = smooth(40, 24, 16)
    source = open_source(write(tmp_path / "a.nc", {"u": (("p", "x", "q"), u)}))
    assert source.arrays["u"].axes == () and source.arrays["u"].shape == (40, 24, 16)
    assert not source.certain


@pytest.mark.parametrize("name", ["a.nc", H5])
def test_times_count_samples_of_pairs_and_one_field_alone_is_one_trajectory(tmp_path, name):
    a, u, dims = smooth(32, 31, 64), smooth(32, 31, 64), ("time", "lat", "lon")
    days = np.arange(32) * 0.5
    path = write(tmp_path / name, {"a": (dims, a), "u": (dims, u)}, time=days)
    data = FieldFiles(path=path)
    assert data.layout.count == 32 and not data.layout.moving
    assert [x.axes for x in (*data.layout.inputs, *data.layout.outputs)] == [("y", "x")] * 2
    assert any("the times count them, for pairs of a and u" in n for n in data.source.notes)
    np.testing.assert_array_equal(data.layout.outputs[0].rows([9]), u[[9]])
    (tmp_path / "one").mkdir()
    alone = open_source(write(tmp_path / "one" / name, {"u": (dims, u)}, time=days))
    assert alone.arrays["u"].shape == (1, 32, 31, 64) and alone.arrays["u"].axes == ("t", "y", "x")
    assert any("one trajectory of u" in n for n in alone.notes)
    np.testing.assert_array_equal(alone.arrays["u"].rows([0]), u[None])
    np.testing.assert_array_equal(alone.coordinates["t"], days)


def test_folders_of_files_with_named_dimensions(tmp_path):
    u = smooth(12, 24, 16)
    each, batches = tmp_path / "each", tmp_path / "batches"
    each.mkdir(), batches.mkdir()
    for k in range(12):
        write(each / f"s{k}.nc", {"u": (("x", "time"), u[k])})
    source = open_source(each)
    assert source.arrays["u"].shape == (12, 24, 16) and source.arrays["u"].axes == ("x", "t")
    np.testing.assert_array_equal(source.arrays["u"].rows([10, 2]), u[[10, 2]])
    data = FieldFiles(path=str(each), val=2, test=2)
    assert data.layout.space == (24,) and data.layout.moving == ("u",)
    for k in range(3):  # four samples, five, three, along the last dimension
        part = np.moveaxis(u[[0, 4, 9][k] : [4, 9, 12][k]], 0, -1)
        write(batches / f"b{k}.nc", {"u": (("x", "time", "sample"), part)})
    source = open_source(batches)
    assert source.arrays["u"].shape == (12, 24, 16) and source.arrays["u"].axes == ("x", "t")
    np.testing.assert_array_equal(source.arrays["u"].rows([11, 3, 4]), u[[11, 3, 4]])


def test_dates_are_seconds_since_the_first_and_texts_name_channels(tmp_path):
    from sciml.data.sources.named_axes import named
    from sciml.data.sources.source import whole

    u = smooth(5, 6, 2)
    array = whole("u", u, axes=("sample", "time", "channel"))
    days = np.datetime64("2020-02-28") + np.arange(6) * np.timedelta64(12, "h")
    found = named(tmp_path, "held", {"u": array}, {"t": days, "c": np.array(["vx", "vy"])})
    np.testing.assert_array_equal(found.coordinates["t"], np.arange(6) * 43200.0)
    assert found.arrays["u"].names == ("vx", "vy") and found.arrays["u"].axes == ("t", "c")


def test_bounds_of_cells_are_no_fields(tmp_path):
    u = smooth(10, 24)
    arrays = {"u": (("sample", "x"), u), "x_bnds": (("x", "bnds"), smooth(24, 2))}
    assert list(open_source(write(tmp_path / "a.nc", arrays)).arrays) == ["u"]


def test_dimensions_of_unknown_names_are_still_typed_by_hand(tmp_path):
    path = write(tmp_path / "a.nc", {"u": (("p", "q", "r"), smooth(8, 6, 16))})
    data = FieldFiles(path=path, axes={"u": ["x", "t", "n"]}, inputs="u", outputs="u")
    assert data.layout.count == 16 and data.layout.space == (8,)
    with pytest.raises(InvalidArgument, match="x for one direction"):
        FieldFiles(path=path, axes={"u": ["y", "t", "n"]}, inputs="u", outputs="u")
    with pytest.raises(InvalidArgument, match="different letters"):
        FieldFiles(path=path, axes={"u": ["x", "t"]}, inputs="u", outputs="u")


def test_a_field_that_is_one_sample_can_be_typed_otherwise(tmp_path):
    u = smooth(32, 8, 16)
    path = write(tmp_path / "a.nc", {"u": (("time", "lat", "lon"), u)})
    data = FieldFiles(path=path, axes={"u": ["t", "x", "n"]}, inputs="u", outputs="u")
    assert data.layout.count == 16 and data.layout.outputs[0].axes == ("t", "x")
    np.testing.assert_array_equal(data.layout.outputs[0].rows([5]), u[None, :, :, 5])


@pytest.mark.parametrize("name", ["a.nc", H5])
def test_profiles_over_depth_have_one_direction(tmp_path, name):
    u, depth = smooth(20, 6, 24), np.linspace(0, 50, 24)
    path = write(tmp_path / name, {"u": (("sample", "time", "depth"), u)}, depth=depth)
    data = FieldFiles(path=path)
    assert data.layout.outputs[0].axes == ("t", "x") and data.layout.space == (24,)
    np.testing.assert_array_equal(data.source.coordinates["x"], depth)
    assert any("depth is called x" in note for note in data.source.notes)


def test_times_count_samples_of_inputs_alone_as_of_pairs(tmp_path):
    a, dims = smooth(32, 8, 16), ("time", "lat", "lon")
    source = open_source(write(tmp_path / "a.nc", {"a": (dims, a)}))
    found, said = as_trained(source, {}, {"a", "u"}, [16, 8])
    np.testing.assert_array_equal(found.arrays["a"].rows([5, 1]), a[[5, 1]])
    assert found.arrays["a"].axes == ("y", "x") and "times of a count samples" in said[0]
    same, said = as_trained(source, {}, {"a"}, [16, 8])  # a trajectory, which is rolled out
    assert same.arrays["a"].shape == (1, 32, 8, 16) and not said


@pytest.mark.parametrize("memory", [1000, 0])
@pytest.mark.parametrize("name", ["a.nc", H5])
def test_axes_that_are_typed_are_those_of_the_file_or_those_shown(tmp_path, name, memory):
    u = smooth(24, 16, 40)
    path = write(tmp_path / name, {"u": (("lon", "time", "sample"), u)})
    for said in (["x", "t", "n"], ["n", "x", "t"]):
        data = FieldFiles(path=path, axes={"u": said}, memory=memory)
        assert data.layout.outputs[0].axes == ("x", "t") and data.layout.count == 40
        held = data.rows[[7, 30]]["u"].numpy()
        np.testing.assert_allclose(held, np.moveaxis(u, -1, 0)[[7, 30]], rtol=1e-6)
