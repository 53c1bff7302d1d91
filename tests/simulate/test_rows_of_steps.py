"""A step's row of the table, what solvers are asked for by default, and arrays of saved states."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.simulate import PressureSolvers, Smoke
from sciml.simulate.flow_simulation import advanced
from sciml.simulate.state_files import check_arrays


@pytest.mark.parametrize("stage", [None, (0, 0, 0), (0, 1, 0)])
def test_advanced_writes_the_worst_of_all_problems(stage):
    stats = {"relative": torch.tensor([1e-7, 5e-7, 2e-7])}
    stats |= {} if stage is None else {"stage": torch.tensor(stage)}
    solution = SimpleNamespace(iterations=torch.tensor([4, 7, 5]), stats=stats)
    done = SimpleNamespace(solution=solution, left=lambda: torch.tensor([3e-7, 1e-7, 2e-7]))
    later = SimpleNamespace(time=0.75)
    flow = SimpleNamespace(step=lambda state, dt, solver: (later, done))
    state, row = advanced(flow, None, 0.25, PressureSolvers("cg", 2))
    assert state is later and row["time"] == 0.75 and row["solver"] == "cg"
    assert row["iterations"] == 7 and row["fell_back"] == int(stage == (0, 1, 0))
    assert row["residual"] == pytest.approx(5e-7) and row["divergence"] == pytest.approx(3e-7)
    assert row["solve_s"] == row["setup_s"] == 0.0 <= row["step_s"]


def test_pressure_solvers_go_to_a_millionth_unless_told():
    flow = Smoke(grid=16).flow()
    for words, rtol in (({}, 1e-6), ({"rtol": 1e-3}, 1e-3)):
        solvers = PressureSolvers("cg", dim=2, **words)
        assert solvers.rtol == rtol
        state, left = flow.start(), []
        for _ in range(3):
            state, done = flow.step(state, 0.05, solvers)
            left.append(float(done.left().max()))
        assert 1e-4 * rtol < max(left) <= 1.001 * rtol
    assert Smoke().rtol == 1e-6
    for rtol in (0.0, 1.0, -1.0):
        with pytest.raises(InvalidArgument, match="a tolerance in"):
            PressureSolvers("cg", 2, rtol=rtol)


def test_check_arrays_takes_what_is_alike_and_finite():
    like = {"u": np.zeros((2, 3)), "n": np.zeros(2, dtype=np.int64), "name": "a"}
    file = Path("state.npz")
    whole = {"u": np.ones((2, 3)), "n": np.arange(2), "name": np.array("b"), "more": np.nan}
    check_arrays(file, whole, like)
    for name, value, said in (
        ("u", None, "holds no u"),
        ("u", np.ones((3, 2)), r"u of float64, \(3, 2\).*float64, \(2, 3\)"),
        ("u", np.ones((2, 3), dtype=np.float32), "u of float32"),
        ("u", np.array([[0, 0, 0], [0, np.inf, 0]]), "u with entries that are not finite"),
        ("u", np.full((2, 3), np.nan), "u with entries that are not finite"),
        ("n", np.zeros(2), "n of float64"),
        ("name", np.array("bb"), "holds name of <U2"),
    ):
        held = {k: v for k, v in (whole | {name: value}).items() if v is not None}
        with pytest.raises(InvalidArgument, match=said):
            check_arrays(file, held, like)
