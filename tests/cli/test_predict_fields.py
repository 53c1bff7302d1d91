"""`sciml predict` on files of fields: what it writes, says and draws, against numpy."""

import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.io import netcdf_file

import sciml
from sciml.cli.main import main
from sciml.data import FieldFiles
from sciml.networks.fields import GridFNO
from sciml.pretrained import save_operator
from sciml.testing import small_files as small

SMALL = {"width": 4, "modes": 2, "layers": 1, "hidden": 8}


@pytest.fixture
def saved(monkeypatch):
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: found.append(self))
    return found


def operator(folder, path, **options):
    """Save an untrained operator between the fields of a file."""
    torch.manual_seed(0)
    arguments = {"fields": FieldFiles(path=str(path), **options).sizes["fields"], **SMALL}
    return save_operator(
        folder, GridFNO(**arguments), arguments=arguments, ranges={}, name="fields"
    )


def predict(model, path, *words, out="out.npz"):
    return main(["predict", str(model), str(path), "-o", str(path.parent / out), *words])


def test_the_error_is_the_mean_of_the_samples_errors(tmp_path, capsys, saved):
    path = small.pairs(tmp_path / "a.npz", count=10, n=8)
    model = operator(tmp_path / "m", path, periodic=True)
    assert predict(model, path, "--chunk", "4") == 0
    said = capsys.readouterr().out
    with np.load(path) as held, np.load(tmp_path / "out.npz") as found:
        x, y, u = held["x"], held["y"].astype(float), found["y"].astype(float)
    wanted = sciml.load_pretrained(model).predict(x=torch.from_numpy(x))["y"].numpy()
    np.testing.assert_allclose(u, wanted, rtol=0, atol=1e-6)
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(u, y, strict=True)]
    number = re.search(r"holds y too: relative L2 error (\S+), mean", said)[1]
    assert float(number) == pytest.approx(np.mean(errors), rel=2e-4)
    assert f"y (10, 8, 8) -> {tmp_path / 'out.npz'}" in said
    assert f"picture: {tmp_path / 'out.png'}" in said
    panels = [axis for axis in saved[-1].axes if axis.images and axis.get_title()]
    titles = [axis.get_title() for axis in panels]
    assert titles == ["input x", "predicted y", "y of the file", "difference"]
    for axis, value in zip(panels, (x[0], u[0], y[0], u[0] - y[0]), strict=True):
        # x to the right, y up
        np.testing.assert_allclose(axis.images[0].get_array(), value.T, rtol=1e-5, atol=1e-6)
        assert axis.images[0].origin == "lower"
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("x, index", "y, index")
    ends = [axis.images[0].get_clim() for axis in panels[1:3]]  # one scale for what is compared
    assert (
        ends[0]
        == ends[1]
        == pytest.approx((min(u[0].min(), y[0].min()), max(u[0].max(), y[0].max())))
    )


def test_a_few_samples_of_a_file_and_zeros_that_have_no_relative_error(tmp_path, capsys, saved):
    path = small.pairs(tmp_path / "a.npz", count=10, n=8)
    model = operator(tmp_path / "m", path, periodic=True)
    with np.load(path) as held:
        x, y = held["x"][:4], held["y"][:4].copy()
    y[1] = 0.0
    np.savez(tmp_path / "b.npz", x=x, y=y)
    assert predict(model, tmp_path / "b.npz", "--samples", "3") == 0
    said = capsys.readouterr().out
    with np.load(tmp_path / "out.npz") as found:
        u = found["y"]
    assert u.shape == (3, 8, 8)
    kept = [np.linalg.norm(u[k] - y[k]) / np.linalg.norm(y[k]) for k in (0, 2)]
    number = re.search(r"relative L2 error (\S+), mean", said)[1]
    assert float(number) == pytest.approx(np.mean(kept), rel=2e-4)
    np.savez(tmp_path / "c.npz", x=x)  # nothing to compare with
    assert predict(model, tmp_path / "c.npz") == 0
    assert "relative" not in capsys.readouterr().out
    assert [axis.get_title() for axis in saved[-1].axes if axis.get_title()] == [
        "input x", "predicted y"
    ]  # fmt: skip


