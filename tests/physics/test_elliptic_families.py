"""Families of elliptic problems: conventions by automatic differentiation, references, laws."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.curve_reference import curve_reference
from sciml.physics.elliptic.domain_families import REACH, ellipses, l_shapes, polygons, stars
from sciml.physics.elliptic.elliptic_families import (
    BoxPoisson,
    StarDiffusion,
    StarPoisson,
    Stars,
    StarScreened,
)
from sciml.physics.elliptic.star_reference import Gaussians
from sciml.physics.geometry import Ellipse, Star, l_shape
from sciml.physics.walks.spheres import WalkOnSpheres

FAMILIES = [StarPoisson(wide=0.5), StarScreened(), StarDiffusion(), BoxPoisson()]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def wave(x, i):
    return x[0].exp() * x[1].cos()


def corner(x, i):
    # r^(2/3) sin(2/3 phi), harmonic, zero along both edges of the notch
    phi = torch.remainder(torch.atan2(x[1], x[0]) - math.pi / 2, 2 * math.pi)
    return x.square().sum(0).pow(1 / 3) * torch.sin(2 / 3 * phi)


def at(field, points):
    return field(points.permute(2, 0, 1).flatten(1), None).view(points.shape[:2])


# --- references -----------------------------------------------------------------------------------
def test_reference_in_ellipses():
    domain = Ellipse([[1.2, 0.6], [0.5, 1.0]], [[0.1, 0.0], [0.0, 0.2]], [0.3, 1.0])
    points = domain.sample_interior(40, generator(), torch.float64)
    found = curve_reference(domain, wave, points, nodes=128)
    assert (found - at(wave, points)).abs().max() < 1e-12


@pytest.mark.parametrize("field", [wave, corner])
def test_reference_at_a_re_entrant_corner(field):
    points = l_shape().sample_interior(60, generator(), torch.float64)
    errors = [
        (curve_reference(l_shape(), field, points, nodes=n) - at(field, points)).abs().max()
        for n in (16, 64)
    ]
    assert errors[1] < 1e-7
    assert errors[0] > 100 * errors[1]  # it converges


def test_reference_with_a_source_agrees_with_the_same_curve_as_a_star():
    # an ellipse once more, its radius as a Fourier series
    a, b = 1.1, 0.8
    n = 256
    t = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    r = a * b / torch.hypot(b * t.cos(), a * t.sin())
    series = torch.fft.rfft(r).real / n
    orders = tuple(range(2, 40, 2))
    star = Star((2 * series[list(orders)])[None], orders, mean=float(series[0]))
    ellipse = Ellipse((a, b))
    points = ellipse.sample_interior(20, generator(1), torch.float64) * 0.98
    source = Gaussians([[1.0, -0.5]], [[[0.3, 0.1], [-1.0, 0.4]]])
    one = curve_reference(ellipse, corner_free, points, source)
    assert (one - curve_reference(star, corner_free, points, source)).abs().max() < 1e-10


def corner_free(x, i):
    return torch.sin(2 * x[0]) + x[1] ** 3


def test_reference_refuses_other_domains():
    ball = BoxPoisson().domains(1, generator())
    with pytest.raises(InvalidArgument, match="stars, ellipses or polygons"):
        curve_reference(ball, wave, torch.zeros(1, 1, 3))


# --- conventions ----------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_solutions_satisfy_the_equation_and_the_boundary_values(family):
    """div(alpha grad u) - sigma u = -f by automatic differentiation of the solution."""
    instances = family.draw(3, generator())
    domain, problem = instances.domain, instances.problem
    points = domain.sample_interior(6, generator(1), torch.float64) * 0.9
    if isinstance(family, StarPoisson):
        # no derivatives of boundary integrals: second differences of step h
        h = 1e-3
        shifts = h * torch.eye(2, dtype=torch.float64)
        u0 = instances.solution(points)
        around = [instances.solution(points + s) + instances.solution(points - s) for s in shifts]
        left, tolerance = (sum(around) - 4 * u0) / h**2, 1e-4
    else:
        z = points.clone().requires_grad_()
        u0 = instances.solution(z)
        (slope,) = torch.autograd.grad(u0.sum(), z, create_graph=True)
        x, i = domain.columns(z)
        if problem.diffusion is not None:
            slope = slope * problem.diffusion(x, i).view(*z.shape[:2], 1)
        left = sum(
            torch.autograd.grad(slope[..., k].sum(), z, retain_graph=True)[0][..., k]
            for k in range(family.dim)
        )
        tolerance = 1e-9
    x, i = domain.columns(points)
    if problem.screening is not None:
        left = left - torch.as_tensor(problem.screening)[:, None] * u0
    f = 0.0 if problem.source is None else problem.source(x, i).view(left.shape)
    scale = left.abs().max() + 1
    assert ((left + f).abs() / scale).max() < tolerance
    on = domain.sample_boundary(7, generator(2), torch.float64).points
    x, i = domain.columns(on)
    g = problem.boundary(x, i).view(3, 7)
    assert (instances.solution(on) - g).abs().max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_walks_find_the_solutions(family):
    instances = family.draw(3, generator(3))
    points = instances.domain.sample_interior(8, generator(4), torch.float64) * 0.9
    engine = WalkOnSpheres(walks=1000, eps=1e-3, outside="nan")
    found = engine(instances.domain, instances.problem, points, generator(5))
    error = (found.mean - instances.solution(points)).abs()
    assert (error <= 4.5 * found.standard_error + 5e-3).all(), error / found.standard_error


def test_reduced_coefficient_and_its_bound():
    """sigma' = Laplacian(log alpha) / 2 + |grad log alpha|^2 / 4, and |sigma'| <= bound."""
    instances = StarDiffusion(contrast=1.0).draw(4, generator())
    problem = instances.problem
    points = instances.domain.sample_interior(50, generator(1), torch.float64).requires_grad_()
    x, i = instances.domain.columns(points)
    (slope,) = torch.autograd.grad(problem.diffusion(x, i).log().sum(), points, create_graph=True)
    bend = sum(
        torch.autograd.grad(slope[..., k].sum(), points, retain_graph=True)[0][..., k]
        for k in range(2)
    )
    exact = (bend / 2 + slope.square().sum(2) / 4).detach()
    found = problem.reduced(x, i).view_as(exact)
    assert torch.allclose(found, exact, atol=1e-12, rtol=1e-12)
    assert (exact.abs() <= problem.bound[:, None] + 1e-12).all()


# --- laws -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "law",
    [ellipses, polygons, l_shapes, lambda n, g: stars(n, g, 0.2), lambda n, g: stars(n, g, 0.2, 1)],
)
def test_domains_stay_in_reach_and_hold_the_origin(law):
    domain = law(50, generator())
    on = domain.sample_boundary(200, generator(1), torch.float64).points
    assert torch.linalg.vector_norm(on, dim=2).max() <= REACH + 1e-9
    assert domain.inside(torch.zeros(50, 1, 2, dtype=torch.float64)).float().mean() > 0.5


def test_a_share_of_wide_stars():
    c = stars(400, generator(), 0.2, 0.5).sine.abs().sum(1)
    assert 0.4 < float((c > 0).double().mean()) < 0.6


def test_draws_repeat_and_differ():
    family = StarPoisson()
    one, same, other = (family.draw(2, generator(s)) for s in (0, 0, 1))
    assert torch.equal(one.domain.cosine, same.domain.cosine)
    assert torch.equal(one.problem.boundary.coefficients, same.problem.boundary.coefficients)
    assert not torch.equal(one.domain.cosine, other.domain.cosine)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stars.__subclasses__()[0](spread=0.3),
        lambda: StarPoisson(wide=2.0),
        lambda: StarScreened(screening=(0.0, 1.0)),
        lambda: StarDiffusion(contrast=-1.0),
        lambda: BoxPoisson(side=(1.0, 2.0)),
    ],
)
def test_refusals(make):
    with pytest.raises(InvalidArgument):
        make()
