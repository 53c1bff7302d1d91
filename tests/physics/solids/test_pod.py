"""Reduced bases: orthonormal over the cell, periodic and in equilibrium for any coefficients."""

import numpy as np
import pytest

from sciml.errors import InvalidArgument
from sciml.physics.solids import EQUINO_FIBRE, EQUINO_MATRIX, PODBasis, RVESolver, disk_cell


@pytest.fixture(scope="module")
def solved():
    solver = RVESolver(disk_cell(4), (EQUINO_MATRIX, EQUINO_FIBRE), rtol=1e-11)
    strain = np.random.default_rng(0).uniform(-0.04, 0.04, (24, 3))
    return solver, solver.solve(strain, tangent=False)


def test_random_coefficients_keep_equilibrium_and_periodicity(solved):
    solver, solution = solved
    basis = PODBasis.from_solution(solver.mesh, solution, rank=8)
    b = np.random.default_rng(1).standard_normal(8)
    force, scale = solver.balance(np.tensordot(b, basis.stress, 1))
    assert np.linalg.norm(force) <= 1e-8 * scale
    w = np.tensordot(b, basis.displacement, 1)
    copies = w[np.unique(solver.mesh.glued, return_index=True)[1]][solver.mesh.glued]
    assert np.abs(w - copies).max() <= 1e-12 * np.abs(w).max()
    strain = np.tensordot(b, basis.strain, 1)
    assert np.allclose(solver.mesh.strain(w), strain, rtol=0, atol=1e-9 * np.abs(strain).max())


def test_modes_are_orthonormal_and_best(solved):
    solver, solution = solved
    basis = PODBasis.from_solution(solver.mesh, solution, rank=8)
    for modes in (basis.strain, basis.stress):
        gram = np.einsum("eq,reqi,seqi->rs", basis.weights, modes, modes)
        assert np.allclose(gram, np.eye(8), rtol=0, atol=1e-9)
    left = solution.local_stress - np.tensordot(
        basis.stress_coefficients(solution.local_stress), basis.stress, 1
    )
    error = np.einsum("eq,peqi->", basis.weights, left**2)
    assert error == pytest.approx((basis.stress_values[8:] ** 2).sum(), rel=1e-6)
    mean = basis.stress_coefficients(solution.local_stress) @ basis.mean_stress
    assert np.allclose(mean, solution.stress, rtol=0, atol=0.01 * np.abs(solution.stress).max())


def test_more_modes_than_snapshots_are_refused(solved):
    solver, solution = solved
    with pytest.raises(InvalidArgument, match="rank=25"):
        PODBasis.from_solution(solver.mesh, solution, rank=25)
