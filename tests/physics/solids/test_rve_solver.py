"""Homogenisation: exact cells, published values, Hill-Mandel, tangents, bounds, symmetry, pools."""

import numpy as np
import pytest

from sciml.errors import ConvergenceError, InvalidArgument, NumericalWarning
from sciml.physics.solids import (
    EQUINO_FIBRE,
    EQUINO_MATRIX,
    EllipticInclusion,
    J2Plasticity,
    LinearElastic,
    RVESolver,
    disk_cell,
    inclusion_cell,
    laminate_cell,
    random_cell,
    rve1,
    rve2,
    rve3,
    square_cell,
    voigt_reuss,
)
from sciml.solvers import Status

PHASES = (EQUINO_MATRIX, EQUINO_FIBRE)
SOFT = LinearElastic(bulk=4780.0, shear=50 / 0.06 / 2)  # the matrix at zero strain
STEEL = J2Plasticity(bulk=160_000.0, shear=80_000.0, yield_stress=250.0, hardening=2000.0)
MIXED = np.array([[0.03, -0.02, 0.03]])


@pytest.fixture(scope="module")
def disk():
    return RVESolver(disk_cell(4), PHASES)


@pytest.mark.parametrize(
    "law", [EQUINO_MATRIX, EQUINO_FIBRE, STEEL], ids=lambda v: type(v).__name__
)
def test_patch(law):
    strain = np.array([[0.02, -0.01, 0.03], [0.0, 0.0, 0.0]])
    solution = RVESolver(square_cell(3), (law,)).solve(strain)
    exact = law.response(strain)
    assert np.allclose(solution.stress, exact.stress, rtol=1e-10, atol=1e-10)
    assert np.allclose(solution.tangent, exact.tangent, rtol=1e-10, atol=1e-7)
    assert np.abs(solution.displacement).max() < 1e-12


def test_linear_laminate():
    tangent = RVESolver(laminate_cell(0.3), (SOFT, EQUINO_FIBRE)).solve(MIXED).tangent[0]
    expected = [
        [7418.677545, 5009.728629, 0],
        [5009.728629, 27472.429484, 0],
        [0, 0, 591.706384],
    ]
    assert np.allclose(tangent, expected, rtol=1e-9, atol=1e-6)


def test_nonlinear_laminate():
    solution = RVESolver(laminate_cell(0.3), PHASES).solve([[0.02, 0, 0], [0.03, -0.02, 0.03]])
    expected = [[144.240045, 101.398223, 0], [109.762661, -392.760718, 9.481875]]
    assert np.allclose(solution.stress, expected, rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (4, (85.014, 46.229, 10.115)),
        (8, (84.654, 46.588, 10.088)),
        pytest.param(12, (84.598, 46.645, 10.084), marks=pytest.mark.slow),
    ],
)
def test_disk_table(n, expected):
    solution = RVESolver(disk_cell(n), PHASES, rtol=1e-8).solve(MIXED, tangent=False)
    assert np.allclose(solution.stress[0], expected, rtol=0, atol=6e-4)
    assert solution.iterations[0] <= 7  # Newton with fresh factors takes 4


@pytest.mark.slow
def test_disk_converges_to_the_finest_values():
    solution = RVESolver(disk_cell(12), PHASES).solve([[0.02, 0, 0], [0, 0, 0.03], [0, 0, 0]])
    expected = [[143.961, 121.423, 0], [0, 0, 12.302], [0, 0, 0]]
    assert np.allclose(solution.stress, expected, rtol=5e-4, atol=1e-8)
    small = [[7609.51, 5876.88, 0], [5876.88, 7609.51, 0], [0, 0, 636.07]]
    assert np.allclose(solution.tangent[2], small, rtol=5e-4, atol=1e-6)


REFERENCE = {
    rve1: [
        ((0.02, 0, 0), (211.031, 187.178, 0.000)),
        ((0, 0, 0.02), (0, 0, 30.308)),
        ((0.03, -0.02, 0.03), (114.181, 80.716, 30.099)),
    ],
    rve2: [
        ((0.02, 0, 0), (129.466, 110.983, 1.068)),
        ((0.03, -0.02, 0.03), (76.948, 45.065, 9.872)),
    ],
    rve3: [
        ((0.02, 0, 0), (119.889, 103.900, 0.010)),
        ((0.03, -0.02, 0.03), (69.945, 41.320, 8.482)),
    ],
}


