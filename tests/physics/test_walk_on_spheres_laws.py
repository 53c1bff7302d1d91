"""Laws of the ball: radius, direction, survival, and the reference solution's own accuracy."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.special import iv, kv
from scipy.stats import kstest

from sciml.physics.elliptic.star_reference import Gaussians, star_reference
from sciml.physics.geometry import Ellipse, Star, star_family
from sciml.physics.walks import green


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


CDF = {
    2: lambda s: s**2 * (1 - 2 * torch.log(s)),
    3: lambda s: 3 * s**2 - 2 * s**3,
    5: lambda s: (5 * s**2 - 2 * s**5) / 3,
}
MOMENTS = {2: (4 / 9, 1 / 4), 3: (1 / 2, 3 / 10)}


@pytest.mark.parametrize("dim", CDF)
def test_harmonic_radius(dim):
    n = 50_000
    s = green.harmonic_radius(n, dim, generator(), torch.float64)
    assert kstest(CDF[dim](s).numpy(), "uniform").pvalue > 1e-3
    for power, expected in enumerate(MOMENTS.get(dim, ()), 1):
        sample = s**power
        assert abs(sample.mean() - expected) < 4 * sample.std() / math.sqrt(n)


def screened_density(dim, kappa):
    """Return r^(d-1) G_sigma(r) up to a factor, from Bessel functions."""
    nu = dim / 2 - 1
    return lambda s: s ** (dim - 1) * s**-nu * (
        kv(nu, kappa * s) - iv(nu, kappa * s) * kv(nu, kappa) / iv(nu, kappa)
    )  # fmt: skip


@pytest.mark.parametrize("dim", [2, 3, 4, 5])
@pytest.mark.parametrize("kappa", [0.3, 1.0, 2.0])
def test_screened_radius(dim, kappa):
    n = 20_000
    t = torch.full((n,), kappa**2 / 4, dtype=torch.float64)
    s = green.screened_radius(t, dim, generator()).numpy()
    density = screened_density(dim, kappa)
    whole = quad(density, 0, 1)[0]
    nodes = torch.linspace(0, 1, 101).tolist()
    parts = [quad(density, a, b)[0] / whole for a, b in zip(nodes, nodes[1:], strict=False)]
    cdf = torch.cumsum(torch.tensor([0.0, *parts], dtype=torch.float64), 0).numpy()
    import numpy as np

    assert kstest(np.interp(s, nodes, cdf), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dim", [2, 3, 4, 7])
def test_survival(dim):
    kappa = torch.tensor([0.0, 1e-4, 0.5, 2.0], dtype=torch.float64)
    kept, integral = green.survival(kappa**2 / 4, dim)
    assert kept[0] == 1 and float(integral[0]) == pytest.approx(1 / (2 * dim))
    nu = dim / 2 - 1
    for k, p, m in zip(kappa[2:].tolist(), kept[2:].tolist(), integral[2:].tolist(), strict=True):
        # P = (k/2)^nu / (Gamma(nu + 1) I_nu(k))
        assert p == pytest.approx((k / 2) ** nu / math.gamma(nu + 1) / iv(nu, k), rel=1e-12)
        assert m == pytest.approx((1 - p) / k**2, rel=1e-12)
    assert float(integral[1]) == pytest.approx(1 / (2 * dim), rel=1e-7)


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_mean_value_property(dim):
    n = 40_000
    z = green.directions(n, dim, generator(), torch.float64)
    assert torch.allclose(
        z.square().sum(0), torch.ones(n, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    c = torch.complex(z[0], z[1])
    harmonic = [(c**k).real for k in range(1, 5)] + [z[0] * z[-1], z[0] ** 2 - z[-1] ** 2]
    if dim == 2:
        harmonic = harmonic[:4] + [(c**k).imag for k in range(1, 5)]
    for value in harmonic:
        assert abs(value.mean()) < 4 * value.std() / math.sqrt(n)
    # second moments are 1 / d
    assert torch.allclose(
        z.square().mean(1), torch.full((dim,), 1 / dim).double(), atol=0.01, rtol=0
    )


def test_reference_converges_and_meets_the_boundary():
    star = star_family(4, generator())
    source = Gaussians(*(torch.randn(4, 2, *s, generator=generator()) for s in ((), (2,))))
    points = star.sample_interior(200, generator(), torch.float64)

    def g(x, i):
        return torch.exp(x[0]) * torch.cos(x[1]) + x[0] ** 2 * (i + 1)

    coarse, fine = (star_reference(star, g, points, source, n) for n in (256, 512))
    assert (coarse - fine).abs().max() < 1e-11
    on = star.sample_boundary(50, generator(), torch.float64).points
    data = g(*star.columns(on)).view(4, 50)
    assert (star_reference(star, g, on, source) - data).abs().max() < 1e-10


def test_reference_solves_the_equation():
    star = Star([[0.1, -0.1]], sine=[[0.05, 0.0]], center=(0.2, 0.1))
    source = Gaussians([1.0, -2.0], [[0.1, 0.2], [-0.3, 0.0]])
    points = 0.3 * torch.randn(1, 30, 2, generator=generator(), dtype=torch.float64).clamp(-1, 1)
    h = 3e-3

    def u(shift):
        shift = torch.tensor(shift, dtype=torch.float64)
        return star_reference(star, lambda x, i: x[0] ** 3, points + shift, source)

    laplacian = (u([h, 0]) + u([-h, 0]) + u([0, h]) + u([0, -h]) - 4 * u([0, 0])) / h**2
    f = source(*star.columns(points)).view(1, -1)
    assert torch.allclose(laplacian, -f, atol=3e-4, rtol=0)
    # the particular solution where two forms of it meet
    x = torch.tensor([[0.1 + 0.99e-4, 0.1 + 1.01e-4], [0.2, 0.2]], dtype=torch.float64)
    one = Gaussians([1.0], [[0.1, 0.2]]).potential(x, torch.zeros(2, dtype=torch.int64))
    assert abs(float(one[1] - one[0])) < 1e-9


def test_ellipse_bound_is_exact_for_circles():
    circle = Ellipse((0.7, 0.7))
    x = torch.randn(2, 50, generator=generator(), dtype=torch.float64)
    level = circle.level(x, torch.zeros(50, dtype=torch.int64))
    assert torch.allclose(level, x.norm(dim=0) - 0.7, rtol=1e-12, atol=1e-11)
