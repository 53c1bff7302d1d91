"""`solve` and the command line: arguments of the right kind, progress, folders of earlier runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sciml.cli.targets import own_class
from sciml.errors import ConfigError, InvalidArgument, InvalidType
from sciml.physics.systems import Interval, On, System
from sciml.pinn import solve

SMALL = {"points": 20, "condition_points": 4, "width": 4, "depth": 2}


class Rod(System):
    domain = Interval(0, 1)
    conditions = {"ends": On(domain.boundary, u=0)}  # noqa: RUF012

    def residual(self, u):
        return u.xx + 1


class Broken(Rod):
    """Fails in training alone."""

    def residual(self, u):
        if len(u.value) > 7:
            raise OSError("the table is gone")
        return u.xx + 1


def test_arguments_are_checked_before_anything_is_set_up() -> None:
    for said, error, text in [
        ({"steps": 0}, InvalidArgument, "steps=0. Expected a step at least. Write steps=100"),
        ({"steps": -3}, InvalidArgument, "steps=-3"),
        ({"steps": 1, "optimizer": ("adam", "lm")}, InvalidArgument, "steps=1 for 2 optimizers"),
        ({"steps": "10"}, InvalidType, "steps is '10'. Expected a whole number"),
        ({"steps": 1.5}, InvalidType, "steps is 1.5"),
        ({"seconds": "10"}, InvalidType, "seconds is '10'"),
        ({"seconds": 0}, InvalidArgument, "a positive number"),
        ({"points": "x"}, InvalidType, "points is 'x'"),
        ({"seed": "0"}, InvalidType, "seed is '0'"),
        ({"progress": "yes"}, InvalidType, "progress is 'yes'"),
        ({"overwrite": "true"}, InvalidType, "overwrite is 'true'"),
    ]:
        with pytest.raises(error) as caught:
            solve(Rod(), **said)
        assert text in str(caught.value)


def test_progress_shows_the_lines_of_the_command_line(capsys) -> None:
    solve(Rod(), steps=2, **SMALL)
    assert not capsys.readouterr().out
    solve(Rod(), steps=2, progress=True, **SMALL)
    out = capsys.readouterr()
    assert "step 2/2 | train/loss" in out.out and "Epoch" not in out.out + out.err


def test_a_folder_with_files_is_refused_or_replaced(tmp_path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(OSError, match="the table is gone"):
        solve(Broken(), steps=3, run_dir=folder, **SMALL)
    (folder / "notes.txt").parent.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InvalidArgument, match="holds files.*Type overwrite=True"):
        solve(Rod(), steps=3, run_dir=folder, **SMALL)
    solve(Rod(), steps=16, run_dir=folder, overwrite=True, **SMALL)
    first = sorted(p.name for p in folder.rglob("*") if p.is_file())
    assert "metrics.json" in first and "notes.txt" in first
    stale = folder / "checkpoints" / "step99.ckpt"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"")
    with pytest.raises(OSError, match="the table is gone"):  # before its first step
        solve(Broken(), steps=3, run_dir=folder, overwrite=True, **SMALL)
    assert stale.exists()
    solve(Rod(), steps=12, run_dir=folder, overwrite=True, **SMALL)
    assert not stale.exists() and (folder / "notes.txt").read_text() == "mine"
    rows = (folder / "metrics.csv").read_text().splitlines()
    at = rows[0].split(",").index("step")
    steps = [int(row.split(",")[at]) for row in rows[1:]]
    assert steps == sorted(set(steps)) and max(steps) <= 12  # of this run alone
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="which is a file"):
        solve(Rod(), steps=3, run_dir=tmp_path / "file", overwrite=True, **SMALL)


def test_a_file_without_its_class_is_read_and_not_run(tmp_path) -> None:
    file = tmp_path / "heat.py"
    file.write_text("raise SystemExit\nclass Plate:\n    pass\nclass Rod:\n    pass\n")
    with pytest.raises(ConfigError, match=f"Type problem={file}:Plate or problem={file}:Rod"):
        own_class.take(["model=pinn_system", f"problem={file}"])
    file.write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"There is no class in heat.py"):
        own_class.take([f"problem={file}"])
    file.write_text("class :\n")
    with pytest.raises(ConfigError, match="heat.py cannot be read"):
        own_class.take([f"problem={file}"])
    with pytest.raises(ConfigError, match="there is no file"):
        own_class.take([f"problem={tmp_path / 'cold.py'}"])


def test_the_command_line_says_so(tmp_path) -> None:
    (tmp_path / "heat.py").write_text("class Plate:\n    pass\n")
    line = [sys.executable, "-m", "sciml", "train", "model=pinn_system", "problem=heat.py"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode and "problem=heat.py:Plate" in done.stdout + done.stderr