def test_a_trajectory_is_rolled_out_from_its_first_states(tmp_path, capsys, saved):
    path = small.trajectories(tmp_path / "u.npz", count=6, times=8)
    model = operator(tmp_path / "m", path, history=2, periodic=True)
    assert predict(model, path, "--rollout", "5") == 0
    said = capsys.readouterr().out
    with np.load(path) as held, np.load(tmp_path / "out.npz") as found:
        u, seen = held["u"], found["u"]
    assert seen.shape == (6, 5, 16) and "u (6, 5, 16)" in said
    op = sciml.load_pretrained(model)
    wanted = op.rollout(5, u=torch.from_numpy(u[:, :2]))["u"]
    np.testing.assert_allclose(seen, wanted.numpy(), rtol=0, atol=1e-6)
    assert saved[-1].axes[1].get_xlabel() == "t, index"
    assert predict(model, path, out="next.npz") == 0
    with np.load(tmp_path / "next.npz") as found:
        step = op.predict(u=torch.from_numpy(u[:, :2]))["u"].numpy()
        np.testing.assert_allclose(found["u"], step, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_told(tmp_path, capsys):
    path = small.pairs(tmp_path / "a.npz", count=10, n=8)
    model = operator(tmp_path / "m", path, periodic=True)
    assert predict(model, path, out="o.csv") == 2
    assert "ending in .npz" in capsys.readouterr().err
    assert predict(model, path, "--rollout", "2") == 2
    assert "trajectories" in capsys.readouterr().err
    for words in (["--chunk", "0"], ["--samples", "0"], ["--rollout", "0"], ["--correct", "-1"]):
        assert predict(model, path, *words) == 2
        assert f"{words[0]}: {words[1]} is not usable" in capsys.readouterr().err
    for walks, code in (("1", 2), ("0", 0), ("2", 0)):
        assert predict(model, path, "--correct", walks) == code
        assert ("at least 2 walks" in capsys.readouterr().err) == (code == 2)


def recipe(folder, path, saved_in, **options):
    """Save an untrained operator with the settings of its data, as a run does."""
    data = FieldFiles(path=str(path), **options)
    arguments = {"fields": data.sizes["fields"], **SMALL}
    return save_operator(
        folder / saved_in, GridFNO(**arguments), arguments=arguments, ranges={}, name="fields",
        data={"recipe": {"path": str(path), **options}},
    )  # fmt: skip


def test_a_folder_of_the_inputs_alone_is_read_as_in_training(tmp_path, capsys, saved):
    x = small.smooth(24, 8, 8).astype(np.float32)
    (tmp_path / "both").mkdir()
    np.save(tmp_path / "both/kappa.npy", x)
    np.save(tmp_path / "both/temperature.npy", small.smoothed(x))
    names = {"inputs": ["kappa"], "outputs": ["temperature"]}
    model = recipe(tmp_path, tmp_path / "both", "m", **names)
    op = sciml.load_pretrained(model)
    wanted = op.predict(kappa=torch.from_numpy(x[:3]))["temperature"].numpy()
    for k, name in enumerate(("kappa.npy", "kappa_test.npy", "test_kappa.npy")):
        new = tmp_path / f"new{k}"
        new.mkdir()
        np.save(new / name, x[:3])
        assert predict(model, new) == 0, capsys.readouterr().err
        with np.load(tmp_path / "out.npz") as found:
            np.testing.assert_allclose(found["temperature"], wanted, rtol=0, atol=1e-6)
    np.savez(tmp_path / "other.npz", kapa=x)
    assert predict(model, tmp_path / "other.npz") == 2
    said = capsys.readouterr().err
    assert f"kappa is no array of {tmp_path / 'other.npz'}" in said and "=" not in said
    np.savez(tmp_path / "one.npz", kappa=x[0])
    assert predict(model, tmp_path / "one.npz") == 2
    said = capsys.readouterr().err
    assert "without an axis of samples. Expected (N, H, W). For one sample write" in said
    assert "kappa[None], shape (1, 8, 8)" in said


def test_the_axes_of_the_training_are_those_of_what_is_predicted_from(tmp_path, capsys, saved):
    x = small.smooth(24, 8, 8).astype(np.float32)
    y = small.smoothed(x)
    last = {"x": np.moveaxis(x, 0, -1), "y": np.moveaxis(y, 0, -1)}
    np.savez(tmp_path / "last.npz", **last)
    axes = {"x": ["x", "y", "n"], "y": ["x", "y", "n"]}
    model = recipe(tmp_path, tmp_path / "last.npz", "m", axes=axes)
    wanted = sciml.load_pretrained(model).predict(x=torch.from_numpy(x))["y"].numpy()
    assert predict(model, tmp_path / "last.npz") == 0
    said = capsys.readouterr().out
    assert "x (8, 8, 24) is read as (x, y, n), as in training" in said
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["y"], wanted, rtol=0, atol=1e-6)
    error = np.mean([np.linalg.norm(a - b) / np.linalg.norm(b)
                     for a, b in zip(wanted, y, strict=True)])  # fmt: skip
    number = re.search(r"holds y too: relative L2 error (\S+), mean", said)[1]
    assert float(number) == pytest.approx(error, rel=1e-3)
    np.savez(tmp_path / "first.npz", x=x[:3])  # the grid of the training with samples first alone
    assert predict(model, tmp_path / "first.npz") == 0
    assert "is read as" not in capsys.readouterr().out
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["y"], wanted[:3], rtol=0, atol=1e-6)


