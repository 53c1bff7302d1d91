"""Files given to `sciml predict` and numbers given to the verbs: one message each, exit code 2."""

import io
import os
import zipfile

import numpy as np
import pytest
import torch

from sciml.cli.verbs import export_data, predict
from sciml.cli.verbs.point_files import read_points
from sciml.cli.verification import verify
from sciml.errors import InvalidArgument
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.pretrained import save_operator

WIDTHS = {"nodes": 12, "width": 3, "modes": 2, "layers": 1, "hidden": 4}
GRID = np.random.default_rng(0).random((1, 12, 12))
AXIS = np.linspace(-1.5, 1.5, 12)
DISK = np.hypot(AXIS[:, None], AXIS)[None] - 1  # signed distance, negative inside


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "operator"
    return save_operator(folder, WosFNO(**WIDTHS), arguments=WIDTHS, ranges={}, name="operator")


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def archive(**members):
    """Return a zip archive with these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as found:
        for name, content in members.items():
            found.writestr(f"{name}.npy", content)
    return file.getvalue()


def declared(shape):
    """Return an array file whose header promises more than there is."""
    file = io.BytesIO()
    np.lib.format.write_array_header_2_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + b"\0" * 64


def expanding():
    """Return an archive of 4 MB that becomes 4 GiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as found:
        found.writestr("sdf.npy", bytes(2**22))
    # the sizes in the directory at the end are what readers go by
    return file.getvalue().replace((2**22).to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little"))


THREE = {"sdf": GRID, "boundary": GRID, "source": GRID}
FILES = {
    "no magic": b"sdf = 1, 2, 3\n" * 40,
    "empty": b"",
    "plain .npy": npy(GRID),
    "end of a zip archive": npz(**THREE)[-200:],
    "cut": npz(**THREE)[:-60],
    "self": npz(**THREE, self=GRID),
    "an argument of predict": npz(**THREE, chunk=np.array(1)),
    "objects": npz(sdf=np.array([{}, None], dtype=object)),
    "words": npz(**{**THREE, "sdf": np.array(["a"])}),
    "complex": npz(**{**THREE, "sdf": GRID + 1j}),
    "truth values": npz(**{**THREE, "sdf": GRID > 0}),
    "records": npz(**{**THREE, "sdf": np.zeros(3, dtype=[("a", "f4")])}),
    "times": npz(**{**THREE, "sdf": np.zeros(3, dtype="M8[s]")}),
    "a text": archive(sdf="hello"),
    "a promise": archive(sdf=declared((10**12,)), boundary=npy(GRID), source=npy(GRID)),
    "a negative promise": archive(sdf=declared((-1, 12))),
    "huge expansion": expanding(),
    "one number": npz(sdf=1.0, boundary=1.0, source=1.0),
    "one node": npz(**{name: GRID[:, :1, :1] for name in THREE}),
    "no nodes": npz(**{name: GRID[:, :0] for name in THREE}),
    "many axes": npz(**{**THREE, "sdf": GRID[(None,) * 20]}),
    "other sizes": npz(**{**THREE, "source": GRID[:, :6]}),
    "not finite": npz(**{**THREE, "source": GRID * np.nan}),
}


@pytest.mark.parametrize("kind", FILES)
def test_refused(model, kind, tmp_path, capsys):
    file = tmp_path / "input.npz"
    file.write_bytes(FILES[kind])
    assert predict.main([str(model), str(file), "-o", str(tmp_path / "out.npz")]) == 2
    error = capsys.readouterr().err
    assert "sciml predict: " in error and "Traceback" not in error and len(error) < 1500
    assert os.listdir(tmp_path) == ["input.npz"]


def test_what_it_should_take(model, tmp_path):
    for name, kind in (("double", "f8"), ("half", "f2"), ("swapped", ">f4")):
        file = tmp_path / f"{name}.npz"
        right = {**THREE, "sdf": DISK, "boundary": np.ones_like(GRID)}
        file.write_bytes(npz(**{key: value.astype(kind) for key, value in right.items()}))
        assert predict.main([str(model), str(file), "-o", str(tmp_path / "out.npz")]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["."],
        ["a" * 300 + ".npz"],
        ["x.npz", "--chunk", "0"],
        ["x.npz", "--seed", "-1"],
        ["x.npz", "--seed", "9" * 30],
        ["x.npz", "--correct", "9" * 12],
        ["x.npz", "--device", "meta"],
        ["x.npz", "--device", "nope"],
    ],
)
def test_arguments_of_predict(model, words, capsys):
    assert predict.main([str(model), *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("problems", "0"),
        ("points", "-1"),
        ("walks", "1"),
        ("walks", "x"),
        ("eps", "nan"),
        ("eps", "0"),
        ("margin", "-1"),
        ("confidence", "1"),
        ("confidence", "inf"),
        ("tolerance", "nan"),
        ("worst", "-1"),
        ("seed", "-1"),
    ],
)
def test_arguments_of_verify(model, name, value, capsys):
    assert verify.main([str(model), f"--{name}={value}"]) == 2
    assert "is not usable. Expected a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train=²"], "train=²"),
        (["train=-1"], "from 1"),
        (["train=" + "9" * 30], "from 1"),
        (["seed=-1"], "from 0"),
        (["data.walks=${nope}"], "nope"),
        (["data.walks={"], "data"),
        (["data.walks=nan"], "data.walks"),
        (["data.family._target_=os.system"], "outside the allowed packages"),
        (["data.family._target_=sciml.optim.kronecker.kfac.KFAC"], "is no family"),
        (["data._target_=sciml.networks.pointwise.mlp.MLP"], "is no data"),
    ],
)
def test_arguments_of_export_data(words, said, tmp_path, capsys):
    out = tmp_path / "x.h5"
    assert export_data.main(["data=star_poisson", f"out={out}", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error and not out.exists()


# What lies just above the largest number that an option takes, and below the smallest.
BEYOND = {
    "--tolerance": ("0", "1.001e6"),
    "--problems": ("0", "1000001"),
    "--points": ("0", "1000001"),
    "--walks": ("1", "10000001"),
    "--eps": ("0", "0.1001"),
    "--margin": ("-0.001", "1.001"),
    "--confidence": ("0", "0.9999995"),
    "--worst": ("-1", "1000001"),
    "--seed": ("-1", str(2**63)),
    "--workers": ("0", "1025"),
}


@pytest.mark.parametrize("option", BEYOND)
def test_both_ends_of_the_numbers_of_verify(model, option, capsys):
    for value in BEYOND[option]:
        assert verify.main([str(model), f"{option}={value}"]) == 2
        error = capsys.readouterr().err
        assert option in error and value in error and "is not usable. Expected a" in error


@pytest.mark.parametrize("timed", [True, False])
def test_read_points_returns_the_arrays_of_a_file(tmp_path, timed):
    x, t = np.arange(6.0).reshape(3, 2) / 7, np.array([[0.1], [0.2], [0.3]])
    held = {"x": x, "t": t} if timed else {"x": x}
    np.savez(tmp_path / "p.npz", **held)
    table = np.column_stack(list(held.values()))
    np.savetxt(tmp_path / "p.csv", table, fmt="%.17g", delimiter=",")
    for name in ("p.npz", "p.csv"):
        found, times = read_points(tmp_path / name, timed, 2)
        np.testing.assert_array_equal(found.numpy(), x)
        if timed:
            np.testing.assert_array_equal(times.numpy(), t)
        else:
            assert times is None
    np.savez(tmp_path / "one.npz", x=x, t=0.5)
    assert read_points(tmp_path / "one.npz", True, 2)[1].tolist() == [0.5]


def test_read_points_names_what_it_does_not_know(tmp_path):
    x = np.zeros((3, 2))
    for held, timed, said in (
        ({"x": x, "y": x, "a": x}, False, "holds a, y as well"),
        ({"y": x}, True, "holds y.*and an array t.*, t=t"),
        ({"y": x}, False, r"holds y.*shape \(N, 2\)\. Write it with numpy.savez\(path, x=x\)"),
        ({}, False, "holds nothing"),
    ):
        np.savez(tmp_path / "p.npz", **held)
        with pytest.raises(InvalidArgument, match=said):
            read_points(tmp_path / "p.npz", timed, 2)
