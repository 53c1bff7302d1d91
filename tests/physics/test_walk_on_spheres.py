"""Walk on spheres against closed forms; tolerances are 4 standard errors of the walks."""

import math

import pytest
import torch
from scipy.special import iv

from sciml.autodiff.streams import Streams
from sciml.errors import CheckpointError, InvalidArgument, NumericalWarning
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.elliptic.star_reference import Gaussians, star_reference
from sciml.physics.geometry import (
    Annulus,
    Ball,
    Box,
    Domain,
    Ellipse,
    SDFGrid,
    Tabulated,
    intersection,
    l_shape,
    star_family,
)
from sciml.physics.walks.label_cache import LabelCache
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.tracking import reduced_screening

DISK, BALL = Ball(), Ball(center=(0.0, 0.0, 0.0))


def stream(step=0, rank=0, seed=0):
    return Streams(seed, step, rank).generator("walks")


def at(*points):
    """Return points (1, P, d) of one domain."""
    return torch.tensor([points], dtype=torch.float64)


def zero(x, i):
    return torch.zeros_like(x[0])


def constant(value):
    return lambda x, i: torch.full_like(x[0], value)


def values(field, points):
    """Return a field (B, P) at points (B, P, d) in float64."""
    shape = points.shape[:2]
    i = torch.arange(shape[0]).repeat_interleave(shape[1])
    return field(points.double().permute(2, 0, 1).reshape(points.shape[2], -1), i).view(shape)


def assert_close(estimate, exact, bias=0.0):
    """Fail beyond 4 standard errors and the bias allowed for."""
    error = (estimate.mean - exact).abs()
    assert (error <= 4 * estimate.standard_error + bias).all(), (
        error / estimate.standard_error,
        estimate.mean,
    )
    assert (estimate.truncated == 0).all()


def saddle(x, i):
    return x[0] ** 2 - x[1] ** 2


def wave(x, i):
    return x[0].exp() * x[1].cos()


def charge(x, i):
    return 1 / (x - torch.tensor([1.2, 0.9, 0.8])[:, None].to(x)).square().sum(0).sqrt()


# --- Laplace and Poisson ------------------------------------------------------------------------

INNER = at((0.3, 0.2), (-0.5, 0.1), (0.0, 0.97))
INNER3 = at((0.3, 0.2, 0.3), (-0.5, 0.1, 0.0), (0.0, 0.9, -0.35))


@pytest.mark.parametrize(
    ("domain", "field", "points"),
    [
        (DISK, saddle, INNER),
        (DISK, wave, INNER),
        (BALL, charge, INNER3),
        (Annulus(0.4, 1.0), wave, at((0.5, 0.2), (0.0, -0.9))),
        (Box((-1.0, -0.5), (0.5, 1.0)), saddle, at((0.0, 0.2), (-0.9, 0.9))),
        (Ellipse((1.0, 0.4), angle=0.5), saddle, at((0.0, 0.0), (0.6, 0.35))),
        (l_shape(), saddle, at((0.5, -0.5), (-0.02, -0.02))),
        (intersection(DISK, Box((-0.5, -0.5), (2.0, 2.0))), wave, at((0.0, 0.0), (-0.45, -0.45))),
        (SDFGrid.of(BALL, 33), charge, INNER3[:, :2]),
    ],
)
def test_laplace(domain, field, points):
    engine = WalkOnSpheres(walks=20_000)
    estimate = engine(domain, Dirichlet(field), points, stream())
    # the charge has a gradient of at most about 4 on the boundary, the others about 3; the grid's
    # zero set lies up to 1e-3 off the sphere
    bias = 4e-3 if isinstance(domain, SDFGrid) else 1e-3
    assert_close(estimate, values(field, points), bias)
    assert (estimate.standard_error > 0).all()
    # exact distances end within eps; the ellipse's bound is off by its ratio of axes at most
    assert 0.9 < estimate.farthest < (1.5 if not isinstance(domain, Ellipse | SDFGrid) else 3)


