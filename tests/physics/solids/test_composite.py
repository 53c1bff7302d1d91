"""Fenchel's inequality at points and on cells."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sciml.errors import InvalidArgument
from sciml.physics.solids import (
    EQUINO_FIBRE,
    EQUINO_MATRIX,
    Composite,
    DiskCell,
    J2Plasticity,
    dual_energy,
)


@pytest.mark.parametrize("material", [EQUINO_MATRIX, EQUINO_FIBRE])
def test_dual_energy_is_the_supremum(material):
    generator = torch.Generator().manual_seed(0)
    strain = 0.08 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    stress = material.stress(strain) * torch.tensor([1.0, 0.97, 0.9], dtype=torch.float64)

    def negative(e, s):
        e = torch.from_numpy(e)
        return float(material.energy(e) - s @ e), (material.stress(e) - s).numpy()

    for s in stress:
        found = minimize(negative, np.zeros(3), (s,), jac=True, method="BFGS",
                         options={"gtol": 1e-9})  # fmt: skip
        expected = torch.tensor(-found.fun, dtype=torch.float64)
        torch.testing.assert_close(dual_energy(material, s), expected, rtol=1e-9, atol=1e-12)


def test_equality_holds_on_the_law_and_nowhere_else():
    generator = torch.Generator().manual_seed(1)
    phase = torch.tensor([0, 0, 0, 1, 1])
    composite = Composite((EQUINO_MATRIX, EQUINO_FIBRE), phase)
    strain = 0.03 * torch.randn(7, 5, 3, generator=generator, dtype=torch.float64)
    strain[0] = 0  # psi and psi* vanish, no NaN
    stress = composite.stress(strain)

    def gap(s):
        return composite.energy(strain) + composite.dual_energy(s) - (s * strain).sum(-1)

    assert gap(stress).abs().max() < 1e-11
    assert (gap(1.05 * stress)[1:] > 1e-9).all()


def test_stress_beyond_what_the_matrix_bears_has_no_strain():
    shear = torch.tensor([[0.0, 0.0, 50.0]], dtype=torch.float64)
    assert torch.isinf(dual_energy(EQUINO_MATRIX, shear)).all()
    assert torch.isfinite(dual_energy(EQUINO_FIBRE, shear)).all()


def test_residual_of_a_cell_bounds_the_error_of_its_homogenised_stress():
    """Exact compatible strain, stress in equilibrium of a neighbouring macro strain."""
    cell = DiskCell(2)
    solver = cell.solver()
    strains = np.array([[0.02, -0.01, 0.015], [0.021, -0.01, 0.013], [1e-7, 0, 0]])
    found = solver.solve(strains)
    weights = torch.from_numpy(solver.mesh.weights.ravel())
    phase = torch.from_numpy(solver.mesh.phase).repeat_interleave(9)
    composite = Composite(cell.materials, phase)
    e, s = (torch.from_numpy(v.reshape(3, -1, 3)) for v in (found.local_strain, found.local_stress))
    work = (s[1] * e[0]).sum(-1)
    eta = float((composite.energy(e[0]) + composite.dual_energy(s[1]) - work) @ weights)
    error = found.stress[1] - found.stress[0]
    squared = error @ np.linalg.solve(found.tangent[2], error)
    assert 0.5 * squared <= eta <= 3 * squared  # a bound, and not a useless one


def test_histories_and_unsorted_phases_are_refused():
    with pytest.raises(InvalidArgument, match="ascending"):
        Composite((EQUINO_MATRIX, EQUINO_FIBRE), torch.tensor([1, 0]))
    with pytest.raises(InvalidArgument, match="elastic"):
        Composite((J2Plasticity(1.0, 1.0, 1.0),), torch.tensor([0]))
