"""Walks from close to the boundary: touching balls, and error bars that hold at any distance."""

import math

import pytest
import torch

from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import (
    Annulus,
    Ball,
    Box,
    Ellipse,
    MixedBox,
    MixedPolygon,
    Polygon,
    l_shape,
)
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.stars import Mixed, WalkOnStars
from sciml.physics.walks.tangent import Tangent

DISTANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def log(x, i=None):
    """Harmonic around all domains, steep, and no polynomial."""
    return ((x[0] - 1.7).square() + (x[1] - 0.2).square()).log()


def square(x, i=None):
    return 1 + x[0].square() + x[1].square()


def alpha(x, i):
    return (x[0] / 2).exp()


def screened(x, i=None):
    root = x[0].square() + x[1].square()
    return torch.special.i0(3 * root.sqrt()) / torch.special.i0(torch.tensor(3.0))


def saddle(x, i=None):
    return x[0].square() + x[1].square() + x[2].exp() * x[1].sin()


CASES = {
    "disk": (Ball(), Dirichlet(log), log),
    "source": (Ball(), Dirichlet(square, lambda x, i: torch.full_like(x[0], -4.0)), square),
    "screening": (Ball(), Dirichlet(lambda x, i: torch.ones_like(x[0]), None, 9.0), screened),
    "diffusion": (
        Ball(),
        Dirichlet(square, lambda x, i: -alpha(x, i) * (4 + x[0]), diffusion=alpha),
        square,
    ),
    "ellipse": (Ellipse((1.2, 0.6)), Dirichlet(log), log),
    "L-shape": (l_shape(), Dirichlet(log), log),
    "annulus": (Annulus(0.4, 1.0), Dirichlet(log), log),
    "ball": (
        Ball(1.0, (0.0, 0.0, 0.0)),
        Dirichlet(saddle, lambda x, i: torch.full_like(x[0], -4.0)),
        saddle,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_error_bars_hold_at_any_distance(name):
    """The mean of z^2 is 1 and no z is large; plain walks have z of 100 at 0.01, infinite below."""
    domain, problem, u = CASES[name]
    on = domain.sample_boundary(60, generator(1), torch.float64)
    for distance in DISTANCES:
        x = on.points - distance * on.normals
        x = x[:, domain.inside(x)[0]]
        found = WalkOnSpheres(walks=128)(domain, problem, x, generator(2))
        z = (found.mean - u(x.movedim(2, 0))) / found.standard_error
        # from 128 walks with a skewed law: rarely beyond 6
        assert z.abs().max() < 8, f"{distance}: {float(z.abs().max()):.1f}"
        assert z.square().mean() < 2, f"{distance}: {float(z.square().mean()):.2f}"
        # deviations are of the size of the distance, not of its root
        assert found.standard_error.median() < 2 * distance


def test_plain_walks_do_not():
    domain, problem, u = CASES["disk"]
    on = domain.sample_boundary(60, generator(1), torch.float64)
    x = on.points - 1e-3 * on.normals
    found = WalkOnSpheres(walks=128, close=0.0)(domain, problem, x, generator(2))
    z = (found.mean - u(x.movedim(2, 0))) / found.standard_error
    assert not z.square().mean() < 10


def slope_of_log(x, i, n):
    away = x - torch.tensor([1.7, 0.2]).to(x)[:, None]
    return 2 * (away * n).sum(0) / away.square().sum(0)


def wave(x, i=None):
    """Laplacian u - 4 u = -(4 x_1^2 - 2): the exponential needs no source, the square does."""
    return (2 * x[0]).exp() / 4 + x[1].square()


MIXED = {
    "polygon": (
        MixedPolygon(
            Polygon([[-1.0, -1.0], [1.0, -1.0], [1.0, 0.8], [-1.0, 1.0]]), lambda x, i: x[0] > 0.5
        ),
        Mixed(log, slope_of_log),
        log,
    ),
    "box": (
        MixedBox(Box([-1.0, -1.0, -1.0], [1.0, 0.8, 1.0]), lambda x, i: x[0] > 0.5),
        Mixed(
            wave,
            lambda x, i, n: n[0] * (2 * x[0]).exp() / 2 + 2 * n[1] * x[1],
            lambda x, i: 4 * x[1].square() - 2,
            4.0,
        ),
        wave,
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_error_bars_hold_close_to_an_absorbing_part(name):
    """Where no wall is near walks start out of a touching ball. Plain ones have infinite z."""
    domain, problem, u = MIXED[name]
    points = 100 if domain.dim == 2 else 40
    on = domain.sample_boundary(points, generator(1), torch.float64)
    walls = domain.absorbed(*domain.columns(on.points))[0] > 1e-6
    for distance in (1e-3, 1e-5):
        x = on.points - distance * on.normals
        beside = torch.cdist(x[0], on.points[0, walls]).amin(1) < 0.3
        columns, i = domain.columns(x)
        near = domain.absorbed(columns, i)[0] < 1.01 * distance
        x = x[:, near & ~beside & (domain.level(columns, i) < 0)]
        found = WalkOnStars(walks=128)(domain, problem, x, generator(2))
        z = (found.mean - u(x.movedim(2, 0))) / found.standard_error
        assert z.abs().max() < 8, f"{distance}: {float(z.abs().max()):.1f}"
        assert z.square().mean() < 2, f"{distance}: {float(z.square().mean()):.2f}"
        assert found.standard_error.median() < 2 * distance


BESIDE = {
    "right wall": (*MIXED["polygon"], 2),
    "two walls": (
        MixedPolygon(MIXED["polygon"][0].polygon, lambda x, i: x[0].abs() > 0.5),
        *MIXED["polygon"][1:],
        2,
    ),
    # a wall goes on straight after the absorbing part: half of the walks twice as far go on
    "blunt": (
        MixedPolygon(
            Polygon([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
            lambda x, i: (x[0] > 0) & (x[1] < 0.1),
        ),
        *MIXED["polygon"][1:],
        2,
    ),
    "box": (*MIXED["box"], 3),
}


@pytest.mark.parametrize(
    "name",
    [n if n in ("two walls", "blunt") else pytest.param(n, marks=pytest.mark.slow) for n in BESIDE],
)
def test_error_bars_hold_beside_walls(name):
    """The mean of z^2 is about 1 at any distance. Plain walks have infinite z."""
    domain, problem, u, dim = BESIDE[name]
    on = domain.sample_boundary(2000, generator(1), torch.float64)
    walls = domain.absorbed(*domain.columns(on.points))[0] > 1e-6
    gap = torch.cdist(on.points[0, ~walls], on.points[0, walls]).amin(1)
    index = (gap < 0.1).nonzero()[: 16 if dim == 2 else 6, 0]
    for distance in (1e-4,) if name == "two walls" else (1e-3,):
        x = (on.points[0, ~walls] - distance * on.normals[0, ~walls])[None, index]
        x = x[:, domain.level(*domain.columns(x)) < 0]
        found = WalkOnStars(walks=128)(domain, problem, x, generator(2))
        z = (found.mean - u(x.movedim(2, 0))) / found.standard_error
        assert z.abs().max() < 8, f"{distance}: {float(z.abs().max()):.1f}"
        assert z.square().mean() < 3, f"{distance}: {float(z.square().mean()):.2f}"
        assert found.standard_error.median() < 2 * distance


def test_no_points_have_no_estimates():
    domain, problem, _ = MIXED["polygon"]
    nowhere = torch.zeros(1, 0, 2)
    assert WalkOnStars()(domain, problem, nowhere, generator(0)).mean.shape == (1, 0)
    assert WalkOnSpheres()(Ball(), Dirichlet(log), nowhere, generator(0)).mean.shape == (1, 0)


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_weights_of_a_touching_ball(dim):
    """The kernels integrate to 1 and to (R^2 - a^2) / 2d, and reproduce a harmonic function."""
    n, radius, delta = 200_000, 0.7, 0.01
    inward = torch.zeros(dim, 1, dtype=torch.float64)
    inward[0] = 1
    on = torch.zeros_like(inward)
    ones = torch.ones(1, dtype=torch.float64)
    ball = Tangent(
        delta * inward, torch.zeros(1, dtype=torch.int64), on, inward, delta * ones, radius * ones
    ).repeat(n)
    y, weight = ball.exits(generator(0))
    sphere = (y - radius * inward).square().sum(0).sqrt()
    assert torch.allclose(sphere, torch.full_like(sphere, radius), rtol=1e-9, atol=0)
    for values, wanted in (
        (weight, 1.0),
        (weight * y[0], delta),
        (weight * (y[0] ** 2 - y[1] ** 2), delta**2),
    ):
        error = float(values.std()) / math.sqrt(n)
        assert abs(float(values.mean()) - wanted) < 4 * error
    z, share = ball.inner(generator(1))
    assert bool(
        ((z - radius * inward).square().sum(0).sqrt() <= radius * (1 + 1e-9))[share > 0].all()
    )
    power = delta * (2 * radius - delta)
    # Laplacian |z - c|^2 = 2d: u(x) = R^2 - 2d * integral of G = a^2
    assert abs(float(share.mean()) - power / (2 * dim)) < 4 * float(share.std()) / math.sqrt(n)
    # Laplacian z_0^3 = 6 z_0
    right = weight * y[0] ** 3 - share * 6 * z[0]
    assert abs(float(right.mean()) - delta**3) < 4 * float(right.std()) / math.sqrt(n)


def test_balls_touch_and_stay_inside():
    for domain in (Ellipse((1.2, 0.6)), l_shape(), Annulus(0.4, 1.0)):
        on = domain.sample_boundary(100, generator(3), torch.float64)
        x, i = domain.columns(on.points - 1e-3 * on.normals)
        own = domain.level(x, i) < 0
        balls = Tangent.of(domain, x[:, own], i[own], None)
        center = balls.on + balls.inward * balls.radius
        distance = (center - domain.nearest(center, balls.i)).square().sum(0).sqrt()
        assert bool((distance >= balls.radius * (1 - 2e-3)).all())
        assert balls.radius.median() > 0.1 and bool((balls.radius >= balls.delta).all())


@pytest.mark.parametrize("dim", [2, 3, 10, 100, 1000])
def test_touching_balls_in_any_dimension(dim):
    """First steps have the means of the ball: 1, x for a linear u, (R^2 - a^2) / (2 d) for f = 1.

    In 100 dimensions r^(2 - d) passes the largest number, and nearly all of a ball is close to its
    boundary: `sciml verify` of a run of model=pinn_poisson found no numbers.
    """
    n = 20_000 if dim <= 10 else 2_000
    for delta in (1e-5, 1e-2, 0.09):
        x = torch.zeros(dim, 1, dtype=torch.float64)
        x[0] = 1 - delta
        ball = Ball(1.0, (0.0,) * dim)
        start = Tangent.of(ball, x, torch.zeros(1, dtype=torch.long), None).repeat(n)
        draw, r = generator(0), start.radius[0]
        (y, weight), (_, share) = start.exits(draw), start.inner(draw)
        wanted = (r**2 - (r - delta) ** 2) / (2 * dim)
        for found, mean in ((weight, 1.0), (share, wanted), (weight * (y - x)[0], 0.0)):
            assert found.isfinite().all()
            assert abs(found.mean() - mean) < 4 * found.std() / n**0.5
        # light tails, or the standard error above would say nothing
        assert share.std() < 4 * wanted and weight.std() < 5
        center = start.on + start.inward * r
        assert (torch.linalg.vector_norm(y - center, dim=0) / r - 1).abs().max() < 1e-9
