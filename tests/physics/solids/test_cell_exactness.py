"""Cells and their modes against formulas written here, at any strain, fraction and output."""

import numpy as np
import pytest
from scipy.optimize import root

from sciml.physics.solids import (
    EQUINO_FIBRE,
    EQUINO_MATRIX,
    DiskCell,
    EllipticInclusion,
    LinearElastic,
    RVESolver,
    inclusion_cell,
    laminate_cell,
    square_cell,
)
from sciml.physics.solids.cell_snapshots import RTOL, snapshots

PHASES = (EQUINO_MATRIX, EQUINO_FIBRE)
SOFT = LinearElastic(bulk=4780.0, shear=50 / 0.06 / 2)  # the matrix at zero strain
FRACTIONS = (0.1, 0.3, 0.77)


def strains(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.04, 0.04, (count, 3))


@pytest.mark.parametrize("law", PHASES, ids=lambda law: type(law).__name__)
def test_a_cell_of_one_phase_is_that_phase_at_any_strain(law):
    e = strains(20)
    found, exact = RVESolver(square_cell(3), (law,)).solve(e), law.response(e)
    size = np.abs(exact.stress).max(1, keepdims=True)
    assert np.abs(found.displacement).max() < 1e-15
    assert (np.abs(found.stress - exact.stress) <= 1e-14 * size).all()
    assert np.allclose(found.tangent, exact.tangent, rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_tangent_of_layers_is_the_closed_form(fraction):
    """Backus averages of layers normal to x."""
    share = np.array([1 - fraction, fraction])
    bulk, shear = np.array([[law.bulk, law.shear] for law in (SOFT, EQUINO_FIBRE)]).T
    stiff, lame = bulk + 4 / 3 * shear, bulk - 2 / 3 * shear
    c11 = 1 / (share @ (1 / stiff))
    mixed = share @ (lame / stiff)
    c22 = share @ (stiff - lame**2 / stiff) + mixed**2 * c11
    wanted = [[c11, mixed * c11, 0], [mixed * c11, c22, 0], [0, 0, 1 / (share @ (1 / shear))]]
    solver = RVESolver(laminate_cell(fraction), (SOFT, EQUINO_FIBRE))
    tangent = solver.solve(strains(1)).tangent[0]
    assert np.allclose(tangent, wanted, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_layers_obey_two_equations(fraction):
    """Strains differ by (a, 0, b) over an interface, where sxx and sxy are the same."""

    def phases(jump, e):
        jump = np.array([jump[0], 0.0, jump[1]])
        return EQUINO_MATRIX.stress(e + fraction * jump), EQUINO_FIBRE.stress(
            e - (1 - fraction) * jump
        )

    e = strains(5, seed=1)
    found = RVESolver(laminate_cell(fraction), PHASES, rtol=1e-11).solve(e).stress
    for strain, stress in zip(e, found, strict=True):
        solved = root(lambda j, e=strain: np.subtract(*phases(j, e))[[0, 2]], [0, 0], tol=1e-14)
        matrix, fibre = phases(solved.x, strain)
        assert np.abs(matrix - fibre)[[0, 2]].max() <= 1e-9 * np.abs(matrix).max()
        wanted = (1 - fraction) * matrix + fraction * fibre
        assert np.abs(stress - wanted).max() <= 1e-10 * np.abs(wanted).max()


def test_a_shifted_inclusion_changes_a_ten_thousandth():
    centres = ((0.0, 0.0), (0.5, 0.31), (0.13, -0.27))
    e = np.array([[0.03, -0.02, 0.03], [0.0, 0.0, 0.02]])
    first, *others = (
        RVESolver(inclusion_cell([EllipticInclusion(*c, 0.3)], size=0.05), PHASES)
        .solve(e, tangent=False)
        .stress
        for c in centres
    )
    size = np.abs(first).max(1, keepdims=True)
    for other in others:
        assert (np.abs(other - first) <= 2e-4 * size).all()
    # meshes differ: the same numbers would say that nothing has moved
    assert all(np.abs(other - first).max() > 1e-9 for other in others)


def test_any_outputs_are_in_equilibrium_and_periodic():
    """24 modes one by one and mixed; forces and periods summed up element by element here."""
    cell = DiskCell(4)
    solver = cell.solver(rtol=RTOL)
    known = snapshots(cell, solver, {"train": 40}, 0.04, isochoric=True)["train"]
    basis, mesh = known.basis(solver, 24), solver.mesh
    dofs = 2 * mesh.glued[mesh.elements][..., None] + np.arange(2)
    rows = dofs.reshape(len(dofs), -1).ravel()

    def assembled(operator, stress):
        local = np.einsum("eqid,eq,eqi->ed", operator, mesh.weights, stress)
        return np.linalg.norm(np.bincount(rows, local.ravel()))

    outputs = np.vstack([np.eye(24), np.random.default_rng(2).standard_normal((20, 24))])
    for b in outputs:
        stress = np.tensordot(b, basis.stress, 1)
        out = assembled(mesh.strain_operator, stress)
        assert out <= 1e-8 * assembled(np.abs(mesh.strain_operator), np.abs(stress))
        w = np.tensordot(b, basis.displacement, 1)
        for axis in range(2):
            pair = [np.flatnonzero(mesh.nodes[:, axis] == side) for side in (-0.5, 0.5)]
            low, high = (edge[np.argsort(mesh.nodes[edge, 1 - axis])] for edge in pair)
            assert len(low) == len(high) == 9
            assert np.abs(w[low] - w[high]).max() <= 1e-12 * np.abs(w).max()