@pytest.mark.parametrize("domain", [DISK, BALL, Ball(center=(0.0,) * 6)])
def test_poisson_sign_and_factor(domain):
    d = domain.dim
    points = torch.zeros(1, 2, d, dtype=torch.float64)
    points[0, 0, 0], points[0, 1, -1] = 0.4, -0.8
    problem = Dirichlet(zero, source=constant(4.0))
    estimate = WalkOnSpheres(walks=20_000)(domain, problem, points, stream())
    exact = 4 * (1 - points.square().sum(2)) / (2 * d)
    assert_close(estimate, exact, 1e-3)


def test_singularity_at_a_re_entrant_corner():
    def corner(x, i):
        # r^(2/3) sin(2/3 phi), zero along both edges of the notch
        phi = torch.remainder(torch.atan2(x[1], x[0]) - math.pi / 2, 2 * math.pi)
        return x.square().sum(0).pow(1 / 3) * torch.sin(2 / 3 * phi)

    points = at((-0.05, 0.05), (-0.5, -0.5), (0.5, -0.3))
    estimate = WalkOnSpheres(walks=20_000, eps=1e-4)(l_shape(), Dirichlet(corner), points, stream())
    # g grows like eps^(2/3) away from the corner
    assert_close(estimate, values(corner, points), 1e-3)


def test_variance_of_a_single_walk():
    # (1 + r^2) / 2 - r^2 with r = 1/2: wrong direction laws that keep the mean fail here
    engine = WalkOnSpheres(walks=100_000)
    estimate = engine(DISK, Dirichlet(lambda x, i: x[0]), at((0.5, 0.0)), stream())
    variance = float(estimate.squares / (estimate.samples - 1))
    # the fourth moment of a bounded value on [-1.5, 0.5] bounds the error of the variance
    assert abs(variance - 0.375) < 4 * 1.0 / math.sqrt(100_000) + 2e-3
    assert float(estimate.variance) == pytest.approx(variance / 100_000)


def test_error_falls_with_the_root_of_the_walks():
    points = DISK.sample_interior(400, stream())
    exact = values(wave, points)
    rms = []
    counts = [1, 4, 16, 64, 256]
    for k, walks in enumerate(counts):
        estimate = WalkOnSpheres(walks)(DISK, Dirichlet(wave), points, stream(k))
        rms.append(float((estimate.mean - exact).square().mean().sqrt()))
    x = torch.tensor(counts).double().log()
    y = torch.tensor(rms).double().log()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    assert abs(slope + 0.5) < 0.05


def test_bias_is_linear_in_eps_and_steps_grow_with_its_logarithm():
    problem, points = Dirichlet(zero, source=constant(4.0)), at((0.3, 0.2))
    table = {1e-1: None, 3e-2: None, 1e-2: 6.1, 1e-3: 9.4, 1e-4: 12.7}
    bias = {}
    for eps, steps in table.items():
        estimate = WalkOnSpheres(40_000, eps)(DISK, problem, points, stream())
        bias[eps] = (float(estimate.mean) - 0.87, float(estimate.standard_error))
        if steps:
            assert float(estimate.steps) == pytest.approx(steps, rel=0.03)
    value, error = bias[1e-1]
    assert abs(value / 1e-1 + 0.66) < 0.2 * 0.66 + 4 * error / 1e-1
    value, error = bias[3e-2]
    assert abs(value / 3e-2 + 0.66) < 0.2 * 0.66 + 4 * error / 3e-2
    steps = WalkOnSpheres(20_000)(BALL, Dirichlet(zero), at((0.3, 0.2, 0.28)), stream()).steps
    assert float(steps) == pytest.approx(17.6, rel=0.03)


