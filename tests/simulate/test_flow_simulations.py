"""`sciml simulate smoke|wake|dam_break`: solvers agree, killed runs go on, wrong words are told."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from sciml.cli.main import main
from sciml.errors import ConvergenceError, InvalidArgument
from sciml.networks.preconditioners.learned_multigrid import LearnedMultigrid
from sciml.simulate import PressureSolvers, Smoke, flow_simulation
from sciml.simulate.pressure_solvers import network_of

SMALL = ("grid=24", "steps=6", "every=3", "save_every=2")


def simulate(*words):
    return main(["simulate", *map(str, words)])


def velocity(folder):
    with np.load(folder / "state.npz") as found:
        return np.concatenate([found[f"velocity_{a}"].ravel() for a in range(2)])


@pytest.mark.parametrize("name", ["smoke", "wake", "dam_break"])
def test_a_run_leaves_frames_a_film_and_a_table(name, tmp_path):
    out = tmp_path / "run"
    assert simulate(name, *SMALL, f"out={out}") == 0
    found = {str(f.relative_to(out)) for f in out.rglob("*") if f.is_file()}
    pictures = {"frames/000003.png", "frames/000006.png", "animation.gif", "steps.png"}
    assert found == pictures | {"steps.csv", "state.npz", "metrics.json"}
    rows = list(csv.DictReader((out / "steps.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(float(row["residual"]) <= 1e-6 for row in rows)
    # the divergence after the projection, found from velocities alone, is the residual of the solve
    assert all(float(row["divergence"]) <= 1.001e-6 for row in rows)
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert metrics["steps"] == 6 and metrics["iterations_max"] <= 12
    from PIL import Image

    with Image.open(out / "animation.gif") as film:
        assert film.n_frames == 2
    shown = np.asarray(Image.open(out / "frames/000006.png"))
    assert shown.std() > 5  # something is seen


def test_all_solvers_agree(tmp_path, monkeypatch):
    """A run of a few steps, tolerance 1e-8; a network that was never trained is safe as well."""
    torch.manual_seed(0)
    network = LearnedMultigrid(dim=2)
    monkeypatch.setattr("sciml.simulate.pressure_solvers.network_of", lambda model, dim: network)
    names = ["cg", "mic", "multigrid", "learned", "dcdm", "auto"]
    for name in names:
        words = [f"solver={name}", *(["model=mine"] if name in ("learned", "dcdm", "auto") else [])]
        assert simulate("smoke", *SMALL, *words, "rtol=1e-8", f"out={tmp_path / name}") == 0
    wanted = velocity(tmp_path / "mic")
    for name in names:
        np.testing.assert_allclose(velocity(tmp_path / name), wanted, rtol=0, atol=2e-7)


def test_a_killed_run_goes_on_to_the_same_state(tmp_path):
    words = ["smoke", "grid=24", "steps=40", "every=20", "save_every=2", "solver=mic"]
    assert simulate(*words, f"out={tmp_path / 'whole'}") == 0
    part = tmp_path / "part"
    command = [sys.executable, "-m", "sciml", "simulate", *words, f"out={part}", "steps=4000"]
    command.remove("steps=40")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    while not (part / "state.npz").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with np.load(part / "state.npz") as found:
        done = len(json.loads(str(found["rows"])))
    if done >= 40:
        pytest.skip("the machine was faster than the signal")
    assert simulate(*words, "resume=true", f"out={part}") == 0
    with np.load(tmp_path / "whole/state.npz") as one, np.load(part / "state.npz") as two:
        assert one.files == two.files
        for name in one.files:
            if name != "rows":  # holds times
                assert np.array_equal(one[name], two[name]), name


def test_choices_of_auto_are_saved(tmp_path):
    out = tmp_path / "auto"
    assert simulate("smoke", *SMALL, "solver=auto", f"out={out}") == 0
    assert simulate("smoke", *SMALL[:1], "steps=8", "solver=auto", "resume=true", f"out={out}") == 0
    with np.load(out / "state.npz") as found:
        assert float(found["bandit_rounds"]) == 8
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    chances = [value for name, value in metrics.items() if name.startswith("chance/")]
    assert sum(chances) == pytest.approx(1)


@pytest.mark.parametrize(
    "words, said",
    [
        (("solver=cgs",), "Did you mean 'cg'"),
        (("grid=4",), "at least 8"),
        (("dim=4",), "2 or 3"),
        (("rtol=0",), "rtol=0"),
        (("rtol=2",), "tolerance in"),
        (("steps=0",), "at least 1"),
        (("dt=-1",), "dt=-1"),
        (("radius=-1",), "radius"),
        (("solver=learned", "model=nothing"), "nothing"),
        (("solver=learned", "model=equino_disk"), "preconditioner"),
        (("resume=true",), "state.npz"),
    ],
)
def test_wrong_words_are_told(words, said, tmp_path, capsys):
    keys = [word.partition("=")[0] for word in words]
    rest = [word for word in ("grid=16", "steps=2") if word.partition("=")[0] not in keys]
    assert simulate("smoke", *rest, *words, f"out={tmp_path / 'x'}") == 2
    assert said in capsys.readouterr().err


def test_what_is_refused_leaves_no_folder(tmp_path, monkeypatch, capsys):
    """Also what is refused in the first step, when the folder is there already."""
    for words in (("smoke", "solver=learned", "model=nothing"), ("smoke", "resume=true")):
        assert simulate(*words, f"out={tmp_path}/runs/x") == 2
        assert not list(tmp_path.iterdir())

    def refused(*given):
        raise ConvergenceError("the pressure", "a solution")

    monkeypatch.setattr(flow_simulation, "advanced", refused)
    assert simulate("smoke", *SMALL, f"out={tmp_path}/runs/x") == 2
    assert "the pressure" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_finished_run_gets_its_table_back(tmp_path):
    out = tmp_path / "run"
    assert simulate("smoke", *SMALL, f"out={out}") == 0
    table = (out / "steps.csv").read_text()
    (out / "steps.csv").unlink()
    assert simulate("smoke", *SMALL, "resume=true", f"out={out}") == 0
    assert (out / "steps.csv").read_text() == table


def test_another_simulation_is_not_continued(tmp_path, capsys):
    out = tmp_path / "run"
    assert simulate("smoke", *SMALL, f"out={out}") == 0
    assert simulate("smoke", "grid=32", "resume=true", f"out={out}") == 2
    assert "grid=24" in capsys.readouterr().err
    (out / "state.npz").write_bytes(b"spoiled")
    assert simulate("smoke", *SMALL, "resume=true", f"out={out}") == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_network_for_another_dimension_is_refused(monkeypatch):
    class Loaded:
        network = LearnedMultigrid(dim=3)

    monkeypatch.setattr("sciml.simulate.pressure_solvers.load_pretrained", lambda name: Loaded())
    with pytest.raises(InvalidArgument, match="3-D"):
        network_of("mine", 2)
    with pytest.raises(InvalidArgument, match="3-D"):
        PressureSolvers("dcdm", 2, model="mine")


@pytest.mark.slow
def test_learned_and_reference_solver_agree_over_200_steps():
    """A moving ball at 64 x 64, tolerance 1e-8; the flow is chaotic, so what differs grows."""
    torch.manual_seed(0)
    from sciml.simulate.flow_simulation import advanced

    states = []
    for name in ("learned", "mic"):
        simulation = Smoke(grid=64, solver=name, rtol=1e-8)
        solvers = PressureSolvers("mic", 2, rtol=1e-8)
        if name == "learned":
            solvers.network, solvers.chosen = LearnedMultigrid(dim=2), "learned"
            solvers.arms = ("learned",)
            solvers.choose = lambda: "learned"
        flow = simulation.flow()
        state = flow.start()
        with torch.no_grad():
            for _ in range(200):
                state, row = advanced(flow, state, 0.02, solvers)
                assert row["divergence"] <= 1.01e-8
        states.append(state)
    for one, two in zip(states[0].velocity, states[1].velocity, strict=True):
        wrong = float((one - two).norm() / two.norm())
        assert wrong < 2e-7  # measured 2.2e-8
