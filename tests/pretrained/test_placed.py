"""Operators on problems of one's own: places, sizes and units; what is refused; derivatives."""

import math
import warnings

import pytest
import torch

from sciml.errors import (
    InvalidArgument,
    InvalidType,
    PretrainedError,
    RangeWarning,
    SciMLError,
)
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import (
    Annulus,
    Ball,
    Box,
    Ellipse,
    MixedPolygon,
    Polygon,
    SDFGrid,
    Similar,
    l_shape,
    union,
)
from sciml.physics.walks.stars import Mixed
from sciml.pretrained import PretrainedOperator, load_pretrained

POISSON, SCREENED = load_pretrained("wos_poisson2d"), load_pretrained("wos_screened2d")
CENTER = torch.zeros(1, 1, 2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def zero(x, i):
    return torch.zeros_like(x[0])


def one(x, i):
    return torch.ones_like(x[0])


def wave(x, i=None):
    return x[0].exp() * x[1].cos() + 1


def off(operator, domain, problem, exact, **walks):
    """Return the relative error at random points."""
    x = domain.sample_interior(100, generator(), torch.float64)
    found = operator.solve(domain, problem, x, **walks)["value"].double()
    return float((found - exact(x)).norm() / exact(x).norm())


# --- places, sizes, units -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("radius", "center"), [(0.1, 0.0), (1.0, 5.0), (1e6, 3e6), (1e-6, 0.0), (1.0, 1e6), (1e-6, 1.0)]
)
def test_disks_of_any_place_and_unit(radius, center):
    """Lap u = -1, u = 0: u = (R^2 - r^2) / 4. Once 52 % off at R = 0.1, NaN around (5, 5)."""
    disk, problem = Ball(radius, (center, center)), Dirichlet(zero, one)

    def exact(x):
        return (radius**2 - (x - center).square().sum(2)) / 4

    assert off(POISSON, disk, problem, exact) < 0.01
    x = disk.sample_interior(50, generator(), torch.float64)
    found = POISSON.solve(disk, problem, x, walks=64)
    z = (found["value"] - exact(x)) / found["standard_error"]
    assert z.abs().max() < 5


def test_a_rectangle_far_larger_than_the_box():
    """u = x / 10 on 10 x 4, at (2.5, 2) once 0.04; it is warned of and walks are right."""
    box, problem = Box((0.0, 0.0), (10.0, 4.0)), Dirichlet(lambda x, i: x[0] / 10)
    with pytest.warns(RangeWarning, match="largest ball.*walks=256.* s"):
        found = POISSON.solve(box, problem, [[[2.5, 2.0]]], walks=64)
    assert abs(float(found["model"]) - 0.25) < 0.03
    assert abs(float(found["value"]) - 0.25) < 4 * float(found["standard_error"])


@pytest.mark.parametrize(("radius", "sigma"), [(10.0, 0.08), (0.1, 800.0), (1.0, 8.0)])
def test_screening_scales_with_the_domain(radius, sigma):
    root = math.sqrt(sigma)

    def exact(x):
        return torch.special.i0(root * x.norm(dim=2)) / torch.special.i0(
            torch.tensor(root * radius, dtype=torch.float64)
        )

    assert off(SCREENED, Ball(radius), Dirichlet(one, None, sigma), exact) < 0.015


def test_diffusion_and_data_scale():
    def alpha(x, i):
        return 1e3 * (x[0] / 20).exp()

    def u(x, i=None):
        return 1e9 * (1 + x[0].square() + x[1].square())

    def source(x, i):
        return -1e9 * alpha(x, i) * (4 + x[0] / 10)

    operator = load_pretrained("wos_varcoef2d")
    problem = Dirichlet(u, source, diffusion=alpha)
    assert off(operator, Ball(7.0, (1.0, 0.0)), problem, lambda x: u(x.movedim(2, 0))) < 0.02
    constant = Dirichlet(u, lambda x, i: -12e9 * one(x, i), diffusion=lambda x, i: 3 * one(x, i))
    assert off(POISSON, Ball(2.0), constant, lambda x: u(x.movedim(2, 0))) < 0.01


