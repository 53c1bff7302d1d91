"""Walk on stars in boxes of any dimension: closed forms, walk on spheres, the polygon's code."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Box, MixedBox, MixedPolygon, Polygon, l_shape
from sciml.physics.walks.green import directions, exit_weight, greens_function, survival
from sciml.physics.walks.loop import Walks
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.stars import Mixed, StarRule, WalkOnStars


def stream(step=0):
    return Streams(0, step).generator("walks")


def box(dim, walls=1):
    """A box whose last coordinates are narrower; its first `walls` faces of 2 d reflect."""
    low = -1.0 + 0.2 * torch.arange(dim, dtype=torch.float64)
    reflect = [face < walls for face in range(2 * dim)]
    return MixedBox(Box(low, torch.ones(dim, dtype=torch.float64)), reflect)


def bowl(x, i):
    return x.square().sum(0) + x[0] * x[-1] + x[1]


def bowl_flux(x, i, n):
    slope = 2 * x
    slope[0] += x[-1]
    slope[-1] += x[0]
    slope[1] += 1
    return (slope * n).sum(0)


def bowl_problem(dim, sigma=None):
    def source(x, i):
        return (sigma or 0.0) * bowl(x, i) - 2.0 * dim

    return Mixed(bowl, bowl_flux, source, sigma)


def values(field, points):
    i = torch.arange(len(points)).repeat_interleave(points.shape[1])
    return field(points.double().permute(2, 0, 1).flatten(1), i).view(points.shape[:2])


@pytest.mark.parametrize(("dim", "walls"), [(2, 1), (2, 3), (3, 1), (3, 5), (4, 3)])
def test_mixed_problems_with_flux_and_source(dim, walls):
    domain = box(dim, walls)
    points = domain.sample_interior(6, stream(1), torch.float64)
    points[0, 0] = domain.box.low[0]  # a corner of reflecting faces, or a point of one
    points[0, 0, 1:] = 0.3
    estimate = WalkOnStars(2000, max_steps=3000)(domain, bowl_problem(dim), points, stream())
    error = (estimate.mean - values(bowl, points)).abs()
    assert (error < 4 * estimate.standard_error + 4e-3).all(), error / estimate.standard_error
    assert (estimate.truncated == 0).all()


@pytest.mark.parametrize("sigma", [None, 3.0])
@pytest.mark.parametrize(("dim", "walls"), [(2, 3), (3, 5), (5, 4)])
def test_no_step_changes_the_mean(dim, walls, sigma):
    if sigma and dim > 3:
        pytest.skip("screening in two and three dimensions only")
    domain, n = box(dim, walls), 20_000
    rule = StarRule(domain, 1e-3 * domain.scale(), bowl_problem(dim, sigma))
    if sigma:
        rule = replace(rule, rate=torch.tensor([sigma], dtype=torch.float64))
    x, i = domain.columns(domain.sample_interior(n, stream(), torch.float64))
    walks, generator = Walks.start(x, i, 1), stream(1)
    rule.begin(walks)
    found = {False: [], True: []}
    for _ in range(8):
        r, moving = rule.reach(walks)
        keep = moving.nonzero()[:, 0]
        walks, r = walks.take(keep), r[keep]
        walks.total.zero_()
        walks.weight = torch.ones_like(r) if sigma else None
        before, wall = bowl(walks.x, walks.i), (walks.normal != 0).any(0)
        rule.step(walks, r, directions(len(keep), dim, generator, torch.float64), generator, None)
        weight = walks.weight if sigma else 1
        change = walks.total + weight * bowl(walks.x, walks.i) - before
        for kind in found:
            found[kind].append(change[wall == kind])
    for parts in found.values():
        change = torch.cat(parts)
        z = change.mean() / change.std() * math.sqrt(len(change))
        assert len(change) > 1000 and z.abs() < 4


@pytest.mark.parametrize("sigma", [0.5, 4.0, 16.0])
def test_screened_problems(sigma):
    """u = exp(a . x) with |a|^2 = sigma in a plane L with walls in the notch, and in a box.

    Under strong screening few walks decide such means, and standard errors cannot be trusted.
    """
    flat = MixedPolygon(l_shape(), lambda x, i: (x > -0.01).all(0) & (x.abs() < 0.01).any(0))
    for domain in (flat, box(3, 3)):
        a = torch.full((domain.dim,), math.sqrt(sigma / domain.dim), dtype=torch.float64)

        def u(x, i, a=a):
            return torch.exp((x * a[:, None].to(x)).sum(0) - a.sum())

        def flux(x, i, n, a=a, u=u):
            return (n * a[:, None].to(x)).sum(0) * u(x, i)

        points = domain.sample_interior(6, stream(3), torch.float64)
        found = WalkOnStars(2000, eps=2e-4)(domain, Mixed(u, flux, None, sigma), points, stream())
        error = (found.mean - values(u, points)).abs()
        bias = 1e-3 * math.sqrt(sigma)
        assert (error < 4 * found.standard_error + bias * values(u, points)).all()
        # the same with a source: u = 1 solves -sigma u = -f for f = sigma, without flux
        problem = Mixed(
            lambda x, i: torch.ones_like(x[0]),
            None,
            lambda x, i: torch.full_like(x[0], sigma),
            sigma,
        )
        found = WalkOnStars(500, eps=2e-4)(domain, problem, points, stream())
        assert ((found.mean - 1).abs() < 4 * found.standard_error + 1e-6).all()


def test_weights_of_leaving_a_ball():
    """Against derivatives of G by finite differences, and the survival at the sphere."""
    s = torch.tensor([0.01, 0.2, 0.5, 0.9], dtype=torch.float64)
    for dim, q in ((2, 1.7), (3, 1.7), (3, 0.01), (2, 0.01)):
        r, rate = torch.ones_like(s), torch.full_like(s, q)
        h = 1e-6
        up, down = (greens_function(s + d, r, dim, rate) for d in (h, -h))
        sphere = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)
        expected = -(up - down) / (2 * h) * sphere * s ** (dim - 1)
        found = exit_weight(s, r, dim, rate)
        assert torch.allclose(found, expected, rtol=1e-6)
        at_end = exit_weight(r, r, dim, rate)
        assert torch.allclose(at_end, survival(rate**2 / 4, dim)[0], rtol=1e-9)
        assert float(exit_weight(0 * s, r, dim, rate)[0]) == pytest.approx(1, abs=1e-6)
    weak = torch.full_like(s, 1e-3)
    for dim in (2, 3):
        assert torch.allclose(
            greens_function(s, r, dim, weak), greens_function(s, r, dim), rtol=1e-4
        )


def test_the_square_as_a_polygon():
    """Two pieces of code for one domain."""
    corners = Polygon([[-1.0, -0.8], [1.0, -0.8], [1.0, 1.0], [-1.0, 1.0]])
    one, other = box(2, 3), MixedPolygon(corners, lambda x, i: x[1] < 0.99)
    points = one.sample_interior(5, stream(2), torch.float64)
    a = WalkOnStars(4000)(one, bowl_problem(2), points, stream())
    b = WalkOnStars(4000)(other, bowl_problem(2), points, stream(1))
    assert ((a.mean - b.mean).abs() < 4 * (a.variance + b.variance).sqrt()).all()
    assert torch.allclose(a.steps, b.steps, rtol=0.06)


def test_without_flux_faces_are_planes_of_symmetry():
    domain = MixedBox(Box((0.0, -1.0, -1.0), (1.0, 1.0, 1.0)), lambda x, i: x[0] < 0.01)
    double = Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    points = torch.tensor([[[0.0, 0.3, 0.2], [0.6, -0.5, 0.7]]], dtype=torch.float64)

    def even(x, i):
        return torch.cos(2 * x[0]) + x[1] * x[2]

    a = WalkOnStars(10_000)(domain, Mixed(even, None, even), points, stream())
    b = WalkOnSpheres(10_000)(double, Dirichlet(even, even), points, stream(1))
    assert ((a.mean - b.mean).abs() < 4 * (a.variance + b.variance).sqrt() + 2e-3).all()


def test_batches_stay_apart():
    both = MixedBox(
        Box([[-1.0] * 3, [0.0] * 3], [[1.0] * 3, [2.0, 3.0, 2.0]]),
        [[True] + [False] * 5, [False, True, True, False, False, False]],
    )
    points = both.sample_interior(10, stream(), torch.float64)
    own = WalkOnStars(20)(both, Mixed(lambda x, i: i.to(x)), points, stream())
    assert torch.equal(own.mean, torch.tensor([[0.0] * 10, [1.0] * 10]).double())
    estimate = WalkOnStars(2000)(both, bowl_problem(3), points, stream())
    error = (estimate.mean - values(bowl, points)).abs()
    assert (error < 4.5 * estimate.standard_error + 5e-3).all()


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_points_of_walls_integrate(dim):
    """The mean of weight times a function against quadrature over the disk on one face."""
    domain, n = MixedBox(Box([-3.0] * dim, [3.0] * dim), [True] + [False] * (2 * dim - 1)), 100_000
    start, r = torch.zeros(dim, dtype=torch.float64), 1.0
    start[0] = -2.6
    x = start[:, None].expand(dim, n)
    i = torch.zeros(n, dtype=torch.int64)
    z, side, weight = domain.sample_near(x, i, torch.full((n,), r, dtype=torch.float64), stream())
    assert (side == 0).all() and (z[0] == -3).all()
    s = (z - x).norm(dim=0)
    assert s.max() <= r + 1e-12
    green = greens_function(s, torch.full_like(s, r), dim)
    sample = green * weight
    area = {2: 2.0, 3: 2 * math.pi, 4: 4 * math.pi}[dim]
    omega = {3: 4 * math.pi, 4: 2 * math.pi**2}.get(dim)

    def kernel(s):
        if dim == 2:
            return math.log(r / s) / (2 * math.pi)
        return (s ** (2 - dim) - r ** (2 - dim)) / ((dim - 2) * omega)

    exact = quad(
        lambda q: area * q ** (dim - 2) * kernel(math.hypot(q, 0.4)), 0, math.sqrt(1 - 0.16)
    )[0]
    assert abs(float(sample.mean()) - exact) < 4 * float(sample.std()) / math.sqrt(n)


def test_mistakes_are_named():
    with pytest.raises(InvalidArgument, match="up to a constant"):
        box(3, 6)
    with pytest.raises(InvalidArgument, match=r"shape \(4,\)"):
        MixedBox(Box((0.0,) * 3, (1.0,) * 3), [True] * 4)
    point = torch.zeros(1, 1, 3)
    for sigma, words in ((-1.0, "positive"), (0.0, "or None"), (bowl, "varies in space")):
        with pytest.raises(InvalidArgument, match=words):
            WalkOnStars(4)(box(3), Mixed(bowl, screening=sigma), point, stream())
    with pytest.raises(InvalidArgument, match="in 4D"):
        WalkOnStars(4)(box(4), Mixed(bowl, screening=1.0), torch.zeros(1, 1, 4), stream())
    with pytest.raises(InvalidArgument, match="WalkOnStars"):
        WalkOnSpheres(4)(box(3), Dirichlet(bowl), point, stream())