def test_time_last_in_training_is_time_last_in_what_is_rolled_out(tmp_path, saved):
    u = np.moveaxis(small.smooth(12, 6, 16), 1, -1).astype(np.float32)  # (n, x, t)
    np.savez(tmp_path / "u.npz", u=u)
    model = recipe(tmp_path, tmp_path / "u.npz", "m", axes={"u": ["n", "x", "t"]})
    op = sciml.load_pretrained(model)
    wanted = op.rollout(2, u=torch.from_numpy(u[:, :, 0]))["u"].numpy()
    for held in (u, u[:, :, 0]):
        np.savez(tmp_path / "new.npz", u=held)
        assert predict(model, tmp_path / "new.npz", "--rollout", "2") == 0
        with np.load(tmp_path / "out.npz") as found:
            np.testing.assert_allclose(found["u"], wanted, rtol=0, atol=1e-6)


def write(path, dims, unit="", times=None, **arrays):
    """Write arrays as NetCDF, whose dimensions have names."""
    with netcdf_file(path, "w") as file:
        for dim, size in zip(dims, next(iter(arrays.values())).shape, strict=True):
            file.createDimension(dim, size)
        for name, value in arrays.items():
            held = file.createVariable(name, "f8", dims)
            held[:] = value
            held.units = unit if name == "u" else ""
        if times is not None:
            file.createVariable("t", "f8", ("t",))[:] = times
    return path


