"""Static problems: sources against differentiation, sampling laws, refusals."""

import importlib
import inspect
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.func import hessian, vmap

from sciml.autodiff import DenseDirections, push
from sciml.errors import InvalidArgument
from sciml.physics import samplers, tiling
from sciml.physics.pde import Fields
from sciml.physics.problems import biharmonic, evolution_box, many_body, poisson_box, unit_ball

BALL = (unit_ball.Poisson, unit_ball.AllenCahn, unit_ball.SineGordon)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fields(problem, x):
    """Return the exact solution and its Laplacian by dense differentiation."""
    matrix = vmap(hessian(lambda v: problem.exact(v[None], None)[0]))(x)
    return Fields(problem.exact(x, None), matrix.diagonal(dim1=1, dim2=2).sum(1))


@pytest.mark.parametrize("dim", [3, 5, 10])
@pytest.mark.parametrize("solution", ["two_body", "three_body"])
@pytest.mark.parametrize("cls", BALL)
def test_ball_residual_of_exact_solution_vanishes(cls, solution, dim):
    for centred in (False, True):
        problem = cls(dim=dim, solution=solution, centred=centred, coefficient_seed=1)
        p = problem.sample_test(40, generator())
        assert p.x.dtype == torch.float64
        assert problem.residual(fields(problem, p.x), p).abs().max() < 1e-9


@pytest.mark.parametrize("cls", BALL)
def test_ball_boundary_value_is_zero_and_envelope_terms_agree(cls):
    problem = cls(dim=6, centred=True)
    x = samplers.sphere(10, 6, generator(), dtype=torch.float64)
    assert problem.exact(x).abs().max() < 1e-12
    p = problem.sample_test(10, generator())
    terms = problem.lift_terms(p)
    lift = lambda v: problem.lift(v[None], None)[0][0, 0]  # noqa: E731
    gradient = vmap(torch.func.grad(lift))(p.x)
    trace = vmap(hessian(lift))(p.x).diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(problem.lift(p.x, None)[0][:, 0], terms.value, rtol=1e-12, atol=1e-12)
    assert torch.allclose(gradient, terms.direction[:, None] * p.x, rtol=1e-12, atol=1e-11)
    assert torch.allclose(trace, terms.trace, rtol=1e-12, atol=1e-10)
    assert problem.residual_scale == pytest.approx(1 / 6)


def test_coefficients_are_the_first_draw_of_the_numpy_seed():
    np.random.seed(7)
    expected = np.random.randn(9)
    problem = unit_ball.SineGordon(dim=10, coefficient_seed=7)
    assert np.array_equal(problem.sum.coefficients.numpy(), expected)
    problem = unit_ball.SineGordon(dim=10, solution="three_body", coefficient_seed=7)
    assert np.array_equal(problem.sum.coefficients.numpy(), expected[:8])


@pytest.mark.parametrize("solution", ["two_body", "three_body"])
@pytest.mark.parametrize("centred", [False, True])
def test_float32_training_source_keeps_its_digits(solution, centred):
    problem = unit_ball.SineGordon(dim=2000, solution=solution, centred=centred)
    p = problem.sample(50, generator())
    assert p.x.dtype == p.source.dtype == torch.float32
    reference = problem.source(p.x.double())
    assert (p.source - reference).norm() < 2e-6 * reference.norm()


