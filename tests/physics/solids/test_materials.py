"""Laws: energy, stress and tangent agree, in torch and NumPy, at zero and beyond yield."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.solids import (
    EQUINO_FIBRE,
    EQUINO_MATRIX,
    J2Plasticity,
    LinearElastic,
    SofteningElastic,
)

STEEL = J2Plasticity(bulk=160_000.0, shear=80_000.0, yield_stress=250.0, hardening=2000.0)
LAWS = [EQUINO_MATRIX, EQUINO_FIBRE, STEEL]


def strains(count=50, scale=0.04):
    generator = torch.Generator().manual_seed(0)
    return scale * (2 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1)


def close(a, b, rtol=1e-10, atol=1e-9):
    return torch.allclose(a, b, rtol=rtol, atol=atol)


def used(law):
    """State after a first step, so that plasticity has a history."""
    return law.response(strains().flip(0) / 2).state


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_stress_and_tangent_are_derivatives_of_the_energy(law):
    e, state = strains().requires_grad_(), used(law)
    energy = law.energy(e, state)
    (slope,) = torch.autograd.grad(energy.sum(), e, create_graph=True)
    answer = law.response(e, state)
    assert close(answer.stress, slope)
    assert torch.equal(answer.stress, law.stress(e, state))
    rows = [torch.autograd.grad(slope[:, i].sum(), e, retain_graph=True)[0] for i in range(3)]
    assert close(answer.tangent, torch.stack(rows, 1), atol=1e-6)
    assert close(answer.tangent, answer.tangent.mT, atol=1e-9)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_zero_strain_has_finite_derivatives(law):
    e = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    energy = law.energy(e)
    (slope,) = torch.autograd.grad(energy, e, create_graph=True)
    second = torch.stack([torch.autograd.grad(s, e, retain_graph=True)[0] for s in slope])
    assert energy == 0 and torch.equal(slope, torch.zeros_like(slope))
    assert close(law.response(e).tangent, second, rtol=1e-9)
    assert law.response(e).tangent.isfinite().all()


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-4])
def test_small_strains_keep_their_digits(scale):
    # against the first terms of the energy: K tr^2 / 2 + a1 (n^2 / (2 a2) - n^3 / (3 a2^2))
    e = strains(scale=scale)
    xx, yy, shear = e.unbind(-1)
    mean = (xx + yy) / 3
    n = ((xx - mean) ** 2 + (yy - mean) ** 2 + mean**2 + shear**2 / 2).sqrt()
    series = 4780 * (3 * mean) ** 2 / 2 + 50 * (n**2 / 0.12 - n**3 / (3 * 0.06**2))
    assert close(EQUINO_MATRIX.energy(e), series, rtol=20 * (scale / 0.06) ** 2 + 1e-12, atol=0)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_arrays_get_the_numbers_of_tensors(law):
    e, state = strains(), used(law)
    answer, array = law.response(e, state), law.response(e.numpy(), state.numpy())
    for a, b in zip(answer, array, strict=True):
        assert isinstance(b, np.ndarray) and np.array_equal(a.numpy(), b)
    frozen = e.numpy()[::-1]
    frozen.flags.writeable = False
    assert np.array_equal(law.stress(frozen, state.numpy()[::-1]), answer.stress.numpy()[::-1])


def test_deviator_is_three_dimensional():
    # uniaxial strain by hand: d = (2/3, -1/3, -1/3) e, n = sqrt(2/3) e
    e, n = 0.03, math.sqrt(2 / 3) * 0.03
    g = 50 / (0.06 + n)
    expected = [4780 * e + g * 2 / 3 * e, 4780 * e - g * e / 3, 0.0]
    assert np.allclose(EQUINO_MATRIX.stress(np.array([e, 0.0, 0.0])), expected, rtol=1e-13, atol=0)


def test_hooke_in_terms_of_young_and_poisson():
    law = LinearElastic.from_young(73_000.0, 0.22)
    assert law.bulk == pytest.approx(43452.381, rel=1e-8)
    tangent = law.response(np.zeros(3)).tangent
    lame = law.bulk - 2 / 3 * law.shear
    stiff = lame + 2 * law.shear
    expected = [[stiff, lame, 0], [lame, stiff, 0], [0, 0, law.shear]]
    assert np.allclose(tangent, expected, rtol=1e-12, atol=1e-9)


def test_pure_shear_follows_the_closed_path():
    # radial path: tau = G gxy up to tau_y = y / sqrt 3, then slope G H / (H + 3 G); and back
    g, h, limit = STEEL.shear, STEEL.hardening, STEEL.yield_stress / math.sqrt(3)
    top, state = 0.02, None
    for gamma in np.linspace(0, top, 8)[1:]:
        stress, _, state = STEEL.response(np.array([0.0, 0.0, gamma]), state)
        expected = min(g * gamma, limit + (gamma - limit / g) * g * h / (h + 3 * g))
        assert np.allclose(stress, [0, 0, expected], rtol=1e-12, atol=1e-10)
    loaded = stress[2]
    assert state[3] == pytest.approx((loaded * math.sqrt(3) - STEEL.yield_stress) / h, rel=1e-10)
    back = STEEL.stress(np.array([0.0, 0.0, top - loaded / g]), state)
    assert np.allclose(back, 0, rtol=0, atol=1e-9)  # elastic unloading to zero stress


def test_uniaxial_strain_follows_the_closed_path():
    # s11 = (K + 4/3 G) e while 2 G e < y, then slope K + 4/3 G H / (H + 3 G)
    k, g, h, y = STEEL.bulk, STEEL.shear, STEEL.hardening, STEEL.yield_stress
    first, state = y / (2 * g), None
    for e in np.linspace(0, 0.01, 6)[1:]:
        stress, _, state = STEEL.response(np.array([e, 0.0, 0.0]), state)
        plastic = max(e - first, 0)
        axial = (k + 4 / 3 * g) * (e - plastic) + (k + 4 / 3 * g * h / (h + 3 * g)) * plastic
        assert stress[0] == pytest.approx(axial, rel=1e-12)


def test_plastic_tangent_is_the_difference_of_stresses():
    e, state, step = strains().numpy(), used(STEEL).numpy(), 1e-7
    shifts = step * np.eye(3)
    differences = [
        (STEEL.stress(e + d, state) - STEEL.stress(e - d, state)) / (2 * step) for d in shifts
    ]
    tangent = STEEL.response(e, state).tangent
    assert np.allclose(tangent, np.stack(differences, -1), rtol=1e-6, atol=1e-2)


def test_perfect_plasticity_stays_on_the_yield_surface():
    law = J2Plasticity(bulk=160_000.0, shear=80_000.0, yield_stress=250.0)
    e = strains()
    stress, _, state = law.response(e)
    trace = e[:, 0] + e[:, 1]
    zz = law.bulk * trace - 2 * law.shear * (trace / 3 - state[:, 0] - state[:, 1])
    xx, yy, xy = stress.unbind(-1)
    mises = (((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) / 2 + 3 * xy**2).sqrt()
    assert close(mises, torch.full_like(mises, 250.0), rtol=1e-9)


@pytest.mark.parametrize(
    "build",
    [
        lambda: SofteningElastic(bulk=1.0, a1=0.0, a2=1.0),
        lambda: LinearElastic(bulk=float("nan"), shear=1.0),
        lambda: LinearElastic.from_young(1.0, 0.5),
        lambda: J2Plasticity(bulk=1.0, shear=1.0, yield_stress=1.0, hardening=-1.0),
        lambda: EQUINO_MATRIX.stress(np.zeros((4, 2))),
        lambda: STEEL.response(np.zeros((4, 3)), np.zeros((4, 3))),
    ],
)
def test_wrong_numbers_are_refused(build):
    with pytest.raises(InvalidArgument):
        build()


def test_lists_are_refused():
    with pytest.raises(InvalidType, match="np.asarray"):
        EQUINO_MATRIX.stress([0.0, 0.0, 0.0])
