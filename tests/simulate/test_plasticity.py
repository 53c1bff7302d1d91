"""J2 plasticity in macro runs against Hill's closed form of a tube under inner pressure.

R. Hill, The Mathematical Theory of Plasticity, 1950, chapter V: plane strain, no hardening, no
change of volume. With the plastic front at radius c,

    p = 2 k ln(c / a) + k (1 - c^2 / b^2),     u_r = k c^2 / (2 G r),     k = yield stress / sqrt(3)

Taken back by a share s of u_r, the tube is elastic until it yields the other way, s c^2 <= 2 a^2,

    p falls by s k c^2 (1 / a^2 - 1 / b^2).
"""

import numpy as np

from sciml.physics.solids import (
    J2Plasticity,
    LinearElastic,
    PlasticDiskCell,
    RVESolver,
    Structure,
    StructureMesh,
    square_cell,
)
from sciml.physics.solids.block_cells import add_midsides, join_blocks
from sciml.simulate import CellMicro, MacroSolver, MacroState, MaterialMicro

INNER, OUTER = 1.0, 2.0
SHEAR, YIELD = 500.0, 10.0
K = YIELD / np.sqrt(3)
STEEL = J2Plasticity(bulk=1e4 * SHEAR, shear=SHEAR, yield_stress=YIELD)


def tube(along, around, move):
    """A quarter of a tube whose inner wall moves outwards."""
    radius = np.linspace(INNER, OUTER, along + 1)[:, None]
    angle = np.linspace(0, np.pi / 2, around + 1)
    grid = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    corners, cells = join_blocks([grid])
    nodes, elements, sides = add_midsides(corners, cells)
    # midside nodes of arcs lie on them
    ends = np.hypot(*corners.T)[sides]
    arc = np.isclose(ends[:, 0], ends[:, 1], rtol=1e-9, atol=0)
    middle = nodes[len(corners) :]
    middle[arc] *= (ends[arc, 0] / np.hypot(*middle[arc].T))[:, None]
    mesh = StructureMesh(nodes, elements)
    inner = mesh.where(lambda x, y: np.abs(np.hypot(x, y) - INNER))
    conditions = [(mesh.where(lambda x, y: y), 1, 0.0), (mesh.where(lambda x, y: x), 0, 0.0)]
    for node in inner:
        for axis in range(2):
            value = move * mesh.nodes[node, axis] / INNER
            conditions.append((np.array([node]), axis, value if abs(value) > 1e-12 else 0.0))
    return Structure.of("tube", mesh, conditions), inner


def pressure(solver, state, inner):
    """The radial forces on the inner wall over its length."""
    force = solver.internal(state.stress).reshape(-1, 2)[inner]
    normal = solver.structure.mesh.nodes[inner] / INNER
    return (force * normal).sum() / (INNER * np.pi / 2)


def test_a_tube_yields_from_inside_as_hill_found():
    front = np.array([1.2, 1.5, 1.8])  # of the plastic zone at the ends of three paths
    found, wanted, outer = [], [], []
    for c in front:
        structure, inner = tube(8, 4, K * c**2 / (2 * SHEAR * INNER))
        solver = MacroSolver(structure, MaterialMicro(STEEL), steps=4)
        solution = solver.solve()
        assert solution.complete
        found.append(pressure(solver, solution.state, inner))
        wanted.append(2 * K * np.log(c / INNER) + K * (1 - c**2 / OUTER**2))
        rim = structure.mesh.where(lambda x, y: np.abs(np.hypot(x, y) - OUTER))
        outer.append(np.hypot(*solution.state.displacement[rim].T).mean())
        # plastic where it should be, up to the element that the front crosses
        radius = np.hypot(*np.moveaxis(structure.mesh.points, 2, 0)).ravel()
        yielded = solution.state.micro["history"][:, 3] > 0
        assert yielded[radius < c - 0.07].all() and not yielded[radius > c + 0.07].any()
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    np.testing.assert_allclose(outer, K * front**2 / (2 * SHEAR * OUTER), rtol=1.2e-4)