def test_blocks_do_not_change_the_sums(monkeypatch):
    x = samplers.ball(7, 23, generator(), dtype=torch.float64)
    for name in ("two_body", "three_body"):
        one = many_body.many_body(name, dim=23, centred=False, coefficient_seed=0)
        whole = one.derivatives(x)
        with monkeypatch.context() as patch:
            patch.setattr(many_body, "tiles", small_tiles)
            parts = one.derivatives(x)
        for a, b in zip(whole, parts, strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
        assert torch.allclose(whole[0], one.value(x), rtol=1e-12, atol=1e-11)


def small_tiles(rows, columns, device):
    for top, first in itertools.product(range(0, rows, 3), range(0, columns, 5)):
        yield slice(top, min(top + 3, rows)), first, min(first + 5, columns)


def test_tiles_cover_everything_once():
    count = torch.zeros(300, 70_000)
    for rows, first, last in tiling.tiles(300, 70_000, count.device):
        count[rows, first:last] += 1
    assert (count == 1).all()


def test_radius_is_offered_as_a_feature():
    problem = unit_ball.Poisson(dim=4)
    x = samplers.ball(5, 4, generator(), dtype=torch.float64)
    value = problem.feature("radius", x, None)
    assert torch.allclose(value[:, 0], (x * x).sum(1), rtol=1e-12, atol=1e-12) and value.shape == (
        5,
        1,
    )
    with pytest.raises(InvalidArgument, match="Did you mean 'radius'"):
        problem.feature("radiu", x, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dim": 2, "solution": "three_body"}, "problem.dim=2.*at least 3"),
        ({"dim": 1}, "problem.dim=1.*at least 2"),
        ({"dim": -4}, "problem.dim=-4"),
        ({"dim": 10, "solution": "two_bodies"}, "Did you mean 'two_body'"),
        ({"dim": 10, "coefficient_seed": -1}, "coefficient_seed=-1"),
    ],
)
def test_unusable_arguments_are_named(arguments, words):
    with pytest.raises(InvalidArgument, match=words):
        unit_ball.SineGordon(**arguments)


def bilaplacian(problem, x):
    """Return the bilaplacian of the exact solution by nested dense differentiation."""

    def laplacian(v):
        return hessian(lambda z: problem.exact(z[None], None)[0])(v).trace()

    return vmap(lambda v: hessian(laplacian)(v).trace())(x)


@pytest.mark.parametrize("dim", [3, 5, 10])
@pytest.mark.parametrize("centred", [False, True])
def test_biharmonic_residual_of_exact_solution_vanishes(dim, centred):
    problem = biharmonic.Biharmonic(dim=dim, centred=centred, coefficient_seed=1)
    p = problem.sample_test(10, generator())
    u = Fields(problem.exact(p.x), bilaplacian(problem, p.x))
    assert problem.residual(u, p).abs().max() < 1e-9
    assert problem.order == 4 and u.bilaplacian is u.trace


def test_biharmonic_vanishes_on_both_spheres():
    problem = biharmonic.Biharmonic(dim=5)
    for radius in (1.0, 2.0):
        x = samplers.sphere(8, 5, generator(), radius, torch.float64)
        assert problem.exact(x).abs().max() < 1e-12
        assert problem.lift(x, None)[0].abs().max() < 1e-12


@pytest.mark.parametrize("centred", [False, True])
def test_biharmonic_float32_source_keeps_its_digits(centred):
    problem = biharmonic.Biharmonic(dim=500, centred=centred)
    p = problem.sample(50, generator())
    reference = problem.source(p.x.double())
    assert (p.source - reference).norm() < 2e-6 * reference.norm()


def test_biharmonic_needs_three_dimensions():
    with pytest.raises(InvalidArgument, match="problem.dim=2.*at least 3"):
        biharmonic.Biharmonic(dim=2)


def test_biharmonic_normal_derivative_closes_the_problem():
    problem = biharmonic.Biharmonic(dim=5, centred=True)
    p = problem.sample_condition("normal_derivative", 64, generator()).to(torch.float64)
    assert {round(r) for r in p.x.norm(dim=1).tolist()} == {1, 2}
    slope = vmap(torch.func.grad(lambda v: problem.exact(v[None])[0]))(p.x)
    u = Fields(problem.exact(p.x), gradient=lambda: slope)
    assert (
        problem.condition_residual("normal_derivative", u, p).abs().max() < 1e-4
    )  # float32 points

    def invisible(v):
        r = (v * v).sum().sqrt()
        return r**2 - 1 + 24 / 7 * (r**-3 - 1)

    assert abs(invisible(2 * torch.eye(5, dtype=torch.float64)[0])) < 1e-12
    interior = problem.sample_test(4, generator()).x
    twice = vmap(lambda v: hessian(lambda z: hessian(invisible)(z).trace())(v).trace())(interior)
    assert twice.abs().max() < 1e-9
    extra = vmap(torch.func.grad(invisible))(p.x)
    u = Fields(problem.exact(p.x), gradient=lambda: slope + extra)
    assert problem.condition_residual("normal_derivative", u, p).abs().min() > 1