def test_similar_domains_are_those_of_the_other_coordinates():
    ellipse = Ellipse([[3.0, 2.0], [4.0, 1.0]], (1e5, -2.0), 0.3)
    moved = Similar(ellipse, (1e5, -2.0), [4.0, 5.0])
    plain = Ellipse([[0.75, 0.5], [0.8, 0.2]], (0.0, 0.0), 0.3)
    y = 2 * torch.rand(2, 50, 2, generator=generator(), dtype=torch.float64) - 1
    same = {"rtol": 1e-9, "atol": 1e-9}
    assert torch.allclose(moved.signed_distance(y), plain.signed_distance(y), **same)
    assert torch.allclose(moved.project(y), plain.project(y), **same)
    on = moved.sample_boundary(20, generator(), torch.float64)
    assert plain.signed_distance(on.points).abs().max() < 1e-8
    length = plain.sample_boundary(20, generator()).weight.sum(1).double()
    assert torch.allclose(on.weight.sum(1), length, rtol=1e-5, atol=0)
    assert bool(moved.inside(moved.sample_interior(50, generator(), torch.float64)).all())


def test_what_fits_is_shown_as_it_is():
    """Bit-equal to the operator on the same grid: nothing moves that is in range."""
    from sciml.physics.elliptic.elliptic_grid import values

    disk = Ball(0.9, (0.1, 0.0))
    problem = Dirichlet(lambda x, i: x[0].sin(), one)
    x = disk.sample_interior(20, generator(), torch.float64)
    with torch.no_grad():
        wanted = values(POISSON.network, disk, problem, x)
    assert torch.equal(POISSON.solve(disk, problem, x)["value"], wanted)
    as_list = POISSON.solve(disk, problem, x.tolist())["value"]
    assert torch.allclose(
        POISSON.solve(disk, problem, x.numpy())["value"], as_list, atol=1e-5, rtol=0
    )


# --- what is warned of and refused ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (Ellipse((1.3, 0.15)), "thinner than 4 grid nodes"),
        (Ellipse((2.6, 0.3), (5.0, 5.0)), "thinner than 4 grid nodes"),
        (Annulus(0.5, 1.2), "number of holes"),
        (union(Ball(0.5, (-0.7, 0.0)), Ball(0.5, (0.7, 0.0))), "number of components"),
        (Box((0.0, 0.0), (10.0, 4.0)), "over the radius of the largest ball"),
    ],
    ids=["ellipse", "moved", "annulus", "two disks", "rectangle"],
)
def test_shapes_unlike_those_in_training_warn(domain, said):
    x = domain.sample_interior(3, generator(), torch.float64)
    with pytest.warns(RangeWarning, match=f"{said}.*walks=256.*takes about"):
        POISSON.solve(domain, Dirichlet(wave), x)


def test_too_much_screening_warns():
    with pytest.warns(RangeWarning, match="screening covers"):
        SCREENED.solve(Ball(), Dirichlet(one, None, 100.0), CENTER)


NEUMANN = MixedPolygon(l_shape(), neumann=lambda x, i: x[0] > 0)


@pytest.mark.parametrize(
    ("operator", "domain", "problem", "said"),
    [
        (POISSON, Ball(), Dirichlet(one, None, 3.0), "wos_screened2d"),
        (POISSON, Ball(), Dirichlet(one, diffusion=lambda x, i: wave(x)), "wos_varcoef2d"),
        (SCREENED, Ball(), Dirichlet(one), "no screening"),
        (POISSON, Ball(1.0, (0.0, 0.0, 0.0)), Dirichlet(one), "3 dimensions"),
        (POISSON, NEUMANN, Mixed(zero), "WalkOnStars"),
        (POISSON, NEUMANN, Dirichlet(zero), "WalkOnStars"),
        (POISSON, Ball(), Dirichlet(lambda x, i: x[0].log()), "boundary is not finite"),
    ],
)
def test_what_is_not_the_operators_equation_is_refused(operator, domain, problem, said):
    points = torch.zeros(1, 1, domain.dim)
    with pytest.raises(InvalidArgument, match=said):
        operator.solve(domain, problem, points - 0.1)


