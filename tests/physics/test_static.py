"""Static problems: sources against differentiation, sampling laws, refusals."""

import itertools

import numpy as np
import pytest
import torch
from torch.func import hessian, vmap

from sciml.errors import InvalidArgument
from sciml.physics import ball, many_body, samplers
from sciml.physics.pde import Fields

BALL = (ball.Poisson, ball.AllenCahn, ball.SineGordon)


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
    assert torch.allclose(problem.lift(p.x, None)[0][:, 0], terms.value)
    assert torch.allclose(gradient, terms.direction[:, None] * p.x)
    assert torch.allclose(trace, terms.trace)
    assert problem.residual_scale == pytest.approx(1 / 6)


def test_coefficients_are_the_first_draw_of_the_numpy_seed():
    np.random.seed(7)
    expected = np.random.randn(9)
    problem = ball.SineGordon(dim=10, coefficient_seed=7)
    assert np.array_equal(problem.sum.coefficients.numpy(), expected)
    problem = ball.SineGordon(dim=10, solution="three_body", coefficient_seed=7)
    assert np.array_equal(problem.sum.coefficients.numpy(), expected[:8])


@pytest.mark.parametrize("solution", ["two_body", "three_body"])
@pytest.mark.parametrize("centred", [False, True])
def test_float32_training_source_keeps_its_digits(solution, centred):
    problem = ball.SineGordon(dim=2000, solution=solution, centred=centred)
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
        assert torch.allclose(whole[0], one.value(x))


def small_tiles(rows, columns, device):
    for top, first in itertools.product(range(0, rows, 3), range(0, columns, 5)):
        yield slice(top, min(top + 3, rows)), first, min(first + 5, columns)


def test_tiles_cover_everything_once():
    count = torch.zeros(300, 70_000)
    for rows, first, last in many_body.tiles(300, 70_000, count.device):
        count[rows, first:last] += 1
    assert (count == 1).all()


def test_squared_norm_is_offered_as_a_feature():
    problem = ball.Poisson(dim=4)
    x = samplers.ball(5, 4, generator(), dtype=torch.float64)
    value = problem.feature("squared_norm", x, None)
    assert torch.allclose(value[:, 0], (x * x).sum(1)) and value.shape == (5, 1)
    with pytest.raises(InvalidArgument, match="Did you mean 'squared_norm'"):
        problem.feature("square_norm", x, None)


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
        ball.SineGordon(**arguments)
