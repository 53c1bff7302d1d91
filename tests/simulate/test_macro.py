"""The macro solver: patch test, order of convergence, histories, failures, strains out of range."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, NumericalWarning, RangeWarning
from sciml.networks.cells.equino_law import EquiNO
from sciml.physics.solids import (
    EQUINO_MATRIX,
    J2Plasticity,
    LinearElastic,
    RVESolver,
    Structure,
    StructureMesh,
    cook,
    l_profile,
    plate,
    square_cell,
)
from sciml.physics.solids.assembly import factorised
from sciml.physics.solids.block_cells import add_midsides, join_blocks
from sciml.simulate import (
    CellMicro,
    MacroSolver,
    MacroState,
    MaterialMicro,
    OperatorMicro,
    macro,
)
from sciml.solvers.solution import Status

STEEL = J2Plasticity(bulk=5000.0, shear=500.0, yield_stress=8.0, hardening=60.0)


def block(n=2, conditions=None):
    """A square of side 1, slightly distorted inside; pulled along x by default."""
    s = np.linspace(0, 1, n + 1)
    grid = np.stack(np.meshgrid(s, s, indexing="ij"), -1)
    grid[1:-1, 1:-1] += 0.06
    nodes, elements, _ = add_midsides(*join_blocks([grid]))
    mesh = StructureMesh(nodes, elements)
    if conditions is None:
        left, right = mesh.where(lambda x, y: x), mesh.where(lambda x, y: 1 - x)
        conditions = [(left, 0, 0.0), (right, 0, 0.02), (left, 1, 0.0)]
    return Structure.of("block", mesh, conditions)


def operator(law=None, box=0.04):
    """An operator whose law is linear."""
    network = EquiNO(modes=3, width=4, depth=1, box=box).double()
    torch.nn.init.zeros_(network.branch.output.weight)
    law = STIFF if law is None else law
    network.branch.skip.copy_(torch.from_numpy(law))

    class Model:
        spec = {"name": "linear", "inputs": ["strain"], "outputs": ["stress", "tangent"]}

    Model.network = network
    return OperatorMicro(Model())


ELASTIC = LinearElastic(bulk=5000.0, shear=500.0)
STIFF = ELASTIC.response(np.zeros((1, 3))).tangent[0]


def test_patch():
    """Boundary displacements of a homogeneous strain give it everywhere, whatever the mesh."""
    mesh = block().mesh
    gradient = np.array([[0.02, 0.01], [-0.004, -0.01]])
    u = mesh.nodes @ gradient.T
    edge = mesh.where(lambda x, y: np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)))
    conditions = [
        (edge[i : i + 1], axis, u[edge[i], axis]) for i in range(len(edge)) for axis in (0, 1)
    ]
    found = MacroSolver(block(2, conditions), MaterialMicro(EQUINO_MATRIX)).solve().state
    np.testing.assert_allclose(found.displacement, u, rtol=0, atol=1e-12)
    wanted = [0.02, -0.01, 0.006]
    np.testing.assert_allclose(found.strain, np.tile(wanted, (16, 1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make, load", [(plate, 8.0), (l_profile, 12.0), (cook, 150.0)])
def test_newton_is_quadratic(make, load):
    (step,) = MacroSolver(make(1, load), MaterialMicro(EQUINO_MATRIX), rtol=1e-10).solve().steps
    residuals = np.array(step.residuals)
    assert 3 <= step.iterations <= 7
    assert (residuals[1:] <= 2 * residuals[:-1] ** 2 + 1e-12).all()


def test_newton_is_quadratic_with_a_tangent_that_is_not_symmetric():
    """The exact derivative of a law without an energy: its transpose would converge linearly."""
    law = STIFF * np.array([[1.0, 1.3, 1.0], [0.8, 1.0, 1.0], [1.0, 1.0, 1.0]])
    law[0, 2], law[2, 1] = 200.0, -150.0
    torch.manual_seed(2)
    micro = operator(law)
    torch.nn.init.normal_(micro.network.branch.output.weight, std=20.0)
    (step,) = MacroSolver(block(), micro, rtol=1e-11).solve().steps
    residuals = np.array(step.residuals)
    assert 3 <= step.iterations <= 6
    assert (residuals[1:] <= 5 * residuals[:-1] ** 2 + 1e-13).all()


def test_an_operator_answers_like_the_law_it_has():
    ours = MacroSolver(block(), operator()).solve().state
    theirs = MacroSolver(block(), MaterialMicro(ELASTIC)).solve().state
    np.testing.assert_allclose(ours.displacement, theirs.displacement, rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours.stress, theirs.stress, rtol=0, atol=1e-9)


def test_forces_are_those_prescribed():
    """Cook's panel: the reactions of the clamp hold the force."""
    structure = cook(1, force=40.0)
    np.testing.assert_allclose(
        structure.forces.reshape(-1, 2).sum(0), [0, 40.0], rtol=1e-12, atol=1e-12
    )
    solver = MacroSolver(structure, MaterialMicro(ELASTIC))
    found = solver.solve()
    force = solver.internal(found.state.stress)[structure.held]
    np.testing.assert_allclose(force[structure.held % 2 == 1].sum(), -40.0, rtol=1e-8)
    np.testing.assert_allclose(found.steps[-1].reaction, [0.0, -40.0], rtol=1e-9, atol=1e-9)


