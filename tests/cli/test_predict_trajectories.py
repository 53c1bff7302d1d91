"""`sciml predict` on trajectories: which states are given, which are compared, by numpy alone."""

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


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    found = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: found.append(self))
    return found


def operator(folder, path, **options):
    """Save an untrained operator with the settings of its data, as a run does."""
    torch.manual_seed(0)
    data = FieldFiles(path=str(path), **options)
    arguments = {"fields": data.sizes["fields"], **SMALL}
    save_operator(
        folder, GridFNO(**arguments), arguments=arguments, ranges={}, name="fields",
        data={"recipe": {"path": str(path), **options}},
    )  # fmt: skip
    return sciml.load_pretrained(folder)


def predict(folder, path, capsys, *words):
    """Return what is written and what is said."""
    code = main(["predict", str(folder / "m"), str(path), "-o", str(folder / "o.npz"), *words])
    out, err = capsys.readouterr()
    assert code == 0, err
    with np.load(folder / "o.npz") as found:
        return dict(found), out


def error(said):
    return float(re.search(r"relative L2 error (\S+), mean", said)[1])


def relative(found, known):
    """Return the mean over samples, of all states at once."""
    rows = zip(found.astype(float), known.astype(float), strict=True)
    return np.mean([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in rows])


def waves(count=12, times=8):
    return small.smooth(count, times, 16)


def test_a_roll_out_is_compared_with_the_states_behind_those_given(tmp_path, capsys):
    u = waves()
    np.savez(tmp_path / "u.npz", u=u)
    operator(tmp_path / "m", tmp_path / "u.npz", history=2, periodic=True)
    for steps, both, words in ((4, 4, "over 4 states\n"), (6, 6, "over 6 states\n"),
                               (8, 6, "over 6 states of 8: the file has no more")):  # fmt: skip
        found, said = predict(tmp_path, tmp_path / "u.npz", capsys, "--rollout", str(steps))
        assert found["u"].shape == (12, steps, 16) and words in said
        wanted = relative(found["u"][:, :both], u[:, 2 : 2 + both])
        assert error(said) == pytest.approx(wanted, rel=6e-4)
    found, said = predict(tmp_path, tmp_path / "u.npz", capsys)
    assert found["u"].shape == (12, 16) and "over 1 state\n" in said
    assert error(said) == pytest.approx(relative(found["u"], u[:, 2]), rel=6e-4)
    np.savez(tmp_path / "first.npz", u=u[:, :2])  # what is given is not what is predicted
    for words in ((), ("--rollout", "3")):
        assert "relative" not in predict(tmp_path, tmp_path / "first.npz", capsys, *words)[1]


def test_first_states_are_not_compared_with_what_comes_next(tmp_path, capsys):
    u = waves()
    np.savez(tmp_path / "u.npz", u=u)
    op = operator(tmp_path / "m", tmp_path / "u.npz", periodic=True)
    np.savez(tmp_path / "first.npz", u=u[:, 0])
    found, said = predict(tmp_path, tmp_path / "first.npz", capsys)
    assert "holds u" not in said
    wanted = op.predict(u=u[:, 0])["u"].numpy()
    np.testing.assert_allclose(found["u"], wanted, rtol=1e-5, atol=1e-6)


def test_bundles_are_compared_as_far_as_the_file_goes(tmp_path, capsys):
    u = waves(times=9)
    np.savez(tmp_path / "u.npz", u=u)
    operator(tmp_path / "m", tmp_path / "u.npz", bundle=3, periodic=True)
    found, said = predict(tmp_path, tmp_path / "u.npz", capsys)
    assert found["u"].shape == (12, 3, 16) and "over 3 states" in said
    assert error(said) == pytest.approx(relative(found["u"], u[:, 1:4]), rel=6e-4)
    np.savez(tmp_path / "short.npz", u=u[:, :3])
    found, said = predict(tmp_path, tmp_path / "short.npz", capsys)
    assert error(said) == pytest.approx(relative(found["u"][:, :2], u[:, 1:3]), rel=6e-4)
    assert "over 2 states of 3" in said


