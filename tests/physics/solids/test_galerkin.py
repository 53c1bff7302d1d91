"""POD-Galerkin and empirical cubature against the full cell."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.solids import (
    DiskCell,
    GalerkinSolver,
    PODBasis,
    empirical_cubature,
    random_points,
)


@pytest.fixture(scope="module")
def solved():
    cell = DiskCell(2)
    solver = cell.solver()
    draw = np.random.default_rng(0)
    snapshots = solver.solve(draw.uniform(-0.03, 0.03, (24, 3)), tangent=False)
    basis = PODBasis.from_solution(solver.mesh, snapshots, 12)
    reference = solver.solve(draw.uniform(-0.03, 0.03, (5, 3)))
    strain = torch.from_numpy(np.einsum("eq,peqi->pi", solver.mesh.weights, reference.local_strain))
    return cell, solver, snapshots, basis, reference, strain


def test_all_points_approach_the_full_solution(solved):
    cell, solver, _, basis, reference, strain = solved
    found = GalerkinSolver(solver.mesh, cell.materials, basis).solve(strain)
    assert (found.status == 0).all()
    wanted = torch.from_numpy(reference.stress)
    assert ((found.stress - wanted).norm(dim=1) / wanted.norm(dim=1)).max() < 2e-3
    # energy in a subspace lies above the least energy
    composite = GalerkinSolver(solver.mesh, cell.materials, basis)
    weights = torch.from_numpy(solver.mesh.weights.ravel())
    local = torch.from_numpy(reference.local_strain.reshape(len(strain), -1, 3))
    best = composite.composite.energy(local) @ weights
    reduced = composite.composite.energy(composite.strain(strain, found.coefficients)) @ weights
    assert (reduced >= best * (1 - 1e-12)).all()


def test_tangent_is_the_derivative(solved):
    cell, solver, _, basis, _, strain = solved
    reduced = GalerkinSolver(solver.mesh, cell.materials, basis, rtol=1e-13)
    found = reduced.solve(strain)
    for j in range(3):
        step = 1e-6 * torch.eye(3, dtype=torch.float64)[j]
        slope = (reduced.solve(strain + step).stress - reduced.solve(strain - step).stress) / 2e-6
        torch.testing.assert_close(found.tangent[:, :, j], slope, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(found.tangent, found.tangent.mT, rtol=1e-10, atol=1e-6)


def test_zero_strain_has_no_stress(solved):
    cell, solver, _, basis, _, _ = solved
    found = GalerkinSolver(solver.mesh, cell.materials, basis).solve(
        torch.zeros(1, 3, dtype=torch.float64)
    )
    assert (found.status == 0).all()
    assert (found.stress == 0).all()
    assert found.tangent.isfinite().all()


def test_cubature_has_positive_weights_and_few_points(solved):
    cell, solver, snapshots, basis, _, strain = solved
    points = empirical_cubature(solver.mesh, basis, snapshots.local_stress)
    assert (points.weights > 0).all()
    assert len(points.index) < solver.mesh.weights.size
    np.testing.assert_allclose(points.weights.sum(), 1.0, rtol=1e-6)
    flat = snapshots.local_stress.reshape(len(snapshots.stress), -1, 3)[:, points.index]
    mean = np.einsum("q,pqi->pi", points.weights, flat)
    np.testing.assert_allclose(mean, snapshots.stress, rtol=1e-3, atol=1e-2)
    whole = GalerkinSolver(solver.mesh, cell.materials, basis).solve(strain).stress
    few = GalerkinSolver(solver.mesh, cell.materials, basis, points).solve(strain).stress
    torch.testing.assert_close(few, whole, rtol=5e-3, atol=5e-2)


def test_random_points_are_drawn_by_weight_and_bounded(solved):
    mesh = solved[1].mesh
    index, weights = random_points(mesh, 40, seed=3)
    assert len(set(index.tolist())) == 40
    np.testing.assert_allclose(weights, 1 / 40, rtol=1e-15)
    with pytest.raises(InvalidArgument, match=f"1 to {mesh.weights.size}"):
        random_points(mesh, mesh.weights.size + 1)
