"""Baselines: fits against plain least squares, published figures, edge cases."""

import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch

from sciml.physics.pde import PDE, Points
from sciml.physics.problems import evolution_box, poisson_box, unit_ball
from sciml.physics.references import baselines


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def relative(value, reference):
    return float((value - reference).norm() / reference.norm())


def test_fits_equal_plain_least_squares():
    problem = evolution_box.Heat(dim=3)
    p = problem.sample_test(500, generator())
    u = problem.exact(p.x, p.t)
    basis, offset = 1 + p.x[:, 0] ** 2, torch.sin(p.x[:, 1])
    one = torch.ones_like(p.t)

    def best(columns):
        design = basis[:, None] * columns
        fit = torch.linalg.lstsq(design, (u - offset)[:, None]).solution
        freedom = len(u) / (len(u) - design.shape[1])
        return relative((design @ fit)[:, 0] + offset, u) * freedom**0.5

    assert baselines.constant_error(u, basis, offset) == pytest.approx(best(one), rel=1e-9)
    full = baselines.affine_error(u, basis, offset, p.x, p.t)
    assert full == pytest.approx(best(torch.cat([one, p.x, p.t], 1)), rel=1e-9)
    static = baselines.affine_error(u, basis, offset, p.x)
    assert static == pytest.approx(best(torch.cat([one, p.x], 1)), rel=1e-9)


def test_chunks_add_up_to_the_whole():
    problem = evolution_box.LogFokkerPlanck(dim=4)
    p = problem.sample_test(300, generator())
    u = problem.exact(p.x, p.t)
    whole, parts, other = (baselines.BaselineFit(problem, 300) for _ in range(3))
    whole.update(p, u)
    for first in range(0, 200, 50):
        parts.update(p[first : first + 50], u[first : first + 50])
    other.update(p[200:], u[200:])
    for mine, theirs in zip(parts.sums(), other.sums(), strict=True):
        mine += theirs  # what an all-reduce does
    assert set(whole.errors()) == {"constant", "affine", "stationary"}
    for name, value in whole.errors().items():
        assert parts.errors()[name] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("dim", "constant", "affine"), [(10, 7.4e-2, 2.6e-2), (100, 6.5e-2, 7.1e-3)]
)
def test_published_two_body_figures(dim, constant, affine):
    errors = baselines.baseline_errors(unit_ball.SineGordon(dim=dim), 20_000, generator())
    assert errors["constant"] == pytest.approx(constant, rel=0.03)
    assert errors["affine"] == pytest.approx(affine, rel=0.05)
    assert errors["linearised"] == pytest.approx(errors["affine"], rel=0.02)


@pytest.mark.parametrize(
    ("dim", "constant", "points"), [(10, 1.6e-3, 20_000), (100, 3.3e-4, 20_000), (1000, 9e-6, 4000)]
)
def test_published_three_body_constant(dim, constant, points):
    # the figures belong to the draw of d - 2 numbers that follows the two-body coefficients
    draw = np.random.RandomState(0).randn(2 * dim - 3)[dim - 1 :]
    problem = unit_ball.Poisson(dim=dim, solution="three_body")
    problem.sum.coefficients = torch.from_numpy(draw)
    errors = baselines.baseline_errors(problem, points, generator())
    assert errors["constant"] == pytest.approx(constant, rel=0.05)


@pytest.mark.parametrize("dim", [10, 300])
def test_affine_fit_resolves_what_the_constant_leaves(dim):
    errors = baselines.baseline_errors(
        unit_ball.Poisson(dim=dim, solution="three_body"), 4000, generator()
    )
    assert errors["affine"] == pytest.approx(errors["constant"], rel=0.02)


def test_published_figures_at_a_thousand_dimensions():
    plain = baselines.baseline_errors(unit_ball.SineGordon(dim=1000), 20_000, generator())
    assert plain["constant"] == pytest.approx(7.5e-3, rel=0.03)
    assert plain["affine"] == pytest.approx(3.6e-4, rel=0.15)
    centred = baselines.baseline_errors(
        unit_ball.SineGordon(dim=1000, centred=True), 20_000, generator()
    )
    assert centred["constant"] == pytest.approx(1.0, abs=2e-3)
    skill = baselines.skills(centred["affine"], centred)
    # published 0.050 (and 3.6e-4): what a fit to 5 000 points gives on other points
    assert skill["skill"] == pytest.approx(0.0445, rel=0.02)
    assert centred["linearised"] == pytest.approx(centred["affine"], rel=0.02)
    assert skill["skill_affine"] == 1.0


def test_high_dimension_uses_the_problems_own_affine_part():
    problem = unit_ball.SineGordon(dim=3000, centred=True)
    errors = baselines.baseline_errors(problem, 1000, generator())
    assert set(errors) == {"constant", "linearised"}
    assert errors["linearised"] < 0.05 * errors["constant"]
    assert baselines.skills(0.01, errors)["skill_affine"] == 0.01 / errors["linearised"]


class Affine(PDE):
    """A solution that an affine fit gets right."""

    time_dependent = True
    conditions: ClassVar = {}

    def lift(self, x, t):
        return 1 - t, x.sum(1, keepdim=True)

    def exact(self, x, t):
        return x.sum(1) + (1 - t[:, 0]) * (2 - x[:, 0] + 3 * t[:, 0])

    def sample_test(self, n, generator):
        x = torch.rand(n, self.dim, generator=generator, dtype=torch.float64)
        return Points(x, torch.rand(n, 1, generator=generator, dtype=torch.float64))


def test_affine_solution_has_no_affine_skill():
    errors = baselines.baseline_errors(Affine(dim=3), 400, generator())
    assert set(errors) == {"constant"} and errors["constant"] > 0.05
    assert set(baselines.skills(0.1, errors)) == {"skill"}


def test_constant_of_a_pair_of_boxes():
    errors = baselines.baseline_errors(poisson_box.PoissonBox(dim=2), 20_000, generator())
    # mean 4/pi^2 against root mean square 1/2
    assert errors["constant"] == pytest.approx((1 - (8 / torch.pi**2) ** 2) ** 0.5, rel=0.02)


def test_no_points_no_errors():
    fit = baselines.BaselineFit(unit_ball.Poisson(dim=4), 10)
    assert fit.errors() == {} and fit.sums() == []


def test_processes_can_send_each_other_their_sums():
    problem = poisson_box.PoissonBox(dim=2)
    found = baselines.BaselineFit(problem, 50)
    p = problem.sample_test(50, torch.Generator().manual_seed(0))
    found.update(p, problem.exact(p.x, p.t))
    assert pickle.loads(pickle.dumps(found)).errors() == found.errors()