# --- screening and variable coefficients --------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 4.0, 400.0])
def test_screened(sigma):
    q = math.sqrt(sigma)
    one = constant(1.0)
    points = at((0.4, 0.0), (0.0, 0.95))
    r = points.norm(dim=2)
    estimate = WalkOnSpheres(20_000, eps=2e-4)(
        DISK, Dirichlet(one, screening=sigma), points, stream()
    )
    exact = torch.from_numpy(iv(0, q * r.numpy())) / float(iv(0, q))
    assert_close(estimate, exact, 2e-4 * q)
    if sigma == 4.0:
        assert float(exact[0, 0]) == pytest.approx(0.51172, abs=1e-5)
    # the same with a source: u = 1 solves -sigma u = -f for f = sigma
    problem = Dirichlet(one, source=constant(sigma), screening=sigma)
    estimate = WalkOnSpheres(5_000)(DISK, problem, points, stream())
    assert_close(estimate, torch.ones_like(r), 1e-6)
    assert estimate.mean.min() > 0.9


@pytest.mark.parametrize("dim", [3, 5])
def test_screened_in_higher_dimension(dim):
    # u = |x|^2 solves Laplacian u - sigma u = -(sigma |x|^2 - 2 d)
    def square(x, i):
        return x.square().sum(0)

    points = torch.zeros(1, 1, dim, dtype=torch.float64)
    points[..., 0] = 0.5
    problem = Dirichlet(
        square, source=lambda x, i: 6 * square(x, i) - 2 * dim, screening=torch.tensor([6.0])
    )
    ball = Ball(center=(0.0,) * dim)
    assert_close(WalkOnSpheres(20_000)(ball, problem, points, stream()), 0.25, 1e-3)


def bowl(x, i):
    return 1 + x.square().sum(0)


@pytest.mark.parametrize("bound", [None, 2.0, 4.0])
def test_variable_screening(bound):
    def sigma(x, i):
        return 1 + x[0] ** 2

    problem = Dirichlet(
        bowl, lambda x, i: sigma(x, i) * bowl(x, i) - 4, screening=sigma, bound=bound
    )
    estimate = WalkOnSpheres(20_000)(DISK, problem, at((0.4, 0.3)), stream())
    assert_close(estimate, 1.25, 1e-3)


def test_screening_is_read_where_the_walk_is_born_again():
    # sigma' and u slope the same way: read at the mirror image, their product comes out wrong
    def sigma(x, i):
        return 8 * (1 + x[0])

    def u(x, i):
        return 1 + x[0]

    problem = Dirichlet(u, lambda x, i: sigma(x, i) * u(x, i), screening=sigma)
    points = at((0.0, 0.0), (-0.4, 0.2))
    assert_close(WalkOnSpheres(50_000)(DISK, problem, points, stream()), values(u, points), 1e-3)


def test_variable_diffusion():
    def alpha(x, i):
        return torch.exp(x[0] / 2)

    problem = Dirichlet(bowl, lambda x, i: -alpha(x, i) * (4 + x[0]), diffusion=alpha)
    points = at((0.4, 0.3), (-0.5, 0.2))
    estimate = WalkOnSpheres(20_000)(DISK, problem, points, stream())
    assert_close(estimate, torch.tensor([[1.25, 1.29]]), 1e-3)
    x = torch.randn(2, 10, dtype=torch.float64)
    reduced = reduced_screening(alpha)(x, None)
    assert torch.allclose(reduced, torch.full_like(reduced, 1 / 16), rtol=1e-12, atol=1e-13)


def test_reduced_screening_has_the_square_and_both_terms():
    def alpha(x, i):
        return 2 + torch.sin(x[0]) * x[1]

    x = torch.randn(2, 20, generator=stream(), dtype=torch.float64).clamp(-1, 1)
    a = alpha(x, None)
    laplacian = -torch.sin(x[0]) * x[1]
    square = (torch.cos(x[0]) * x[1]) ** 2 + torch.sin(x[0]) ** 2
    expected = 3 / a + laplacian / (2 * a) - square / (4 * a**2)
    assert torch.allclose(reduced_screening(alpha, 3.0)(x, None), expected, rtol=1e-12, atol=1e-11)


def test_negative_reduced_screening_in_three_dimensions():
    # log alpha = -|x|^2 / 2: sigma' = -3 / 2 + |x|^2 / 4 < 0, weights grow, the mean is right
    def alpha(x, i):
        return torch.exp(-x.square().sum(0) / 2)

    def source(x, i):
        # u = x0: div(alpha grad u) = d alpha / d x0 = -x0 alpha
        return x[0] * alpha(x, i)

    problem = Dirichlet(lambda x, i: x[0], source, diffusion=alpha)
    estimate = WalkOnSpheres(20_000)(BALL, problem, at((0.5, 0.1, 0.2)), stream())
    assert_close(estimate, 0.5, 1e-3)
    assert estimate.max_weight > 1.5