def test_odd_points():
    disk = Ball()
    assert POISSON.solve(disk, Dirichlet(wave), torch.zeros(1, 0, 2), walks=4)["value"].shape == (
        1,
        0,
    )
    on = POISSON.solve(disk, Dirichlet(zero), [[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])["value"][0]
    assert on[0].abs() < 1e-6 and on[1] == on[2]
    with pytest.raises(InvalidArgument, match="not finite"):
        POISSON.solve(disk, Dirichlet(zero), [[[math.nan, 0.0]]])
    with pytest.raises(InvalidType, match="solve.list"):
        POISSON.solve([[0, 0], [1, 0], [1, 1]], Dirichlet(zero), CENTER)
    # a source without values outside its domain
    found = POISSON.solve(
        disk, Dirichlet(zero, lambda x, i: (1.001 - x.square().sum(0)).sqrt()), CENTER
    )
    assert abs(float(found["value"]) - 0.21355) < 0.005  # by quadrature along the radius


def test_numbers_that_are_none_are_no_result():
    network = WosFNO(nodes=40, width=4, modes=4, layers=1, hidden=8)
    with torch.no_grad():
        network.mix.fill_(torch.nan)
    operator = PretrainedOperator(network, {"inputs": network.schema()["inputs"], "data": {}})
    with pytest.raises(PretrainedError, match="not finite"):
        operator.solve(Ball(), Dirichlet(wave), CENTER)
    axis = torch.linspace(-1.5, 1.5, 40)
    sdf = (axis.hypot(axis[:, None]) - 1)[None]
    with pytest.raises(PretrainedError, match="not finite"):
        operator.predict(sdf, torch.zeros_like(sdf), torch.ones_like(sdf))


# --- derivatives ----------------------------------------------------------------------------------
X = torch.tensor([[[0.1, 0.2], [-0.3, 0.1], [0.2, -0.35]]], dtype=torch.float64)
AXIS = torch.linspace(-1.4, 1.4, 60, dtype=torch.float64)
RADIUS = AXIS.hypot(AXIS[:, None])


def bump(x, i):
    return (-x.square().sum(0)).exp()


QUAD = torch.tensor([[-0.9, -0.8], [0.9, -0.9], [1.0, 0.8], [-0.8, 0.9]], dtype=torch.float64)
CASES = {
    "data": (POISSON, 0.7, lambda t: (Ball(3.0), Dirichlet(lambda x, i: t * x[0] + 1, bump))),
    "source": (POISSON, 0.7, lambda t: (Ball(3.0), Dirichlet(zero, lambda x, i: t * bump(x, i)))),
    "screening": (SCREENED, 4.0, lambda t: (Ball(), Dirichlet(wave, bump, t))),
    "radius": (POISSON, 1.0, lambda t: (Ball(t, (0.0, 0.0)), Dirichlet(wave, bump))),
    "large radius": (POISSON, 5.0, lambda t: (Ball(t, (0.0, 0.0)), Dirichlet(zero, bump))),
    "axis": (POISSON, 1.1, lambda t: (Ellipse(torch.stack([t, 0.8 * t])), Dirichlet(zero, one))),
    "polygon": (POISSON, 1.0, lambda t: (Polygon(t * QUAD), Dirichlet(zero, one))),
    "grid": (
        POISSON,
        1.0,
        lambda t: (SDFGrid(RADIUS - t, [-1.4] * 2, [1.4] * 2), Dirichlet(wave, bump)),
    ),
}


@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")
@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_finite_differences(name):
    """Distances have kinks that move over the nodes of the grid: 0.01 smooths them."""
    operator, at, make = CASES[name]
    t = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    value = operator.solve(*make(t), X)["value"].sum()
    (slope,) = torch.autograd.grad(value, t)
    high, low = (
        float(operator.solve(*make(t.detach() + h), X)["value"].sum()) for h in (1e-2, -1e-2)
    )
    assert abs(float(slope) - (high - low) / 0.02) < 0.03 * abs(float(slope)) + 1e-3


def test_predictions_have_derivatives_and_walks_have_none():
    axis = torch.linspace(-1.5, 1.5, 44)
    sdf = (axis.hypot(axis[:, None]) - 1)[None]
    flat = torch.zeros_like(sdf)
    source = torch.ones_like(sdf).requires_grad_()
    (slope,) = torch.autograd.grad(POISSON.predict(sdf, flat, source)["value"].sum(), source)
    bumped = (source + 0.01 * slope).detach()
    change = (
        POISSON.predict(sdf, flat, bumped)["value"]
        - POISSON.predict(sdf, flat, source.detach())["value"]
    ).sum()
    assert abs(float(change) - 0.01 * float(slope.square().sum())) < 1e-3 * float(change.abs())
    with pytest.raises(InvalidArgument, match="without derivatives"):
        POISSON.predict(sdf, flat, source, correct=4)
    t = torch.tensor(1.0, requires_grad=True)
    disk = Dirichlet(lambda x, i: t * x[0])
    with pytest.raises(InvalidArgument, match="without derivatives"):
        POISSON.solve(Ball(), disk, X, walks=4)
    with torch.no_grad():
        assert "standard_error" in POISSON.solve(Ball(), disk, X, walks=4)
    cloud = load_pretrained("wos_poisson2d_gino")
    with pytest.raises(InvalidArgument, match="clouds"):
        cloud.solve(Ball(t, (0.0, 0.0)), Dirichlet(wave), X)


# --- how wrong on one problem ---------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")
def test_one_problem_of_ones_own_is_verified():
    ellipse = Ellipse((6.0, 4.0), (50.0, 1.0))

    def u(x, i=None):
        return 100 * (x[1] / 8).cos() * (x[0] / 8 - 6.25).exp()

    found = POISSON.verify(ellipse, Dirichlet(u), points=200, walks=64)
    exact = u(found.points[0].T)
    wrong = found.predicted[0] - exact
    truth = float(wrong.norm() / exact.norm())
    assert found.rel_l2.low <= truth <= found.rel_l2.high
    assert found.rms.low <= float(wrong.square().mean().sqrt()) <= found.rms.high
    assert bool(ellipse.inside(found.points).all()) and found.rel_l2.high < 2 * truth
    for w in found.worst:
        there = float(u(torch.tensor(w.point)))
        assert abs(w.estimate - there) < 5 * w.standard_error + 1e-3
    with pytest.raises(InvalidArgument, match="2 domains"):
        POISSON.verify(Ball([1.0, 0.8], (0.0, 0.0)), Dirichlet(u))


def test_nothing_is_said_where_all_is_in_range():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for domain in (Ball(), Ball(100.0, (3e4, 0.0)), Ellipse((3.0, 2.2), angle=0.4)):
            x = domain.sample_interior(3, generator(), torch.float64)
            POISSON.solve(domain, Dirichlet(one, bump), x)


@pytest.mark.parametrize("seed", [1.5, None, "a", True])
def test_a_seed_of_walks_is_an_integer(seed):
    disk, problem = Ball(1.0, (0.0, 0.0)), Dirichlet(zero, one)
    with pytest.raises(InvalidType, match="^seed is .* Expected a whole number"):
        POISSON.solve(disk, problem, CENTER, walks=2, seed=seed)
    with pytest.raises(InvalidType, match="^seed is .* Expected a whole number"):
        POISSON.verify(disk, problem, seed=seed)


@pytest.mark.parametrize("wrong", [{"points": 8.5}, {"points": "a"}, {"walks": 2.5}])
def test_verify_takes_whole_numbers(wrong):
    with pytest.raises(SciMLError, match="whole number"):
        POISSON.verify(Ball(1.0, (0.0, 0.0)), Dirichlet(zero, one), **wrong)