def test_cells_at_every_point_give_the_same_tube():
    """Full FE2 with cells of that steel: the closed form once more, history in every cell."""
    c = 1.5
    structure, inner = tube(4, 2, K * c**2 / (2 * SHEAR * INNER))
    cells = CellMicro(RVESolver(square_cell(2), (STEEL,)))
    ends = []
    for micro in (cells, MaterialMicro(STEEL)):
        solver = MacroSolver(structure, micro, steps=4)
        ends.append(pressure(solver, solver.solve().state, inner))
    wanted = 2 * K * np.log(c / INNER) + K * (1 - c**2 / OUTER**2)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)
    np.testing.assert_allclose(ends[0], wanted, rtol=1e-3)


def test_a_tube_unloads_elastically_and_an_interrupted_unloading_ends_the_same(tmp_path):
    c, share = 1.5, 0.6
    structure, inner = tube(8, 4, K * c**2 / (2 * SHEAR * INNER))
    solver = MacroSolver(structure, MaterialMicro(STEEL), steps=4)
    loaded = solver.solve().state
    kept = []
    found = solver.solve(loaded, target=1 - share, after_step=kept.append)
    assert [round(step.load, 9) for step in found.steps] == [0.75, 0.5, 0.4]
    fallen = pressure(solver, loaded, inner) - pressure(solver, found.state, inner)
    wanted = share * K * c**2 * (1 / INNER**2 - 1 / OUTER**2)
    np.testing.assert_allclose(fallen, wanted, rtol=4e-4)
    history = [state.micro["history"] for state in (loaded, found.state)]
    assert np.array_equal(*history) and history[0].max() > 0  # nothing yields on the way back
    kept[0].save(tmp_path / "state.npz")
    again = solver.solve(MacroState.load_file(tmp_path / "state.npz"), target=1 - share)
    for name in ("displacement", "stress"):
        assert np.array_equal(getattr(again.state, name), getattr(found.state, name))


def test_cells_with_a_history_unload_with_the_stiffness_they_had_at_first(tmp_path):
    """A disk in a plastic matrix at every point, up and back, broken on the way back."""
    cell = PlasticDiskCell(2)
    grid = np.stack(np.meshgrid([0.0, 1.0], [0.0, 1.0], indexing="ij"), -1)
    mesh = StructureMesh(*add_midsides(*join_blocks([grid]))[:2])
    left, right = mesh.where(lambda x, y: x), mesh.where(lambda x, y: 1 - x)
    held = [(left, 0, 0.0), (left, 1, 0.0), (right, 0, 0.02)]
    bar = Structure.of("bar", mesh, held)
    solver = MacroSolver(bar, CellMicro(cell.solver(rtol=1e-11)), steps=2, rtol=1e-10)
    loading = solver.solve()
    assert loading.complete and loading.state.micro["history"][..., 3].max() > 0.01
    back = solver.solve(loading.state, target=0.9)
    matrix, fibre = cell.materials
    phases = LinearElastic(matrix.bulk, matrix.shear), fibre
    elastic = MacroSolver(bar, CellMicro(RVESolver(cell.mesh(), phases, rtol=1e-11)), rtol=1e-10)
    slope = elastic.solve(target=0.1).steps[-1].reaction[0]
    fallen = loading.steps[-1].reaction[0] - back.steps[-1].reaction[0]
    np.testing.assert_allclose(fallen, slope, rtol=1e-7)
    kept = []
    whole = solver.solve(loading.state, target=0.0, after_step=kept.append)
    assert whole.complete and len(kept) == 2
    kept[0].save(tmp_path / "state.npz")
    again = solver.solve(MacroState.load_file(tmp_path / "state.npz"), target=0.0)
    for name in ("displacement", "stress"):
        assert np.array_equal(getattr(again.state, name), getattr(whole.state, name))
    for name, value in whole.state.micro.items():
        assert np.array_equal(again.state.micro[name], value)