# --- invariances --------------------------------------------------------------------------------


def test_linear_in_the_data_under_common_numbers():
    points = at((0.3, 0.2), (-0.6, 0.5))
    engine = WalkOnSpheres(500, dtype=torch.float64)

    def run(g, f):
        return engine(DISK, Dirichlet(g, source=f), points, stream()).mean

    both = run(lambda x, i: 2 * saddle(x, i) - wave(x, i), lambda x, i: 2 * wave(x, i) - 3)
    parts = 2 * run(saddle, wave) - run(wave, constant(3.0))
    assert torch.allclose(both, parts, atol=1e-12, rtol=1e-12)


def test_scaling_translation_and_rotation():
    engine = WalkOnSpheres(500, dtype=torch.float64)
    points = at((0.3, 0.2), (-0.6, 0.5))
    problem = Dirichlet(saddle, source=wave)
    base = engine(DISK, problem, points, stream())
    c, scale = torch.tensor([2.0, -1.0], dtype=torch.float64), 5.0

    def back(x):
        return (x - c[:, None]) / scale

    moved = Dirichlet(
        lambda x, i: saddle(back(x), i), source=lambda x, i: wave(back(x), i) / scale**2
    )
    other = engine(Ball(scale, c), moved, c + scale * points, stream())
    assert torch.allclose(base.mean, other.mean, atol=1e-12, rtol=1e-12)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turned = Dirichlet(
        lambda x, i: saddle(turn.T.to(x) @ x, i), source=lambda x, i: wave(turn.T.to(x) @ x, i)
    )
    rotated = WalkOnSpheres(20_000)(DISK, turned, points @ turn.T, stream(1))
    plain = WalkOnSpheres(20_000)(DISK, problem, points, stream(2))
    gap = (rotated.mean - plain.mean).abs()
    assert (gap < 4 * (rotated.variance + plain.variance).sqrt()).all()


def test_maximum_principle_for_every_walk():
    points = torch.zeros(1, 500, 2, dtype=torch.float64)
    points[..., 0] = 0.3
    mean = WalkOnSpheres(1)(DISK, Dirichlet(wave), points, stream()).mean
    angle = torch.linspace(0, 2 * math.pi, 10_001, dtype=torch.float64)
    g = wave(torch.stack([angle.cos(), angle.sin()]), None)
    assert g.min() - 1e-6 <= mean.min() and mean.max() <= g.max() + 1e-6
    assert mean.std() > 0.1


class Halved(Domain):
    """A domain that knows half of its distance only."""

    def __init__(self, domain):
        super().__init__(domain.count, domain.dim)
        self.domain = domain

    def level(self, x, i):
        return self.domain.level(x, i) / 2

    def nearest(self, x, i):
        return self.domain.nearest(x, i)

    def bounds(self):
        return self.domain.bounds()

    def sample_boundary(self, n, generator, dtype=torch.float32):
        return self.domain.sample_boundary(n, generator, dtype)


def test_bounds_of_the_distance_cost_steps_not_accuracy():
    points = at((0.3, 0.2))
    problem = Dirichlet(wave, source=constant(1.0))
    whole = WalkOnSpheres(20_000)(DISK, problem, points, stream())
    half = WalkOnSpheres(20_000)(Halved(DISK), problem, points, stream(1))
    gap = (whole.mean - half.mean).abs()
    assert (gap < 4 * (whole.variance + half.variance).sqrt() + 1e-3).all()
    # before a flat boundary the logarithm of the distance falls by log 2 a step, with half the
    # radius by 0.069 only: (1 + sqrt(1 - 1/4)) / 2 = exp(-0.069)
    assert 4 < float(half.steps / whole.steps) < 10