def test_biharmonic_weight_zero_is_the_published_problem():
    assert not biharmonic.Biharmonic(dim=5, normal_weight=0.0).conditions
    with pytest.raises(InvalidArgument, match="normal_weight=-1"):
        biharmonic.Biharmonic(dim=5, normal_weight=-1.0)


@pytest.mark.parametrize("solution", poisson_box.SOLUTIONS)
@pytest.mark.parametrize("dim", [3, 5, 10])
def test_poisson_box_residual_of_exact_solution_vanishes(solution, dim):
    problem = poisson_box.PoissonBox(
        dim=dim + dim % 2 * (solution == "pair_products"), solution=solution
    )
    p = problem.sample_test(20, generator())
    assert problem.residual(fields(problem, p.x), p).abs().max() < 1e-9
    wall = problem.sample_condition("boundary", 30, generator())
    u = Fields(problem.exact(wall.x))
    assert problem.condition_residual("boundary", u, wall).abs().max() < 1e-5


@pytest.mark.parametrize("solution", poisson_box.SOLUTIONS)
def test_poisson_box_closed_affine_part_is_the_least_squares_fit(solution):
    problem = poisson_box.PoissonBox(dim=4, solution=solution)
    p = problem.sample_test(60_000, generator())
    u = problem.exact(p.x)
    columns = torch.cat([torch.ones_like(p.x[:, :1]), p.x], 1)
    fit = torch.linalg.lstsq(columns, u[:, None]).solution
    best = (u - (columns @ fit)[:, 0]).norm()
    closed = (u - problem.baselines(p)["linearised"]).norm()
    assert best <= closed < 1.001 * best


def evolution_fields(problem, p):
    """Return value, gradient, Laplacian and time derivative of the exact solution."""

    def u(x, t):
        return problem.exact(x[None], t[None])[0]

    matrix = vmap(hessian(u))(p.x, p.t)
    slope = vmap(torch.func.grad(u))(p.x, p.t)
    dt = vmap(torch.func.grad(u, argnums=1))(p.x, p.t)[:, 0]
    trace = matrix.diagonal(dim1=1, dim2=2).sum(1)
    return Fields(problem.exact(p.x, p.t), trace, dt, gradient=lambda: slope)


@pytest.mark.parametrize("dim", [3, 5, 10])
@pytest.mark.parametrize(
    "build",
    [
        evolution_box.Heat,
        lambda dim: evolution_box.Heat(dim=dim, solution="sin_product", conductivity=0.1),
        evolution_box.LogFokkerPlanck,
    ],
)
def test_evolution_residual_of_exact_solution_vanishes(build, dim):
    problem = build(dim=dim)
    p = problem.sample_test(20, generator())
    assert problem.residual(evolution_fields(problem, p), p).abs().max() < 1e-9
    for name in problem.conditions:
        q = problem.sample_condition(name, 30, generator())
        u = Fields(problem.exact(q.x, q.t))
        assert problem.condition_residual(name, u, q).abs().max() < 1e-4
        assert (q.t == 0).all() == (name == "initial")


