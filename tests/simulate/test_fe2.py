"""`sciml simulate fe2`: settings, files, continuing, and the list of simulations."""

import json

import numpy as np
import pytest

from sciml.cli.main import main
from sciml.simulate import SIMULATIONS
from sciml.simulate.fe2 import FE2
from sciml.simulate.simulation import Simulation, described, read, setting


def simulate(*words):
    return main(["simulate", *words])


def test_a_run_leaves_pictures_numbers_and_its_state(tmp_path, capsys):
    out = tmp_path / "run"
    assert simulate("fe2", "case=cook", "micro=material", "vtu=true", f"out={out}") == 0
    pictures, numbers = {"contours.png", "convergence.png"}, {"metrics.json", "steps.csv"}
    kept = {"state.npz", "structure.vtu"}
    assert {f.name for f in out.iterdir()} == pictures | numbers | kept
    said = capsys.readouterr().out
    assert "64 elements, 256 points" in said
    record = json.loads((out / "metrics.json").read_text())
    assert record["status"] == "completed"
    assert record["metrics"]["load"] == 1.0
    assert record["metrics"]["iterations_max"] <= 5
    assert simulate("fe2", "micro=material", f"out={out}") == 2
    assert "resume=true" in capsys.readouterr().err


def test_an_interrupted_path_with_history_goes_on(tmp_path, capsys):
    """A yield stress is passed: what was plastic before the break counts after it."""
    words = ["fe2", "case=l_profile", "micro=material", "cell=plastic_disk", "load=6"]
    assert simulate(*words, "steps=4", f"out={tmp_path / 'whole'}") == 0
    part = tmp_path / "part"
    assert simulate(*words, "steps=4", f"out={part}") == 0
    # as if it had been killed after half the load
    from sciml.simulate import MacroSolver, MacroState

    made = FE2(case="l_profile", micro="material", cell="plastic_disk", load=6.0)
    states = []
    MacroSolver(made.structure(), made.answerer()[0], steps=4).solve(after_step=states.append)
    states[1].save(part / "state.npz")
    assert simulate(*words, "steps=4", "resume=true", f"out={part}") == 0
    assert json.loads((part / "metrics.json").read_text())["metrics"]["complete"] == 1.0
    assert "continued from load 0.5" in capsys.readouterr().out
    ends = [MacroState.load_file(tmp_path / n / "state.npz") for n in ("whole", "part")]
    np.testing.assert_allclose(ends[0].stress, ends[1].stress, rtol=1e-9, atol=1e-9)


def test_a_load_that_is_taken_off_leaves_what_has_yielded(tmp_path, capsys):
    """Up and down in one go each, and broken on both ways: the same end, with forces reversed."""
    from sciml.simulate import MacroState

    words = ["fe2", "case=l_profile", "micro=material", "cell=plastic_disk", "load=6", "steps=4"]
    once, often = tmp_path / "once", tmp_path / "often"
    for target, resume in ((1, "false"), (0, "true")):
        assert simulate(*words, f"target={target}", f"resume={resume}", f"out={once}") == 0
    assert "load 0.75, " in capsys.readouterr().out
    for target, resume in ((0.5, "false"), (1, "true"), (0.75, "true"), (0, "true")):
        assert simulate(*words, f"target={target}", f"resume={resume}", f"out={often}") == 0
    ends = [MacroState.load_file(folder / "state.npz") for folder in (once, often)]
    assert ends[0].load == ends[1].load == 0
    for name in ("displacement", "stress", "strain"):
        assert np.array_equal(*(getattr(end, name) for end in ends))
    assert np.array_equal(*(end.micro["history"] for end in ends))
    assert np.abs(ends[0].stress).max() > 5  # of a yield stress of 20: what stays without a load
    rows = (once / "steps.csv").read_text().splitlines()
    assert float(rows[1].split(",")[5]) * float(rows[-1].split(",")[5]) < 0  # it is pushed back


@pytest.mark.parametrize(
    "words, said",
    [
        (("fe3",), "did you mean 'fe2'"),
        (("fe2", "case=plates"), "plate"),
        (("fe2", "cases=plate"), "case"),
        (("fe2", "steps=two"), "int"),
        (("fe2", "steps=0"), "at least 1"),
        (("fe2", "target=nan"), "target=nan. Expected a number"),
        (("fe2", "target=0"), "resume=true"),
        (("fe2", "plate"), "key=value"),
        (("fe2", "case=plate", "case=cook"), "twice"),
        (("fe2", "vtu=maybe"), "bool"),
        (("fe2", "reference=true", "micro=rve"), "operator"),
        (("fe2", "model=nothing"), "no pretrained model 'nothing'"),
        (("fe2", "micro=material", "resume=true", "out=nowhere"), "state.npz"),
        (("fe2", "model=wos_poisson2d"), "strain in, stress and tangent out"),
        (("fe2", "micro=rve", "cell=file"), "file=cell.msh"),
        (("fe2", "micro=rve", "file=cell.msh"), "cell=file"),
        (("fe2", "micro=rve", "cell=file", "file=none.msh"), "there is no file none.msh"),
    ],
)
def test_wrong_input_is_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert simulate(*words) == 2
    error = capsys.readouterr().err
    assert said.lower() in error.lower()
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_help_lists_simulations_and_settings(capsys):
    assert simulate() == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SIMULATIONS)
    assert simulate("fe2", "--help") == 0
    said = capsys.readouterr().out
    assert all(f"{name}=" in said for name in ("case", "micro", "steps", "reference", "out"))


def test_a_simulation_is_one_dataclass():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Toy(Simulation):
        """Counts."""

        steps: int = setting(3, "how far")
        name: str | None = setting(None, "of the file")

        def run(self, folder, say=print):
            return {"sum": float(sum(range(self.steps)))}

    assert read(Toy, ["steps=4", "name=null"]).run(None) == {"sum": 6.0}
    assert "steps=3" in described(Toy)


def test_a_reduced_model_answers_like_the_cells_it_came_from(tmp_path):
    """POD-Galerkin on a few points against full FE2, both from the command line."""
    words = ["fe2", "case=l_profile", "cell=disk", "size=2"]
    assert simulate(*words, "micro=rve", f"out={tmp_path / 'rve'}") == 0
    reduced = ["micro=galerkin", "modes=24", "snapshots=60"]
    assert simulate(*words, *reduced, f"out={tmp_path / 'galerkin'}") == 0
    from sciml.simulate import MacroState
    from sciml.simulate.fe2 import distance

    full, ours = (MacroState.load_file(tmp_path / n / "state.npz") for n in ("rve", "galerkin"))
    assert ours.micro["coefficients"].shape == (192, 24)
    assert distance(ours.displacement, full.displacement) < 5e-6
    assert distance(ours.stress, full.stress) < 1.2e-5


def test_reduced_models_of_histories_are_refused(tmp_path, capsys):
    words = ("micro=galerkin", "cell=plastic_disk", f"out={tmp_path / 'no'}")
    assert simulate("fe2", *words) == 2
    assert "micro=rve" in capsys.readouterr().err
