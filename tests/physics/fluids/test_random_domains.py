"""Random domains: reproducible, sound, and of the kinds that were asked for."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.fluids import RandomDomains
from sciml.solvers.linear import FlexibleCG

EVERY = ("constant", "log_normal", "two_phase", "anisotropic")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(16, 16), (10, 14), (8, 10, 6)])
def test_draws_are_sound_and_reproducible(shape):
    family = RandomDomains(sealed=0.3, pockets=0.3, coefficients=EVERY)
    one, two = (family.draw(12, shape, seeded(1)).stencil.check() for _ in range(2))
    other = family.draw(12, shape, seeded(2)).stencil
    assert all(torch.equal(a, b) for a, b in zip(one.faces, two.faces, strict=True))
    assert not torch.equal(one.unknown, other.unknown)
    assert one.unknown.flatten(1).double().mean(1).min() > 0.2
    b = torch.randn(12, *shape, dtype=torch.float64, generator=seeded(3))
    found = one.solve(b, linear=FlexibleCG(rtol=1e-6, max_iter=5000), on_failure="raise")
    assert found.value.isfinite().all()


def test_shares_decide_which_systems_are_singular():
    closed = RandomDomains(sealed=1.0).draw(8, (12, 12), seeded(0)).stencil
    pocket = RandomDomains(bodies=0, pockets=1.0, surface=0.0).draw(8, (24, 24), seeded(0)).stencil
    opened = RandomDomains(bodies=0, sealed=0.0).draw(8, (12, 12), seeded(0)).stencil
    assert bool(closed.singular.all()) and bool(pocket.singular.all())
    assert not bool(opened.singular.any())
    # one room for each, and the fluid around it reaches the open top
    assert len(pocket._components[1]) - 1 == 8


def test_kinds_of_coefficients_have_the_contrast_asked_for():
    plain = RandomDomains(bodies=0, surface=0.0)
    two = RandomDomains(bodies=0, surface=0.0, coefficients=("two_phase",), contrast=1000.0)
    w = two.draw(4, (32, 32), seeded(1)).stencil.faces[0]
    values = w[w > 0].unique()
    assert torch.allclose(
        values, torch.tensor([1e-3, 1 / 500.5, 1.0], dtype=torch.float64), rtol=1e-12, atol=0
    )
    stretched = RandomDomains(bodies=0, surface=0.0, coefficients=("anisotropic",), anisotropy=50.0)
    faces = stretched.draw(64, (8, 8), seeded(1)).stencil.faces
    ratio = (faces[0].amax((1, 2)) / faces[1].amax((1, 2))).log().abs().exp()
    assert 30 < float(ratio.max()) <= 50
    smooth = RandomDomains(bodies=0, surface=0.0, coefficients=("log_normal",))
    logs = smooth.draw(32, (32, 32), seeded(1)).stencil.faces[0].log()
    assert 1.2 < float(logs.std()) < 1.8
    faces = plain.draw(4, (8, 8), seeded(1)).stencil.faces
    assert all(torch.equal(w, torch.ones_like(w)) for w in faces)


def test_a_family_means_the_same_on_every_resolution():
    family = RandomDomains(open_sides=0.0)
    shares = [
        family.draw(8, (n, n), seeded(5)).stencil.unknown.flatten(1).double().mean(1)
        for n in (32, 64)
    ]
    assert torch.allclose(*shares, rtol=0, atol=0.05)  # thin rims


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InvalidArgument, match="cut=2"):
        RandomDomains(cut=2)
    with pytest.raises(InvalidArgument, match="Did you mean 'two_phase'"):
        RandomDomains(coefficients=("two_phases",))
    with pytest.raises(InvalidArgument, match="contrast=0.5"):
        RandomDomains(contrast=0.5)
    with pytest.raises(InvalidArgument, match="two or three axes"):
        RandomDomains().draw(1, (8,), seeded(0))