def test_log_fokker_planck_is_a_density():
    problem = evolution_box.LogFokkerPlanck(dim=2, final_time=3.0)
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    for time in (0.0, 0.4, 3.0):
        q = problem.exact(x, torch.full_like(x[:, :1], time))
        assert abs(float(q.exp().sum()) * 0.1**2 - 1) < 1e-9


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: poisson_box.PoissonBox(dim=5, solution="pair_products"), "problem.dim=5.*even"),
        (lambda: poisson_box.PoissonBox(dim=5, solution="cossum"), "Did you mean 'cos_sum'"),
        (lambda: poisson_box.PoissonBox(dim=5, boundary_weight=-1.0), "boundary_weight=-1"),
        (lambda: evolution_box.Heat(conductivity=0.0), "conductivity=0"),
        (lambda: evolution_box.LogFokkerPlanck(final_time=-1.0), "final_time=-1"),
    ],
)
def test_unusable_box_arguments_are_named(build, words):
    with pytest.raises(InvalidArgument, match=words):
        build()


@pytest.mark.parametrize(
    "problem",
    [
        unit_ball.SineGordon(dim=7),
        unit_ball.AllenCahn(dim=7, solution="three_body", centred=True),
        biharmonic.Biharmonic(dim=4),
        poisson_box.PoissonBox(dim=3),
        poisson_box.PoissonBox(dim=3, solution="squared_norm"),
    ],
)
def test_source_gradient_against_differences(problem):
    p = problem.sample_test(6, generator())
    slope = problem.source_gradient(p)
    v, h = torch.randn(6, problem.dim, generator=generator(), dtype=torch.float64), 1e-5
    difference = (problem.source(p.x + h * v) - problem.source(p.x - h * v)) / (2 * h)
    assert torch.allclose((slope * v).sum(1), difference, rtol=1e-7, atol=1e-6)
    moved = problem.moved(p)
    assert torch.equal(moved.source, p.source)
    assert problem.source_gradient(p.to(torch.float32)).dtype == torch.float32


@pytest.mark.parametrize("cls", [many_body.TwoBody, many_body.ThreeBody])
def test_differentiable_derivatives_equal_the_fast_ones(cls):
    one = cls(dim=11, centred=True, coefficient_seed=3)
    x = samplers.ball(5, 11, generator(), dtype=torch.float64)
    for fast, smooth in zip(one.derivatives(x), one.smooth_derivatives(x), strict=True):
        assert torch.allclose(fast, smooth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("problem", [unit_ball.Poisson(dim=5), biharmonic.Biharmonic(dim=5)])
@pytest.mark.parametrize("name", ["lift", "radius"])
def test_lift_and_feature_take_jets(problem, name):
    def function(x):
        return problem.lift(x, None)[0] if name == "lift" else problem.feature(name, x, None)

    x = problem.sample_test(6, generator()).x
    v = torch.randn(3, 5, generator=generator(), dtype=torch.float64)
    out = push(function, x, None, [DenseDirections(v)], order=4)

    # a polynomial of degree 4 in h: its Taylor coefficients from five values
    h = torch.arange(-2.0, 3.0, dtype=torch.float64)
    values = torch.stack([function((x[None] + s * v[:, None]).flatten(0, 1)) for s in h])
    powers = torch.linalg.solve(torch.vander(h, increasing=True), values.reshape(5, -1))
    factorial = 1.0
    for order, derivative in enumerate(out.derivatives, start=1):
        factorial *= order
        assert torch.allclose(
            derivative.flatten(), factorial * powers[order], atol=1e-9, rtol=1e-12
        )


@pytest.mark.parametrize(
    "name",
    "sine_gordon allen_cahn poisson_ball biharmonic poisson2d poisson5d poisson10d poisson100d "
    "poisson_box heat4d log_fokker_planck".split(),
)
def test_config_builds_and_shows_every_argument(name):
    path = Path(__file__).parents[2] / "configs" / "problem" / f"{name}.yaml"
    assert path.read_text().startswith("# python train.py model=")
    arguments = OmegaConf.to_container(OmegaConf.load(path))
    module, _, cls = arguments.pop("_target_").rpartition(".")
    cls = getattr(importlib.import_module(module), cls)
    assert set(arguments) == set(inspect.signature(cls).parameters)
    p = cls(**arguments).sample(3, generator())
    assert p.x.shape == (3, arguments["dim"]) and p.x.dtype == torch.float32