@pytest.mark.parametrize(
    ("cell", "size", "count"),
    [
        (rve2, 0.05, 2),
        (rve3, 0.05, 2),
        (rve1, 0.05, 1),  # its first row; shear in its narrow ligaments needs smaller elements
        pytest.param(rve1, 0.024, 3, marks=pytest.mark.slow),
    ],
)
def test_cells_of_the_paper(cell, size, count):
    strain, stress = (np.array(v) for v in zip(*REFERENCE[cell][:count], strict=True))
    found = RVESolver(cell(size), PHASES).solve(strain, tangent=False).stress
    assert np.allclose(found, stress, rtol=5e-3, atol=1e-2)


def test_hill_mandel(disk):
    strain = np.random.default_rng(0).uniform(-0.04, 0.04, (4, 3))
    solution = disk.solve(strain)
    work = np.einsum(
        "eq,peqi,peqi->p", disk.mesh.weights, solution.local_stress, solution.local_strain
    )
    assert np.allclose(work, (solution.stress * strain).sum(1), rtol=1e-8, atol=0)
    assert (solution.relative <= disk.rtol).all() and solution.converged.all()


@pytest.mark.slow  # each process imports torch first
def test_processes_give_the_numbers_of_one(disk):
    strain = np.random.default_rng(0).uniform(-0.04, 0.04, (4, 3))
    alone, pool = disk.solve(strain), disk.solve(strain, workers=2)
    assert np.allclose(pool.stress, alone.stress, rtol=1e-12, atol=1e-12)
    assert np.allclose(pool.tangent, alone.tangent, rtol=1e-10, atol=1e-8)


def differences(solver, strain, step=1e-6, **given):
    out = []
    for d in step * np.eye(3):
        up, down = (
            solver.solve(strain[None] + sign * d, tangent=False, **given).stress[0]
            for sign in (1, -1)
        )
        out.append((up - down) / (2 * step))
    return np.stack(out, -1)


@pytest.mark.parametrize("strain", [(0.03, -0.02, 0.03), (0.0, 0.0, 0.0), (-1e-3, 4e-3, 0.0)])
def test_tangent_is_symmetric_and_the_difference_of_stresses(disk, strain):
    solution = disk.solve([strain])
    tangent = solution.tangent[0]
    assert np.abs(tangent - tangent.T).max() <= 1e-10 * np.abs(tangent).max()
    found = differences(disk, np.array(strain), start=solution.displacement)
    assert np.allclose(tangent, found, rtol=1e-5, atol=1e-5 * np.abs(tangent).max())


def test_zero_strain_answers_zero(disk):
    solution = disk.solve(np.zeros((1, 3)))
    assert not solution.stress.any() and solution.iterations[0] == 0
    assert np.isfinite(solution.tangent).all()


def test_bounds_in_the_loewner_order():
    mesh = random_cell(0.25, 5, size=0.08, seed=3)
    phases = SOFT, EQUINO_FIBRE
    tangent = RVESolver(mesh, phases).solve(np.zeros((1, 3))).tangent[0]
    each = [law.response(np.zeros(3)).tangent for law in phases]
    upper, lower = voigt_reuss(mesh.phase_fractions(), each)
    assert np.linalg.eigvalsh(upper - tangent).min() > 0
    assert np.linalg.eigvalsh(tangent - lower).min() > 0
    upper, lower = voigt_reuss([0.7, 0.3], each)
    assert np.allclose([upper[0, 0], lower[0, 0]], [28737.82, 7351.94], rtol=0, atol=0.01)
    assert np.allclose([upper[2, 2], lower[2, 2]], [9267.08, 591.71], rtol=0, atol=0.01)
    with pytest.raises(InvalidArgument, match="sum to 1"):
        voigt_reuss([0.7, 0.7], each)


