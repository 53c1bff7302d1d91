"""Ten damaged or odd files through both ways in: one message, exit code 2, no run folder left."""

import numpy as np
import pytest
import torch

from sciml.cli.main import main
from sciml.testing import small_files as small

X = small.smooth(20, 8)


def truncated(folder):
    whole = small.pairs(folder / "whole.npz").read_bytes()
    (folder / "a.npz").write_bytes(whole[: len(whole) // 2])
    return "a.npz", (), "cannot be read"


def wrong_key(folder):
    small.pairs(folder / "a.npz")
    return "a.npz", ("data.outputs=[z]",), "data.outputs=z is no array"


def objects(folder):
    pair = np.empty(2, object)
    pair[0], pair[1] = X, X[0]
    np.savez(folder / "a.npz", X=pair, y=X)
    return "a.npz", (), "branch=d['X'][0], trunk=d['X'][1]"


def mixed_shapes(folder):
    torch.save({"x": [torch.rand(3, 4), torch.rand(3, 5)]}, folder / "a.pt")
    return "a.pt", (), "mixed shapes"


def nan(folder):
    bad = X.copy()
    bad[4, 3] = bad[7, 1] = np.nan
    np.savez(folder / "a.npz", x=bad, y=X)
    return "a.npz", (), "data.skip=["


def constant(folder):
    np.savez(folder / "a.npz", x=X, y=np.ones_like(X))
    return "a.npz", (), "output y is 1 in all"


def one_sample(folder):
    np.savez(folder / "a.npz", x=X[:1], y=X[:1])
    return "a.npz", (), "1 sample, which would be split"


def no_names(folder):
    np.savez(folder / "a.npz", alpha=X, beta=X, gamma=X)
    return "a.npz", (), "Type data.inputs="


def other_counts(folder):
    np.savez(folder / "a.npz", x=X, y=X[:-1])
    return "a.npz", (), "same number of samples"


def empty(folder):
    (folder / "a.npz").write_bytes(b"")
    return "a.npz", (), "is empty"


KINDS = (truncated, wrong_key, objects, mixed_shapes, nan, constant, one_sample, no_names,
         other_counts, empty)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_one_message_and_exit_code_2(kind, tmp_path, capsys):
    name, words, said = kind(tmp_path)
    path, run = str(tmp_path / name), tmp_path / "run"
    train = ["train", "model=fno", f"data.path={path}", f"hydra.run.dir={run}", *words]
    for line in (train, ["inspect", path, *words]):
        assert main(line) == 2, line
        error = capsys.readouterr().err.strip()
        assert said in error and "Traceback" not in error, error
        assert error.count("Expected") <= 1 and len(error.splitlines()) == 1, error


def test_point_clouds_are_shown_and_sent_to_their_models(tmp_path, capsys):
    path = str(tmp_path / "a.pt")
    draw = torch.Generator().manual_seed(0)
    held = [{"points": torch.rand(n, 2, generator=draw), "y": torch.rand(n)} for n in (5, 8, 6, 7)]
    torch.save(held, path)
    assert main(["inspect", path]) == 0
    said = capsys.readouterr().out
    assert "5 to 8 points per sample" in said and "type model=cloud_unet" in said
    assert main(["train", "model=fno", f"data.path={path}", f"hydra.run.dir={tmp_path / 'r'}"]) == 2
    assert "Type model=cloud_unet" in capsys.readouterr().err
