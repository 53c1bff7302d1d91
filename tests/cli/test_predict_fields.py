"""`sciml predict` on files of fields: what it writes, says and draws, against numpy."""

import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

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
    assert "relative" not in said  # five states of eight: another shape
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