def test_cells_of_one_material_are_that_material_also_with_a_history():
    cell = CellMicro(RVESolver(square_cell(2), (STEEL,), rtol=1e-12))
    fine = MacroSolver(block(1), cell, steps=2).solve()
    coarse = MacroSolver(block(1), MaterialMicro(STEEL), steps=2).solve()
    assert [s.iterations for s in fine.steps] == [s.iterations for s in coarse.steps]
    np.testing.assert_allclose(fine.state.stress, coarse.state.stress, rtol=1e-8, atol=1e-8)
    history = fine.state.micro["history"].reshape(4, -1, 4)
    np.testing.assert_allclose(
        history, np.repeat(coarse.state.micro["history"][:, None], history.shape[1], 1),
        rtol=1e-7, atol=1e-10,
    )  # fmt: skip
    assert (history[..., 3] > 1e-3).all()


def test_unloading_is_elastic_and_leaves_a_stress():
    """From the loaded state back to no displacement: what was plastic stays."""
    micro = MaterialMicro(STEEL)
    loaded = MacroSolver(block(1), micro, steps=3).solve().state
    structure = block(1)
    back = Structure(
        structure.name, structure.mesh, structure.held, 0 * structure.values, structure.forces
    )
    start = MacroState(
        0.0, loaded.displacement, loaded.strain, loaded.stress, loaded.tangent, loaded.micro
    )
    found = MacroSolver(back, micro, steps=1).solve(start).state
    assert np.abs(found.stress).max() > 1.0
    virgin = MacroSolver(back, MaterialMicro(ELASTIC)).solve().state
    assert np.abs(virgin.stress).max() < 1e-12


class Fragile(MaterialMicro):
    """Answers until a strain, but for one point."""

    def __init__(self, largest, point=5):
        super().__init__(EQUINO_MATRIX)
        self.largest, self.point = largest, point

    def respond(self, strain, state, near=None):
        answer = super().respond(strain, state, near)
        if np.abs(strain[self.point]).max() > self.largest:
            answer.status[self.point] = Status.MAX_ITER
        return answer


def test_a_failure_names_element_and_step_and_the_state_is_kept_and_continued(tmp_path):
    kept = []
    solver = MacroSolver(block(), Fragile(0.012), steps=4, cuts=1)
    with pytest.warns(NumericalWarning, match=r"step 3 .* in element 1, point 1, .*is kept"):
        found = solver.solve(after_step=kept.append)
    assert not found.complete
    failure = found.failures[0]
    assert (failure.step, failure.element, failure.point) == (3, 1, 1)
    assert found.state is kept[-1]
    assert 0.5 <= found.state.load < 0.75  # the last cut may have got further
    found.state.save(tmp_path / "state.npz")
    again = MacroState.load_file(tmp_path / "state.npz")
    ended = MacroSolver(block(), MaterialMicro(EQUINO_MATRIX), steps=8).solve(again)
    whole = MacroSolver(block(), MaterialMicro(EQUINO_MATRIX), steps=4).solve()
    assert ended.complete
    np.testing.assert_allclose(
        ended.state.displacement, whole.state.displacement, rtol=0, atol=1e-9
    )