@pytest.mark.parametrize("channels", [0, 2])
def test_times_stay_where_the_file_has_them(tmp_path, capsys, channels, drawn):
    u = waves(times=6) if not channels else np.stack([waves(times=6), waves(times=6) ** 2], -1)
    stored = np.moveaxis(u, 1, 2)  # (n, x, t) or (n, x, t, c)
    letters = ["n", "x", "t", "c"][: stored.ndim]
    np.savez(tmp_path / "u.npz", u=stored)
    operator(tmp_path / "m", tmp_path / "u.npz", axes={"u": letters})
    found, said = predict(tmp_path, tmp_path / "u.npz", capsys, "--rollout", "5")
    assert found["u"].shape == stored[:, :, 1:].shape
    assert error(said) == pytest.approx(relative(found["u"], stored[:, :, 1:]), rel=6e-4)
    panel = drawn[-1].axes[1]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("x, index", "t, index")
    shown = found["u"][0, :, :, 0] if channels else found["u"][0]
    np.testing.assert_allclose(panel.images[0].get_array(), shown.T, rtol=1e-6, atol=1e-6)


def test_times_are_thinned_as_in_training(tmp_path, capsys):
    u = waves(times=9)
    np.savez(tmp_path / "u.npz", u=u)
    op = operator(tmp_path / "m", tmp_path / "u.npz", history=2, subsample_time=2, periodic=True)
    found, said = predict(tmp_path, tmp_path / "u.npz", capsys, "--rollout", "4")
    wanted = op.rollout(4, u=u[:, [0, 2]])["u"].numpy()
    np.testing.assert_allclose(found["u"], wanted, rtol=1e-5, atol=1e-6)
    assert "one of 2 times is taken, as in training (data.subsample_time=2)" in said
    assert "over 3 states of 4" in said  # 4, 6 and 8
    assert error(said) == pytest.approx(relative(found["u"][:, :3], u[:, 4::2]), rel=6e-4)
    np.savez(tmp_path / "two.npz", u=u[:, [0, 2]])  # exactly what goes in
    found, said = predict(tmp_path, tmp_path / "two.npz", capsys, "--rollout", "4")
    np.testing.assert_allclose(found["u"], wanted, rtol=1e-5, atol=1e-6)
    assert "the 2 times of u are taken as they are, 2 of the file" in said
    np.savez(tmp_path / "one.npz", u=u[:, :1])
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "one.npz")]) == 2
    assert "1 time. Expected at least 3 times, of which" in capsys.readouterr().err


def test_an_answer_of_all_later_states_begins_with_the_first(tmp_path, capsys):
    u = waves(times=6)
    np.savez(tmp_path / "u.npz", u=u)
    op = operator(tmp_path / "m", tmp_path / "u.npz", task="map", periodic=True)
    found, said = predict(tmp_path, tmp_path / "u.npz", capsys)
    wanted = op.predict(u=u[:, 0])["u"].numpy()
    assert found["u"].shape == (12, 5, 16) and "over 5 states" in said
    np.testing.assert_allclose(found["u"], wanted, rtol=1e-5, atol=1e-6)
    assert error(said) == pytest.approx(relative(found["u"], u[:, 1:]), rel=6e-4)


def test_another_grid_is_said(tmp_path, capsys):
    u = waves()
    np.savez(tmp_path / "u.npz", u=u)
    operator(tmp_path / "m", tmp_path / "u.npz", subsample=2, periodic=True)
    found, said = predict(tmp_path, tmp_path / "u.npz", capsys)
    assert "trained on 8 points (data.subsample=2), predicted on 16" in said
    assert error(said) == pytest.approx(relative(found["u"], u[:, 1]), rel=6e-4)
    np.savez(tmp_path / "thin.npz", u=u[:, :, ::2])
    assert "trained on" not in predict(tmp_path, tmp_path / "thin.npz", capsys)[1]
