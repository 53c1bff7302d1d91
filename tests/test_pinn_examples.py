"""Every file of examples/pinn as a user runs it, at reduced size: the loss falls."""

from __future__ import annotations

import copy
import functools
import runpy
from pathlib import Path

import pytest

from sciml import pinn

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "pinn"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
SIZE = {"points": 60, "condition_points": 20, "width": 8, "depth": 3, "steps": 8}
KEPT = ("data.fixed_for=1000", "trainer.log_every_n_steps=1")
# The loss after these steps as a share of the first one, where it falls more slowly.
FALLS = {"many_dimensions": 0.99, "helmholtz": 0.97, "viscosity": 0.7}
USUAL = 0.5
config_of = pinn._config


@functools.cache
def composed(words: tuple[str, ...]) -> dict:
    return config_of(list(words), Path("run"))


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered", "ignore:the loss terms")
@pytest.mark.parametrize("name", FILES)
def test_the_loss_falls(name, monkeypatch, capsys) -> None:
    solved = []

    def small(problem, *words, **given):
        own = {k: v for k, v in given.items() if k not in (*SIZE, "seconds")}
        words = [word for word in words if not word.startswith("data.fixed_for")]
        solution = solve(problem, *words, *KEPT, **own, **SIZE)
        solved.append(solution)
        return solution

    solve = pinn.solve
    monkeypatch.setattr(pinn, "solve", small)
    monkeypatch.setattr(pinn, "_config", lambda w, _: copy.deepcopy(composed(tuple(w))))
    monkeypatch.syspath_prepend(FOLDER)
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert solved and capsys.readouterr().out.strip()
    for solution in solved:
        losses = [row["train/loss"] for row in solution.history]
        assert len(losses) == SIZE["steps"]
        title = type(solution.problem).__name__
        assert losses[-1] < FALLS.get(name, USUAL) * losses[0], (title, losses)