def test_a_step_that_fails_is_halved():
    class Jumpy(MaterialMicro):
        def respond(self, strain, state, near=None):
            answer = super().respond(strain, state, near)
            if np.abs(strain - self.last).max() > 0.014:
                answer.status[0] = Status.STALLED
            elif near is not None:
                self.last = strain
            return answer

    micro = Jumpy(EQUINO_MATRIX)
    micro.last = np.zeros((16, 3))
    found = MacroSolver(block(), micro, steps=1).solve()
    assert found.complete
    assert len(found.failures) == 1
    assert [step.load for step in found.steps] == [0.5, 1.0]


def test_strains_outside_the_box_are_counted_and_warned_about():
    said = r"step 1: .* at \d+ of 16 points lies outside .*0.01, up to 0.0\S+ in element \d"
    with pytest.warns(RangeWarning, match=said):
        found = MacroSolver(block(), operator(box=0.01)).solve()
    strain = np.abs(found.state.strain)
    element, point = found.steps[0].where
    assert strain[4 * element + point].max() == strain.max()
    assert found.steps[0].outside == (strain > 0.01).any(1).sum() > 0
    assert found.steps[0].largest == strain.max()


def test_newton_that_does_not_converge_is_a_failure():
    with pytest.warns(NumericalWarning, match="ended at a residual"):
        found = MacroSolver(block(), MaterialMicro(EQUINO_MATRIX), max_iter=1, cuts=0).solve()
    assert found.state.load == 0.0
    assert found.failures[0].element is None


def test_states_of_other_structures_are_refused(tmp_path):
    state = MacroSolver(block(1), MaterialMicro(EQUINO_MATRIX)).start()
    with pytest.raises(InvalidArgument, match="one of this structure"):
        MacroSolver(block(2), MaterialMicro(EQUINO_MATRIX)).solve(state)
    with pytest.raises(InvalidArgument, match="one of this structure"):
        MacroSolver(block(1), MaterialMicro(STEEL)).solve(state)
    (tmp_path / "state.npz").write_text("nothing")
    with pytest.raises(InvalidArgument, match="state file"):
        MacroState.load_file(tmp_path / "state.npz")


def test_one_call_of_the_microscale_per_iteration():
    calls = []

    class Counting(MaterialMicro):
        def respond(self, strain, state, near=None):
            calls.append(len(strain))
            return super().respond(strain, state, near)

    found = MacroSolver(block(), Counting(EQUINO_MATRIX), steps=2).solve()
    assert calls == [16] * (1 + sum(step.iterations for step in found.steps))


def test_the_plate_is_a_square_less_a_quarter_of_nothing():
    """Every element keeps its orientation, and the area is that of a square with a round hole."""
    for refine in (1, 2):
        mesh = plate(refine).mesh
        corners = np.asarray(mesh.nodes)[np.asarray(mesh.elements)[:, :4]]
        x, y = corners[..., 0], corners[..., 1]
        areas = 0.5 * (x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)
        assert (areas > 0).all()
        straight = 24 * refine  # chords of the hole
        hole = 0.5 * straight * 25**2 * math.sin(2 * math.pi / straight)
        assert areas.sum() == pytest.approx(100**2 - hole, rel=1e-9)


def test_close_to_the_end_factors_are_kept_and_newton_stays_quadratic(monkeypatch):
    made = []

    def counted(matrix):
        made.append(matrix.shape)
        return factorised(matrix)

    monkeypatch.setattr(macro, "factorised", counted)
    (step,) = MacroSolver(plate(1, 2.0), MaterialMicro(EQUINO_MATRIX)).solve().steps
    residuals = np.array(step.residuals)
    assert len(made) < step.iterations
    assert (residuals[1:] <= 2 * residuals[:-1] ** 2 + 1e-9).all()


def test_factors_that_are_too_far_off_are_made_anew(monkeypatch):
    """Refinement that never succeeds costs time, not the solution."""
    wanted = MacroSolver(plate(), MaterialMicro(EQUINO_MATRIX)).solve().state
    monkeypatch.setattr(macro, "refined", lambda *given: None)
    found = MacroSolver(plate(), MaterialMicro(EQUINO_MATRIX)).solve().state
    np.testing.assert_allclose(found.stress, wanted.stress, rtol=0, atol=1e-6)
