"""`sciml simulate`: exit codes, folders, and what is said, with a simulation that does nothing."""

import dataclasses

import pytest

from sciml.cli.main import main
from sciml.cli.verbs import simulate
from sciml.errors import InvalidArgument
from sciml.simulate import SIMULATIONS, Simulation, setting


@dataclasses.dataclass(frozen=True)
class Still(Simulation):
    """Nothing moves."""

    load: float = setting(-1.0, "share of the load that was reached; below 0 for none")
    target: float = setting(1.0, "share that was asked for")
    resume: bool = setting(False, "go on")

    def run(self, folder, say=print):
        """Write a file and return figures."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "here").write_text("x")
        if self.load > 1.5:
            raise KeyboardInterrupt
        figures = {"a": 1234567.891, "longer_name": 0.000123456}
        if self.load < 0:
            return figures
        return {"load": self.load, "complete": float(self.load == self.target)}


@dataclasses.dataclass(frozen=True)
class Once(Simulation):
    """No way to go on."""

    def run(self, folder, say=print):
        """Return nothing."""
        return {}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SIMULATIONS, "still", (f"{__name__}:Still", "nothing"))
    monkeypatch.setitem(SIMULATIONS, "once", (f"{__name__}:Once", "nothing"))

    def run(*words):
        code = main(["simulate", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("load", "target", "code"),
    [(-1.0, 1.0, 0), (1.0, 1.0, 0), (0.999, 1.0, 1), (0.0, 1.0, 1), (0.0, 0.0, 0)],
)
def test_a_structure_that_did_not_bear_its_load_is_told_by_the_exit_code(call, load, target, code):
    """Taken off again, it has borne what was asked."""
    assert call("still", f"load={load}", f"target={target}", "out=x")[0] == code


def test_figures_stand_in_columns_and_files_where_they_were_asked_for(call, tmp_path):
    code, out, _ = call("still", "out=here/there")
    assert (code, (tmp_path / "here/there/here").read_text()) == (0, "x")
    assert out.splitlines() == [
        "  a            1.23457e+06", "  longer_name  0.000123456", "files: here/there"
    ]  # fmt: skip
    code, out, _ = call("still")
    (folder,) = (tmp_path / "runs" / "simulate_still").iterdir()
    assert out.splitlines()[-1] == f"files: {folder.relative_to(tmp_path)}"


def test_a_folder_with_files_is_kept(call, tmp_path):
    assert call("still", "out=x")[0] == 0
    code, _, said = call("still", "out=x")
    assert code == 2 and "which holds files" in said and "resume=true" in said
    assert call("still", "out=x", "resume=true")[0] == 0
    code, _, said = call("once", "out=x")
    assert code == 2 and "Type another out=FOLDER" in said and "resume" not in said
    (tmp_path / "empty").mkdir()
    assert call("once", "out=empty")[0] == 0
    (tmp_path / "file").write_text("")
    for words, wanted in (
        (("out=file",), "which is a file"), (("out=",), "one folder"),
        (("out=a", "out=b"), "one folder"), (("load=heavy",), "float"),
    ):  # fmt: skip
        code, _, said = call("still", *words)
        assert code == 2 and wanted in said and said.count("\n") == 1


def test_an_interrupted_simulation_says_how_to_go_on(call):
    code, _, said = call("still", "load=2", "out=x")
    assert code == 130 and "resume=true goes on" in said


def test_names_and_help(call):
    code, _, said = call("smok")
    assert code == 2 and "Did you mean 'smoke'" in said
    code, out, _ = call()
    assert code == 0 and all(f"  {name} " in out for name in SIMULATIONS)
    code, out, _ = call("still", "--help")
    assert code == 0 and "load=-1.0" in out and "resume=false" in out and "out=FOLDER" in out
    assert simulate.simulation("still") is Still
    with pytest.raises((InvalidArgument, ValueError)):
        simulate.simulation("none")
