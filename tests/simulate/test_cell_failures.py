"""Finite-element cells that do not converge inside a structure: said where, kept, continued."""

import json

import numpy as np
import pytest

from sciml.cli.main import main
from sciml.errors import NumericalWarning
from sciml.physics.solids import DiskCell, RVESolver, Structure, StructureMesh
from sciml.physics.solids.block_cells import add_midsides, join_blocks
from sciml.simulate import CellMicro, MacroSolver, MacroState
from sciml.simulate.fe2 import FE2
from sciml.solvers.solution import Status


def bar(stretch=0.05):
    """Two elements, clamped at the left; strains are largest at the corners of the clamp."""
    x, y = np.linspace(0, 2, 3), np.linspace(0, 1, 2)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1)
    mesh = StructureMesh(*add_midsides(*join_blocks([grid]))[:2])
    left, right = mesh.where(lambda x, y: x), mesh.where(lambda x, y: 2 - x)
    return Structure.of("bar", mesh, [(left, 0, 0.0), (left, 1, 0.0), (right, 0, stretch)])


def cells(max_iter):
    cell = DiskCell(2)
    return CellMicro(RVESolver(cell.mesh(), cell.materials, rtol=1e-10, max_iter=max_iter))


def test_a_cell_that_does_not_converge_is_named_and_the_run_goes_on_from_before(tmp_path):
    micro, kept = cells(max_iter=5), []
    solver = MacroSolver(bar(), micro, steps=4, cuts=0)
    with pytest.warns(NumericalWarning, match="did not answer .max iter.*is kept") as said:
        found = solver.solve(after_step=kept.append)
    (failure,) = found.failures
    assert f"step {failure.step} " in str(said[0].message)
    assert f"element {failure.element}, point {failure.point}" in str(said[0].message)
    assert 0 < found.state.load < 1 and found.state is kept[-1]
    assert failure.step == len(kept) + 1
    # the cell that is named fails by itself, too, at the strain that is named
    alone = micro.solver.solve([failure.strain], on_failure="best")
    assert alone.status[0] == Status.MAX_ITER
    # and the run goes on from the last converged state with cells that are given more steps
    found.state.save(tmp_path / "state.npz")
    state = MacroState.load_file(tmp_path / "state.npz")
    patient = MacroSolver(bar(), cells(max_iter=20), steps=4)
    ended, whole = patient.solve(state), patient.solve()
    assert ended.complete and whole.complete
    np.testing.assert_allclose(ended.state.stress, whole.state.stress, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(
        ended.state.displacement, whole.state.displacement, rtol=0, atol=1e-8
    )


def test_the_command_line_says_where_it_ended_and_goes_on(tmp_path, monkeypatch, capsys):
    """Exit code 1, the reason in metrics.json, the state beside it; then resume=true."""

    def structure(self):
        return bar()

    def answerer(hurry):
        return lambda self: (cells(hurry), DiskCell(2))

    monkeypatch.setattr(FE2, "structure", structure)
    monkeypatch.setattr(FE2, "answerer", answerer(5))
    out = tmp_path / "out"
    words = ["simulate", "fe2", "micro=rve", "steps=4", f"out={out}"]
    assert main([*words, "cuts=0"]) == 1
    said = capsys.readouterr()
    assert "in element 0, point 1" in said.err + said.out
    record = json.loads((out / "metrics.json").read_text())
    assert record["status"] == "failed" and record["metrics"]["load"] == 0.5
    assert "step 3 (load 0.75) failed in iteration 1 in element 0" in record["failures"][0]
    assert MacroState.load_file(out / "state.npz").load == 0.5
    monkeypatch.setattr(FE2, "answerer", answerer(20))
    assert main([*words, "resume=true"]) == 0
    assert "continued from load 0.5" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text())["metrics"]["load"] == 1.0