def test_instances_are_never_mixed():
    star = star_family(2, stream())
    points = star.sample_interior(50, stream(1))
    problem = Dirichlet(lambda x, i: i.to(x))
    for domain in (star, Tabulated(star, 65)):
        estimate = WalkOnSpheres(20, chunk=64)(domain, problem, points, stream())
        assert torch.equal(estimate.mean, values(lambda x, i: i.to(x), points))
        assert (estimate.squares == 0).all()


def test_results_do_not_depend_on_the_chunk():
    points = DISK.sample_interior(7, stream())
    problem = Dirichlet(wave, source=constant(1.0))
    whole = WalkOnSpheres(3000)(DISK, problem, points, stream())
    for chunk in (999, 2**20):
        parts = WalkOnSpheres(3000, chunk=chunk)(DISK, problem, points, stream(chunk))
        gap = (whole.mean - parts.mean).abs()
        assert (gap < 4 * (whole.variance + parts.variance).sqrt()).all()
        assert torch.allclose(whole.variance, parts.variance, rtol=0.3)
        assert torch.allclose(parts.halves.mean(0), parts.mean, atol=1e-11, rtol=1e-12)


# --- statistics ---------------------------------------------------------------------------------


def test_truncated_walks_are_projected_and_reported():
    points, problem = at((0.7, 0.0)), Dirichlet(lambda x, i: saddle(x, i) + 1)
    with pytest.warns(NumericalWarning, match="max_steps=25"):
        short = WalkOnSpheres(50_000, max_steps=25)(DISK, problem, points, stream())
    assert 0.02 < float(short.truncated) < 0.04
    whole = WalkOnSpheres(50_000, max_steps=500)(DISK, problem, points, stream(1))
    assert float(whole.truncated) == 0 and float(short.steps) < float(whole.steps)
    gap = (short.mean - whole.mean).abs()
    assert (gap < 4 * (short.variance + whole.variance).sqrt() + 2e-3).all()
    assert abs(float(whole.mean) - 1.49) < 4 * float(whole.standard_error) + 1e-3


def test_standard_errors_are_honest():
    points = at((0.3, 0.2)).expand(1, 400, 2)
    problem = Dirichlet(wave, source=constant(1.0))
    for antithetic in (False, True):
        engine = WalkOnSpheres(40, antithetic=antithetic)
        estimate = engine(DISK, problem, points, stream())
        ratio = float(estimate.mean.var() / estimate.variance.mean())
        # the variance of 400 values has a relative error of about sqrt(2 / 400)
        assert abs(ratio - 1) < 4 * math.sqrt(2 / 400)
        assert estimate.samples == (20 if antithetic else 40)


def test_variance_reduction():
    points = at((0.3, 0.2)).expand(1, 400, 2)
    problem = Dirichlet(wave)
    plain, pairs = (
        WalkOnSpheres(40, antithetic=a)(DISK, problem, points, stream()) for a in (False, True)
    )
    slope = torch.stack([wave(points[0].T, 0), -points[0, :, 0].exp() * points[0, :, 1].sin()], 1)
    guided = WalkOnSpheres(40)(DISK, problem, points, stream(), gradient=slope[None])
    for other in (pairs, guided):
        gap = plain.mean.mean() - other.mean.mean()
        spread = ((plain.variance.mean() + other.variance.mean()) / 400).sqrt()
        assert gap.abs() < 4 * spread
        assert other.variance.mean() < 0.7 * plain.variance.mean()


