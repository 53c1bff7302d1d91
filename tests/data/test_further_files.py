"""Further files of the same data: axes in another order, other units, other steps in time."""

import numpy as np
import pytest
import torch
from scipy.io import netcdf_file

from sciml.data import FieldFiles
from sciml.data.layouts.alike import same_unit
from sciml.errors import InvalidArgument
from sciml.networks.fields import GridFNO
from sciml.testing import small_files as small


def write(path, dims, units=(), times=None, **arrays):
    """Write arrays as NetCDF, whose dimensions have names."""
    with netcdf_file(path, "w") as file:
        for dim, size in zip(dims, next(iter(arrays.values())).shape, strict=True):
            file.createDimension(dim, size)
        for name, value in arrays.items():
            held = file.createVariable(name, "f8", dims)
            held[:] = value
            if name in units:
                held.units = units[name]
        if times is not None:
            file.createVariable("t", "f8", ("t",))[:] = times
    return str(path)


def fields():
    x = small.smooth(20, 8, 6)
    return x, small.smoothed(x)


def test_a_test_file_is_turned_to_the_axes_of_the_training(tmp_path):
    x, y = fields()
    ours = write(tmp_path / "a.nc", ("sample", "x", "y"), a=x, u=y)
    swapped = {"a": x.transpose(0, 2, 1), "u": y.transpose(0, 2, 1)}
    other = write(tmp_path / "b.nc", ("sample", "y", "x"), **swapped)
    data = FieldFiles(path=ours, test_path=other)
    rows, numbers, layout, _ = data.tests["test"]
    assert layout.space == (8, 6)
    np.testing.assert_array_equal(rows[numbers[:5]]["a"].numpy(), x[:5])
    np.testing.assert_array_equal(rows[[7, 2]]["u"].numpy(), y[[7, 2]])
    said = f"{other}: a is stored as (n, y, x) and turned to (n, x, y), as in training"
    assert said in data.doubts and said in data.notes
    again = write(tmp_path / "c.nc", ("sample", "x", "y"), a=x, u=y)
    assert FieldFiles(path=ours, test_path=again).doubts == []


def test_other_axes_are_shown(tmp_path):
    x, y = fields()
    ours = write(tmp_path / "a.nc", ("sample", "x", "y"), a=x, u=y)
    other = write(tmp_path / "b.nc", ("sample", "t", "x"), a=x, u=y)
    with pytest.raises(InvalidArgument) as told:
        FieldFiles(path=ours, test_path=other)
    assert "axes (n, t, x)" in str(told.value) and "axes (n, x, y)" in str(told.value)


def test_other_units_are_refused_and_missing_ones_pass(tmp_path):
    x, y = fields()

    def file(name, **units):
        return write(tmp_path / name, ("sample", "x", "y"), units, a=x, u=y)

    metres, none = file("m.nc", u="m"), file("none.nc")
    with pytest.raises(InvalidArgument) as told:
        FieldFiles(path=metres, test_path=file("mm.nc", u="mm"))
    assert "mm.nc with u in mm. Expected u in m, as in training" in str(told.value)
    FieldFiles(path=metres, test_path=none)
    FieldFiles(path=none, test_path=metres)
    again = file("again.nc", u="m")
    FieldFiles(path=metres, test_path=again, units={"u": "km"})  # wrong in both files alike
    with pytest.raises(InvalidArgument, match="u in m. Expected u in km"):
        FieldFiles(path=none, test_path=metres, units={"u": "km"})
    for other in ("m s-1", "m s^-1", "m*s**-1", "s-1 m"):
        assert same_unit("m/s", other)
    for other in ("m s", "mm/s", "m/s2", "s/m"):
        assert not same_unit("m/s", other)
    assert same_unit("kg m2 / s2", "kg m^2 s^-2") and not same_unit("K", "degC")


