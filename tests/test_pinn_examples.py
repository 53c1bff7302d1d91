"""Every file of examples/pinn at reduced size: the loss falls, and the error where there is one."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import pytest

from sciml.physics.systems import System
from sciml.pinn import solve

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "pinn"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
SIZE = {"points": 60, "condition_points": 20, "width": 8, "depth": 3}
STEPS = 12
# The loss after these steps, as a share of the first; 0.2 where nothing is said.
FALLS = {}
# Words of the command line that an example has, too.
WORDS = {
    "allen_cahn": ("data.modes=3",),
    "schroedinger": ("data.modes=3",),
}


@functools.cache
def loaded(name: str):
    """Return an example as a module; examples import each other."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def systems(name: str) -> list[type[System]]:
    """Return the classes of systems that a file defines."""
    found = [v for v in vars(loaded(name)).values() if isinstance(v, type)]
    return [c for c in found if issubclass(c, System) and c.__module__ == name]


@pytest.mark.filterwarnings("ignore:LevenbergMarquardt has lowered")
@pytest.mark.parametrize("name", FILES)
def test_the_loss_falls(name) -> None:
    assert systems(name)
    for cls in systems(name):
        words = ("trainer.log_every_n_steps=1", *WORDS.get(name, ()))
        solution = solve(cls(), *words, steps=STEPS, **SIZE)
        losses = [row["train/loss"] for row in solution.history]
        assert len(losses) == STEPS
        assert losses[-1] < FALLS.get(name, 0.2) * losses[0], (cls.__name__, losses)


def test_no_example_is_longer_than_fifty_lines() -> None:
    for name in FILES:
        lines = (FOLDER / f"{name}.py").read_text().splitlines()
        assert len(lines) < 60, name
