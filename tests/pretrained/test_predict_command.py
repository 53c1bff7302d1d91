import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from sciml.cli.verbs.predict import main
from sciml.pretrained import load_pretrained


@pytest.fixture
def points(tmp_path):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(9, 5, generator=generator)
    x, t = 2.0 * x / x.norm(dim=1, keepdim=True), 0.2 + 0.5 * torch.rand(9, 1, generator=generator)
    np.savez(tmp_path / "points.npz", x=x.numpy(), t=t.numpy())
    return x, t


def run(*arguments):
    return main([str(a) for a in arguments])


def test_npz_to_npz(saved, points, tmp_path, capsys):
    assert run(saved[0], tmp_path / "points.npz", "-o", tmp_path / "out.npz") == 0
    wanted = load_pretrained(saved[0]).predict(*points)
    found = np.load(tmp_path / "out.npz")
    assert sorted(found.files) == ["gradient", "value"]
    for name in found.files:
        assert np.array_equal(found[name], wanted[name].numpy())
    assert "9 points, value, gradient" in capsys.readouterr().out


def test_default_output_and_value_only(saved, points, tmp_path):
    assert run(saved[0], tmp_path / "points.npz", "--no-gradient", "--chunk", 4) == 0
    assert np.load(tmp_path / "points_prediction.npz").files == ["value"]


@pytest.mark.parametrize("header", ["x1,x2,x3,x4,x5,t", "t,a,b,c,d,e", None])
def test_csv_to_csv(saved, points, tmp_path, header):
    x, t = points
    rows = torch.cat([t, x] if header and header[0] == "t" else [x, t], dim=1).numpy()
    np.savetxt(tmp_path / "p.csv", rows, "%.9g", ",", header=header or "", comments="")
    assert run(saved[0], tmp_path / "p.csv", "-o", tmp_path / "out.csv") == 0
    found = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    wanted = load_pretrained(saved[0]).predict(x, t)
    assert np.array_equal(found[:, 0].astype("f4"), wanted["value"].numpy())
    assert np.array_equal(found[:, 1:].astype("f4"), wanted["gradient"].numpy())
    assert (tmp_path / "out.csv").read_text().startswith("value,du_dx1,du_dx2,")


def test_range_warning_is_one_line_on_stderr(saved, points, tmp_path, capsys):
    np.savez(tmp_path / "far.npz", x=100 * points[0].numpy(), t=points[1].numpy())
    assert run(saved[0], tmp_path / "far.npz") == 0
    assert "sciml predict: warning: |x| covers" in capsys.readouterr().err


BAD = {
    "no such model": (lambda p: ["nowhere", p / "points.npz"], "no pretrained model 'nowhere'"),
    "no such input": (lambda p: [p / "tiny", p / "absent.npz"], "there is no file"),
    "input ending": (lambda p: [p / "tiny", p / "points.txt"], "ending in .npz or .csv"),
    "output ending": (lambda p: [p / "tiny", p / "points.npz", "-o", p / "o.txt"], "output"),
    "other arrays": (lambda p: [p / "tiny", p / "other.npz"], r"holds y.*numpy.savez"),
    "not an archive": (lambda p: [p / "tiny", p / "broken.npz"], "cannot be read"),
    "pickled": (lambda p: [p / "tiny", p / "pickled.npz"], "cannot be read"),
    "complex": (lambda p: [p / "tiny", p / "complex.npz"], "complex128"),
    "wrong shape": (lambda p: [p / "tiny", p / "shape.npz"], r"shape \(3, 4\)"),
    "ragged": (lambda p: [p / "tiny", p / "ragged.csv"], "line 3 has 5 columns"),
    "words": (lambda p: [p / "tiny", p / "words.csv"], "could not convert string to float"),
    "empty": (lambda p: [p / "tiny", p / "empty.csv"], "it is empty"),
    "device": (lambda p: [p / "tiny", p / "points.npz", "--device", "quantum"], "--device quantum"),
    "chunk": (lambda p: [p / "tiny", p / "points.npz", "--chunk", "0"], "--chunk: 0 is not usable"),
    "unknown option": (lambda p: [p / "tiny", p / "points.npz", "--grad"], "unrecognized"),
    "no arguments": (lambda p: [], "required"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_exit_code_two(saved, points, tmp_path, capsys, case):
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    np.savez(tmp_path / "complex.npz", x=np.zeros((3, 5), complex))
    np.savez(tmp_path / "shape.npz", x=np.zeros((3, 4)), t=np.zeros((3, 1)))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "ragged.csv").write_text("a,b,c,d,e,t\n1,2,3,4,5,0.5\n1,2,3,4,5\n")
    (tmp_path / "words.csv").write_text("1,2,3,4,5,0.5\n1,2,3,4,five,0.5\n")
    (tmp_path / "empty.csv").write_text("")
    arguments, text = BAD[case]
    assert run(*arguments(tmp_path)) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert re.search(text, message), message


def test_neither_lightning_nor_hydra_is_imported(saved, points, tmp_path):
    """Load and predict in a process in which training code cannot be imported at all."""
    program = f"""
    import sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            banned = ("lightning", "pytorch_lightning", "hydra", "omegaconf", "neuralop",
                      "torch_geometric", "matplotlib")
            if name.split(".")[0] in banned:
                raise ImportError("blocked: " + name)

    sys.meta_path.insert(0, Blocker())
    from sciml.pretrained.classes import class_table
    sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
    class_table.CLASSES["problem"]["TinyProblem"] = "tiny_model:TinyProblem"
    class_table.CLASSES["network"]["TinyNetwork"] = "tiny_model:TinyNetwork"
    import sciml
    from sciml.cli.verbs.predict import main
    sciml.load_pretrained({str(saved[0])!r})
    sys.exit(main([{str(saved[0])!r}, {str(tmp_path / "points.npz")!r}]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "points_prediction.npz").exists()


def test_the_input_is_never_overwritten(saved, points, tmp_path, capsys):
    path = tmp_path / "points.npz"
    before = path.read_bytes()
    (tmp_path / "other.npz").hardlink_to(path)
    for output in (path, tmp_path / "other.npz"):
        assert run(saved[0], path, "-o", output) == 2
        assert "which is the input" in capsys.readouterr().err
    assert path.read_bytes() == before