def test_axes_that_files_name_are_those_of_the_training(tmp_path, capsys, saved):
    a = small.smooth(20, 8, 6)
    u = small.smoothed(a) * np.linspace(1, 2, 8)[:, None]
    ours = write(tmp_path / "a.nc", ("sample", "x", "y"), a=a, u=u)
    model = recipe(tmp_path, ours, "m")
    wanted = sciml.load_pretrained(model).predict(a=a)["u"].numpy()
    errors = [np.linalg.norm(p - q) / np.linalg.norm(q) for p, q in zip(wanted, u, strict=True)]
    swapped = {"a": a.transpose(0, 2, 1), "u": u.transpose(0, 2, 1)}
    for path, dims, arrays in (("a.nc", "xy", None), ("b.nc", "yx", swapped)):
        if arrays:
            write(tmp_path / path, ("sample", *dims), **arrays)
        assert predict(model, tmp_path / path) == 0
        said = capsys.readouterr().out
        with np.load(tmp_path / "out.npz") as found:
            np.testing.assert_allclose(found["u"], wanted, rtol=1e-5, atol=1e-6)
        number = re.search(r"relative L2 error (\S+), mean", said)[1]
        assert float(number) == pytest.approx(np.mean(errors), rel=6e-4)
        sentence = "a is stored as (n, y, x) and turned to (n, x, y), as in training"
        assert (sentence in said) == bool(arrays)
    write(tmp_path / "c.nc", ("sample", "t", "x"), a=a, u=u)
    assert predict(model, tmp_path / "c.nc") == 2
    said = capsys.readouterr().err
    assert "stored as (n, t, x). Expected (n, x, y), as in training" in said
    np.savez(tmp_path / "plain.npz", a=a, u=u)  # names nothing: the order of the training
    assert predict(model, tmp_path / "plain.npz") == 0
    # and where the training's file named nothing, nobody knows which of its axes was x
    model = recipe(tmp_path, tmp_path / "plain.npz", "plain")
    wanted = sciml.load_pretrained(model).predict(a=a)["u"].numpy()
    assert predict(model, write(tmp_path / "d.nc", ("sample", "y", "x"), a=a, u=u)) == 0
    assert "stored as (n, y, x) and read as (n, x, y) in that order" in capsys.readouterr().out
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["u"], wanted, rtol=1e-5, atol=1e-6)


def test_other_units_and_times_are_refused(tmp_path, capsys, saved):
    u = small.smooth(20, 6, 8)
    dims = ("sample", "t", "x")
    ours = write(tmp_path / "a.nc", dims, "m", np.arange(6.0), u=u)
    model = recipe(tmp_path, ours, "m")
    millimetres = write(tmp_path / "mm.nc", dims, "mm", np.arange(6.0), u=1000 * u)
    assert predict(model, millimetres) == 2
    assert "mm.nc with u in mm. Expected u in m, as in training" in capsys.readouterr().err
    slow = write(tmp_path / "slow.nc", dims, "m", 3 * np.arange(6.0), u=u)
    assert predict(model, slow, "--rollout", "3") == 2
    assert "times 3 apart. Expected times 1 apart, as in training" in capsys.readouterr().err
    assert predict(model, write(tmp_path / "late.nc", dims, "", 9 + np.arange(6.0), u=u)) == 0
    typed = recipe(tmp_path, ours, "typed", units={"u": "km"})  # wrong in the file, and still so
    assert predict(typed, ours) == 0
    assert predict(typed, millimetres) == 2
    assert "Expected u in km" in capsys.readouterr().err


def test_samples_without_an_error_are_counted(tmp_path, capsys, saved):
    path = small.pairs(tmp_path / "a.npz", count=10, n=8)
    model = operator(tmp_path / "m", path, periodic=True)
    with np.load(path) as held:
        x, y = held["x"], held["y"].copy()
    y[1], y[2, 3, 3], y[5, 0, 0] = 0.0, np.nan, np.inf
    np.savez(tmp_path / "b.npz", x=x, y=y)
    assert predict(model, tmp_path / "b.npz") == 0
    said = capsys.readouterr().out
    with np.load(tmp_path / "out.npz") as found:
        kept = [k for k in range(10) if k not in (1, 2, 5)]
        errors = [np.linalg.norm(found["y"][k] - y[k]) / np.linalg.norm(y[k]) for k in kept]
    assert "mean of 7 of 10 samples (left out: 2 with numbers that are none, 1 of zeros)" in said
    number = re.search(r"relative L2 error (\S+), mean", said)[1]
    assert float(number) == pytest.approx(np.mean(errors), rel=6e-4)
    np.savez(tmp_path / "c.npz", x=x[:2], y=0 * y[:2])
    assert predict(model, tmp_path / "c.npz") == 0
    assert "all samples are left out (2 of zeros)" in capsys.readouterr().out
    np.savez(tmp_path / "d.npz", x=x, y=y[:, :4])
    assert predict(model, tmp_path / "d.npz") == 0
    said = capsys.readouterr().out
    assert "holds y (10, 4, 8) too, which has another shape" in said and "relative" not in said