def test_pairs_stay_together_beside_finished_walks():
    # from the centre both walks of a pair end at once, at opposite points
    points = at((1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
    engine = WalkOnSpheres(100, antithetic=True)
    estimate = engine(DISK, Dirichlet(lambda x, i: x[0]), points, stream())
    assert torch.allclose(estimate.mean, points[..., 0], atol=1e-12, rtol=1e-12)
    assert estimate.squares.max() < 1e-9


def test_control_variate_keeps_the_mean_for_any_gradient():
    # most walks end where they start; the gradient still belongs to the right ones
    points = at((0.3, 0.2), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (-0.5, 0.0))
    gradient = torch.tensor([[[3.0, -2.0], *[[9.0, 9.0]] * 3, [1.0, 5.0]]])
    for problem in (
        Dirichlet(bowl, lambda x, i: 2 * bowl(x, i) - 4, screening=2.0),
        Dirichlet(bowl, lambda x, i: 2 * bowl(x, i) - 4, screening=constant(2.0)),
    ):
        estimate = WalkOnSpheres(20_000)(DISK, problem, points, stream(), gradient=gradient)
        assert_close(estimate, values(bowl, points), 1e-3)


def test_halves_estimate_the_squared_error():
    star = star_family(4, stream())
    source = Gaussians(*(torch.randn(4, 2, *s, generator=stream()) for s in ((), (2,))))
    points = star.sample_interior(500, stream(1))
    exact = star_reference(star, wave, points, source)
    guess = exact + 0.1 * torch.sin(5 * points[..., 0].double())
    engine = WalkOnSpheres(16, eps=2e-4)
    estimate = engine(star, Dirichlet(wave, source), points, stream(2))
    found = estimate.squared_error(guess)
    error = float(found.std() / math.sqrt(found.numel()))
    truth = float((guess - exact).square().mean())
    assert abs(float(found.mean()) - truth) < 4 * error + 1e-4
    # the plain mean square is off by the variance of the labels
    assert float((guess - estimate.mean).square().mean()) > truth + 4 * error


def test_cached_labels_are_the_mean_of_all_walks():
    points = DISK.sample_interior(30, stream())
    cache = LabelCache(instances=5, points=30)
    problem, engine = Dirichlet(wave), WalkOnSpheres(8)
    parts = [engine(DISK, problem, points, stream(step)) for step in range(4)]
    for part in parts[:3]:
        mean, variance = cache.update(torch.tensor([3]), part)
    assert torch.allclose(
        mean, torch.stack([p.mean for p in parts[:3]]).mean(0), rtol=1e-7, atol=1e-8
    )
    exact = values(wave, points)
    # the samples of all parts together: within the parts and between them
    between = sum((part.mean - mean).square() * 8 for part in parts[:3])
    squares = sum(part.squares for part in parts[:3]) + between
    assert torch.allclose(variance, squares / (24 * 23), rtol=1e-7, atol=1e-8)
    assert (mean - exact).square().mean() < 2 * variance.mean() + 1e-6
    assert (cache.count == torch.tensor([0, 0, 0, 24, 0])).all()
    # a resumed cache goes on where the saved one stopped
    other = LabelCache(instances=5, points=30)
    other.load_state_dict(cache.state_dict())
    for a, b in zip(cache.update(torch.tensor([3]), parts[3]),
                    other.update(torch.tensor([3]), parts[3]), strict=True):  # fmt: skip
        assert torch.equal(a, b)
    with pytest.raises(CheckpointError, match="count"):
        LabelCache(4, 30).load_state_dict(cache.state_dict())
    with pytest.raises(InvalidArgument, match="shape"):
        cache.update(torch.tensor([1, 2]), parts[0])


# --- random streams -----------------------------------------------------------------------------


def test_streams_repeat_and_ranks_differ():
    points, problem = DISK.sample_interior(20, stream()), Dirichlet(wave)
    state = torch.get_rng_state()

    def run(**key):
        return WalkOnSpheres(4)(DISK, problem, points, stream(**key)).mean

    assert torch.equal(run(), run())
    assert torch.equal(run(step=3), run(step=3))
    assert not torch.equal(run(), run(rank=1)) and not torch.equal(run(), run(step=1))
    assert torch.equal(state, torch.get_rng_state())


def test_bfloat_points_and_autocast_never_reach_the_walker():
    points = DISK.sample_interior(20, stream())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = WalkOnSpheres(4)(DISK, Dirichlet(wave), points, stream()).mean
    assert torch.equal(inside, WalkOnSpheres(4)(DISK, Dirichlet(wave), points, stream()).mean)
    assert inside.dtype == torch.float64


# --- star family, points outside, mistakes ------------------------------------------------------


@pytest.mark.parametrize("tabulated", [False, True])
def test_star_family_against_the_integral_equation(tabulated):
    star = star_family(6, stream())
    source = Gaussians(*(torch.randn(6, 2, *s, generator=stream()) for s in ((), (2,))))
    points = star.sample_interior(16, stream(1))
    domain = Tabulated(star, 129) if tabulated else star
    estimate = WalkOnSpheres(4000)(domain, Dirichlet(wave, source), points, stream(2))
    exact = star_reference(star, wave, points, source)
    # g varies by up to 3 per unit length, the slack of the table ends walks 1e-3 earlier
    assert_close(estimate, exact, 6e-3)
    # close to the boundary hardly any walk goes elsewhere, and few walks do not know their error
    z = ((estimate.mean - exact) / estimate.standard_error)[star.signed_distance(points) < -0.1]
    assert abs(float(z.square().mean()) - 1) < 4 * math.sqrt(2 / len(z))


def test_points_outside():
    points = at((0.3, 0.2), (2.0, 0.0), (1.0, 0.0))
    with pytest.raises(InvalidArgument, match="1 of 3 points outside"):
        WalkOnSpheres(4)(DISK, Dirichlet(wave), points, stream())
    estimate = WalkOnSpheres(4, outside="nan")(DISK, Dirichlet(wave), points, stream())
    assert estimate.mean.isnan().tolist() == [[False, True, False]]
    assert estimate.inside.tolist() == [[True, False, True]]
    # on the boundary the answer is g, with no step made
    assert float(estimate.mean[0, 2]) == pytest.approx(math.e, rel=1e-6)
    assert float(estimate.steps[0, 2]) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"walks": 0}, "walks"),
        ({"walks": 3, "antithetic": True}, "even"),
        ({"eps": 0.0}, "eps"),
        ({"outside": "drop"}, "outside"),
        ({"dtype": torch.bfloat16}, "dtype"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InvalidArgument, match=words):
        WalkOnSpheres(**settings)