def test_other_steps_in_time_are_refused(tmp_path):
    u = small.smooth(20, 6, 8)

    def file(name, times):
        return write(tmp_path / name, ("sample", "t", "x"), times=times, u=u)

    ours = file("a.nc", np.arange(6.0))
    with pytest.raises(InvalidArgument) as told:
        FieldFiles(path=ours, test_path=file("b.nc", 2 * np.arange(6.0)))
    assert "times 2 apart. Expected times 1 apart, as in training" in str(told.value)
    FieldFiles(path=ours, test_path=file("c.nc", 3 + np.arange(6.0)))  # later on
    np.savez(tmp_path / "d.npz", u=u)
    FieldFiles(path=ours, test_path=str(tmp_path / "d.npz"))  # which says nothing


def test_the_same_data_in_another_layout_are_the_same_to_the_last_digit(tmp_path):
    x = np.stack([small.smooth(24, 10, 10, seed=k) for k in (0, 1)], 1)
    y = np.stack([small.smoothed(part) for part in np.moveaxis(x, 1, 0)], 1)
    np.savez(tmp_path / "first.npz", x=x, y=y)
    np.savez(tmp_path / "last.npz", x=np.moveaxis(x, 1, -1), y=np.moveaxis(y, 1, -1))
    made = [FieldFiles(path=str(tmp_path / f"{name}.npz")) for name in ("first", "last")]
    assert [a.axes[-1] for a in (made[0].layout.inputs[0], made[1].layout.inputs[0])] == ["y", "c"]
    plain = [data.sizes["fields"] for data in made]
    for key in ("mean", "std", "out_mean", "out_std", "scale"):
        assert plain[0][key] == plain[1][key]
    torch.manual_seed(0)
    networks = [GridFNO(fields, width=4, modes=2, layers=1, hidden=8) for fields in plain]
    networks[1].load_state_dict(networks[0].state_dict())
    given = [{k: v.float() for k, v in data.batch(0).inputs.items()} for data in made]
    found = [net(**inputs) for net, inputs in zip(networks, given, strict=True)]
    assert torch.equal(*found)
    assert torch.equal(*(data.batch(0).target for data in made))


def test_test_files_of_other_lengths_are_refused_before_the_training(tmp_path):
    def file(name, **arrays):
        np.savez(tmp_path / name, **arrays)
        return str(tmp_path / name)

    x, y = small.smooth(20, 16), small.smooth(20, 6, 16)
    ours, less = file("a.npz", x=x, y=y[:, :5]), file("b.npz", x=x, y=y[:, :4])
    more = file("c.npz", x=x, y=y)
    for letter, word in (("t", "times"), ("c", "channels")):
        axes = {"x": ["n", "x"], "y": ["n", letter, "x"]}
        for path, count in ((less, 4), (more, 6)):
            with pytest.raises(InvalidArgument, match=rf"{count} {word} in y.*Expected 5 {word}"):
                FieldFiles(path=ours, test_path=path, axes=axes)
    ours, other = file("m.npz", m=x[:, :3], y=x), file("n.npz", m=x[:, :2], y=x)
    with pytest.raises(InvalidArgument, match="2 channels in m.*Expected 3 channels"):
        FieldFiles(path=ours, test_path=other, inputs=["m"], outputs=["y"])


def test_trajectories_of_test_files_are_as_long_as_those_of_training_or_cut(tmp_path):
    paths = {n: str(small.trajectories(tmp_path / f"u{n}.npz", times=n)) for n in (3, 6, 9)}
    with pytest.raises(InvalidArgument) as told:
        FieldFiles(path=paths[6], test_path=paths[3])
    assert "u3.npz with 3 times. Expected 6 times" in str(told.value)
    assert "Type data.horizon=2" in str(told.value)
    with pytest.raises(InvalidArgument, match=r"u3.npz with 3 times. Expected 6 times"):
        FieldFiles(path=paths[6], test_path=paths[3], task="map")
    data = FieldFiles(path=paths[6], test_path=paths[3], horizon=2)
    known = torch.from_numpy(np.load(paths[3])["u"])
    assert torch.equal(data.test_chunk(0).target, known[:, 1:3])
    data = FieldFiles(path=paths[6], test_path=paths[9])
    assert f"{paths[9]} has 9 times, of which the first 6 are tested" in data.notes
    known = torch.from_numpy(np.load(paths[9])["u"])
    assert torch.equal(data.test_chunk(0).target, known[:, 1:6])
    assert not any("are tested" in note for note in FieldFiles(path=paths[6], horizon=2).notes)