def test_translation_of_the_inclusion_changes_nothing():
    found = [
        RVESolver(inclusion_cell([EllipticInclusion(*centre, 0.3)], size=0.05), PHASES)
        .solve(MIXED, tangent=False)
        .stress[0]
        for centre in ((0.0, 0.0), (0.5, 0.31))
    ]
    assert np.allclose(*found, rtol=2e-3, atol=0)
    # triangles and quadrilaterals agree, too
    assert np.allclose(found[0], (84.570, 46.673, 10.081), rtol=3e-3, atol=0)


def test_rotation_by_90_degrees_commutes():
    mesh = rve2(0.08)
    turned = RVESolver(mesh.rotated(), PHASES).solve([[-0.02, 0.03, -0.03]], tangent=False)
    xx, yy, xy = RVESolver(mesh, PHASES).solve(MIXED, tangent=False).stress[0]
    assert np.allclose(turned.stress[0], [yy, xx, -xy], rtol=1e-8, atol=1e-8)


def test_fluctuations_are_periodic(disk):
    w = disk.solve(MIXED).displacement[0]
    nodes = disk.mesh.nodes
    for axis in range(2):
        left, right = (np.flatnonzero(nodes[:, axis] == side) for side in (-0.5, 0.5))
        left, right = (e[np.argsort(nodes[e, 1 - axis])] for e in (left, right))
        assert len(left) == 9 and np.array_equal(w[left], w[right])


def test_history_is_carried_along_a_path():
    # a laminate stretched along its layers: steel yields, fibre does not
    solver = RVESolver(laminate_cell(0.3), (STEEL, EQUINO_FIBRE))
    path = np.array([[0.0, y, 0.0] for y in (0.002, 0.004, 0.0035)])
    solution = solver.solve_path(path)
    assert solution.converged.all()
    assert solution.state[1, ..., 3].max() > 1e-3
    assert np.array_equal(solution.state[2], solution.state[1])  # elastic unloading
    phases = LinearElastic(bulk=STEEL.bulk, shear=STEEL.shear), EQUINO_FIBRE
    elastic = RVESolver(solver.mesh, phases).solve(np.zeros((1, 3))).tangent[0]
    change = elastic @ (path[2] - path[1])
    assert np.allclose(solution.stress[2] - solution.stress[1], change, rtol=1e-7, atol=1e-6)
    assert not solution.state[:, solver.mesh.phase == 1].any()
    again = solver.solve(path[2:], state=solution.state[1:2], start=solution.displacement[1:2])
    assert np.allclose(again.stress[0], solution.stress[2], rtol=1e-10, atol=1e-10)
    found = differences(solver, path[1], state=solution.state[:1])
    assert np.allclose(solution.tangent[1], found, rtol=1e-5, atol=1e-5 * found.max())


def test_failures_are_reported(disk):
    hurried = RVESolver(disk.mesh, PHASES, max_iter=1)
    strain = np.vstack([np.zeros((1, 3)), MIXED])
    with pytest.raises(ConvergenceError, match=r"first at number 1 \[0.03, -0.02, 0.03\]"):
        hurried.solve(strain)
    with pytest.warns(NumericalWarning):
        solution = hurried.solve(strain, on_failure="warn")
    assert solution.status.tolist() == [Status.CONVERGED, Status.MAX_ITER]
    assert np.isnan(solution.tangent[1]).all()
    path = hurried.solve_path(strain.repeat(2, 0), on_failure="best")
    assert path.status.tolist() == [Status.CONVERGED, Status.CONVERGED, Status.MAX_ITER]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.solve([0.0, 0.0, 0.0]), "single strain"),
        (lambda s: s.solve([[0.0, np.nan, 0.0]]), "strain number 0"),
        (lambda s: s.solve(MIXED, start=np.zeros((1, 2))), "start of shape"),
        (lambda s: s.solve(MIXED, workers=0), "workers=0"),
        (lambda s: s.solve(MIXED, on_failure="ignore"), "on_failure"),
        (lambda s: RVESolver(s.mesh, PHASES[:1]), "2 phases"),
        (lambda s: RVESolver(s.mesh, PHASES, rtol=0.0), "rtol"),
    ],
)
def test_wrong_arguments_are_refused(disk, call, message):
    with pytest.raises(InvalidArgument, match=message):
        call(disk)