def test_problems_are_checked():
    point, engine = at((0.0, 0.0)), WalkOnSpheres(4)
    with pytest.raises(InvalidArgument, match="screening"):
        engine(DISK, Dirichlet(wave, screening=-1.0), point, stream())
    with pytest.raises(InvalidArgument, match="bound"):
        problem = Dirichlet(wave, screening=constant(1.0), bound=0.0)
        engine(DISK, problem, point, stream())
    with pytest.raises(InvalidArgument, match="cancel"):
        WalkOnSpheres(4, antithetic=True)(DISK, Dirichlet(wave), point, stream(), gradient=point)
    with pytest.raises(InvalidArgument, match="d = 2"):
        engine(DISK, Dirichlet(wave), torch.zeros(1, 2, 3), stream())


def test_one_sample_has_no_variance():
    estimate = WalkOnSpheres(1)(DISK, Dirichlet(wave), at((0.0, 0.0)), stream())
    assert estimate.variance.isnan().all() and estimate.halves.isnan().all()
    assert estimate.mean.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["poisson", "screened", "delta"])
def test_the_accelerator_agrees(kind):
    star = star_family(6, stream())
    source = Gaussians(*(torch.randn(6, 2, *s, generator=stream()) for s in ((), (2,))))
    points = star.sample_interior(16, stream(1))
    screening = {"poisson": None, "screened": 2.0, "delta": constant(2.0)}[kind]
    on_cpu = WalkOnSpheres(4000)(star, Dirichlet(wave, source, screening), points, stream(2))
    device_stream = Streams(0, 0, device="cuda").generator("walks")
    for domain in (star, Tabulated(star, 129)):
        problem = Dirichlet(wave, source.to("cuda"), screening)
        estimate = WalkOnSpheres(4000)(domain.to("cuda"), problem, points.to("cuda"), device_stream)
        gap = (estimate.mean.cpu() - on_cpu.mean).abs()
        assert (gap < 5 * (estimate.variance.cpu() + on_cpu.variance).sqrt() + 6e-3).all()
    on = star.to("cuda").sample_boundary(10, device_stream)
    assert on.points.device.type == "cuda"
