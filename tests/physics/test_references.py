"""Deterministic references: published values, Monte Carlo, two methods against each other."""

import math
import time

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.pde import Fields
from sciml.physics.problems.hjb import HJBLQG, HJBRosenbrock
from sciml.physics.problems.semilinear import SemilinearHeat, SemilinearSineGordon
from sciml.physics.problems.semilinear_allen_cahn import SemilinearAllenCahn
from sciml.physics.references.quadrature import (
    LogQuadraticReference,
    SymmetricTridiagonal,
    mean_arctan_max,
)
from sciml.physics.references.radial_parabolic import RadialSolution, chebyshev_points, radau


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def origin(dim):
    return torch.zeros(1, dim), torch.zeros(1, 1)


@pytest.mark.parametrize(
    ("dim", "value"),
    [
        (10, 2.15702246),
        (100, 4.59016172),
        (250, 5.51545917),
        (1000, 6.90625516),
        (10000, 9.21019037),
    ],
)
def test_lqg_at_the_origin(dim, value):
    assert HJBLQG(dim=dim).exact(*origin(dim)).item() == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize(
    "problem",
    [
        HJBLQG(dim=20),
        HJBLQG(dim=5, mu=2.5),
        HJBLQG(dim=100, mu=0.5),
        HJBRosenbrock(dim=20),
        HJBRosenbrock(dim=6, mu=0.5),
        HJBRosenbrock(dim=90, coefficient_seed=2),
    ],
    ids=lambda p: f"{type(p).__name__}-{p.dim}-{p.mu}",
)
def test_logarithmic_costs_against_monte_carlo(problem):
    """Cole-Hopf by sampling, within four standard errors."""
    n, g = 100_000, generator(5)
    p = problem.sample_test(3, g)
    exact = problem.exact(p.x, p.t)
    for i in range(len(p)):
        noise = torch.randn(n, problem.dim, generator=g, dtype=torch.float64)
        x = p.x[i] + (2 * (problem.final_time - p.t[i])).sqrt() * noise
        sample = torch.exp(-problem.mu * problem.terminal(x)[:, 0])
        estimate = -sample.mean().log() / problem.mu
        error = sample.std() / math.sqrt(n) / sample.mean() / problem.mu
        assert (estimate - exact[i]).abs() < 4 * error


@pytest.mark.parametrize(
    ("dim", "terminal", "constant", "closed_form"),
    # method sheet section 6, from a smaller sample at d = 20 (constant 0.114 there)
    [(20, 0.230, 0.1167, 0.0244), (100, 0.155, 0.070, 0.0031)],
)
def test_lqg_baselines(dim, terminal, constant, closed_form):
    problem = HJBLQG(dim=dim)
    p = problem.sample_test(20_000, generator())
    u = problem.exact(p.x, p.t)
    found = {k: relative(v, u) for k, v in problem.baselines(p).items()}
    assert found["terminal"] == pytest.approx(terminal, rel=0.02)
    assert found["closed_form"] == pytest.approx(closed_form, rel=0.02)
    basis, offset = problem.constant_basis(p)
    best = (basis @ (u - offset)) / (basis @ basis)
    assert relative(best * basis + offset, u) == pytest.approx(constant, rel=0.02)


def test_methods_for_quadratic_forms_agree():
    """Both methods and LQG's own integral agree where all three apply."""
    problem = HJBRosenbrock(dim=500)
    p = problem.sample_test(50, generator())
    p.t[0], p.t[1], p.t[2] = 0.0, 1.0, 1.0 - 1e-9
    tau = problem.to_go(p.t)
    eigen = problem.reference(p.x, tau, "eigen")
    moments = problem.reference(p.x, tau, "moments")
    assert (eigen - moments).abs().max() < 1e-11
    assert eigen[1].item() == pytest.approx(problem.terminal(p.x)[1, 0].item(), abs=1e-11)

    identity = SymmetricTridiagonal(torch.ones(60).double(), torch.zeros(59).double())
    form, lqg = LogQuadraticReference(identity, 1.5), HJBLQG(dim=60, mu=1.5)
    q = lqg.sample_test(20, generator())
    difference = form(q.x, lqg.to_go(q.t)) - math.log(2) - lqg.exact(q.x, q.t)
    assert difference.abs().max() < 1e-11


def test_rosenbrock_matrix_is_the_quadratic_form():
    problem = HJBRosenbrock(dim=7, coefficient_seed=4)
    x = torch.randn(5, 7, generator=generator(), dtype=torch.float64)
    dense = problem.matrix.dense()
    assert torch.allclose(problem.matrix.matvec(x), x @ dense, rtol=1e-12, atol=1e-11)
    off = -problem.matrix.off
    rows = ((x[:, :-1] - x[:, 1:]) ** 2 * off).sum(1)
    b = problem.matrix.diagonal[1:] - off
    b[:-1] -= off[1:]
    assert bool(((b >= 0.5) & (b <= 1.5) & (off >= 0.5) & (off <= 1.5)).all())
    rows += (x[:, 1:] ** 2 * b).sum(1)
    assert torch.allclose(problem.terminal(x)[:, 0], rows.log1p(), rtol=1e-12, atol=1e-11)
    v = torch.tensor([0.0, 0.3, 20.0], dtype=torch.float64)
    expected = torch.stack([torch.logdet(torch.eye(7).double() + w * dense) for w in v])
    assert torch.allclose(problem.matrix.log_determinants(v), expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("cls", [HJBLQG, HJBRosenbrock])
def test_references_take_many_points_at_many_dimensions(cls):
    problem = cls(dim=1000)
    p = problem.sample_test(20_000, generator())
    start = time.process_time()
    u = problem.exact(p.x, p.t)
    assert time.process_time() - start < 30  # CPU seconds on a shared machine; 1-2 s on a free one
    assert relative(problem.baselines(p)["closed_form"], u) < 3e-4
    few = problem.exact(p.x[:100], p.t[:100])
    assert (few - u[:100]).abs().max() < 1e-11  # nodes depend on the batch, values do not


def test_rosenbrock_reference_at_ten_thousand_dimensions():
    problem = HJBRosenbrock(dim=10_000)
    p = problem.sample_test(20, generator())
    closed = problem.baselines(p)["closed_form"]
    assert relative(closed, problem.exact(p.x, p.t)) < 5e-5


HEAT = {10: 0.46954987, 100: 0.31662781, 1000: 0.28746839, 10000: 0.28430713}
SINE_GORDON = {10: 0.32292639, 100: 0.05280944, 1000: 0.00558892, 10000: 0.00056209}


@pytest.mark.parametrize("dim", HEAT)
def test_semilinear_values_at_the_origin(dim):
    heat, sine = SemilinearHeat(dim=dim), SemilinearSineGordon(dim=dim)
    assert heat.reference_value == pytest.approx(HEAT[dim], abs=1e-8)
    assert sine.reference_value / dim == pytest.approx(SINE_GORDON[dim], abs=1e-8)


def test_rational_allen_cahn_is_the_known_value():
    """E, Han and Jentzen report 0.0528 at d = 100."""
    problem = SemilinearAllenCahn(dim=100, terminal_data="rational")
    assert problem.reference_value == pytest.approx(0.0528, abs=5e-5)


@pytest.mark.parametrize(
    "dim", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (100, 10_000))]
)
def test_radial_reference_is_converged_everywhere(dim):
    """Twice the effort changes nothing over the whole range that is tested on."""
    problem = SemilinearHeat(dim=dim)
    arguments = {
        "dim": dim,
        "final_time": 0.3,
        "terminal": lambda rho: 5 / (10 + 2 * rho),
        "reaction": problem.reaction,
        "reaction_prime": problem.reaction_prime,
        "pole": 5.0,
    }
    fine = RadialSolution(**arguments, points=160, steps=20)
    p = problem.sample_test(2000, generator())
    rho, tau = p.x.square().sum(1), 0.3 - p.t[:, 0]
    far = torch.linspace(0, 5 * dim, 2000, dtype=torch.float64)
    for r in (rho, far):
        error = (problem.radial(r, tau) - fine(r, tau)).abs().max()
        assert error < problem.reference_accuracy * fine(r, tau).abs().max()


@pytest.mark.parametrize("dim", [1, 3, 10, 100, 1000])
@pytest.mark.parametrize("cls", [SemilinearHeat, SemilinearAllenCahn, SemilinearSineGordon])
def test_radial_reference_solves_its_equation_everywhere(cls, dim):
    """v_tau = 4 rho v_rho_rho + 2 d v_rho + F(v), differentiated by autograd in (rho, tau)."""
    data = {"terminal_data": "rational"} if cls is SemilinearAllenCahn else {}
    problem = cls(dim=dim, **data)
    p = problem.sample_test(2000, generator())
    far = torch.linspace(0, 5 * dim, 2000, dtype=torch.float64)
    for squared in (p.x.square().sum(1), far):
        rho = squared.clone().requires_grad_()
        tau = (0.3 - p.t[:, 0]).requires_grad_()
        v = problem.radial(rho, tau)
        slope, speed = torch.autograd.grad(v.sum(), (rho, tau), create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), rho)
        right = 4 * rho * curvature + 2 * dim * slope + problem.reaction(v)
        assert (speed - right).abs().max() < 1e-9 * max(1.0, speed.abs().max().item())


def test_unscaled_sine_gordon_is_the_same_function():
    scaled, plain = SemilinearSineGordon(dim=7), SemilinearSineGordon(dim=7, rescaled=False)
    p = scaled.sample_test(10, generator())
    assert torch.allclose(scaled.exact(p.x, p.t), 7 * plain.exact(p.x, p.t), rtol=1e-12, atol=1e-11)
    assert plain.residual_scale == 7


def test_arctan_max_knows_the_origin_only():
    problem = SemilinearAllenCahn(dim=100)
    p = problem.sample_test(50, generator())
    assert len(p) == 1 and problem.exact(p.x, p.t).tolist() == [1.0451]
    assert problem.reference_value == 1.0451 and problem.reference_accuracy == 1e-3
    with pytest.raises(InvalidArgument, match="away from t = 0, x = 0.*rational"):
        problem.exact(p.x + 1, p.t)
    unknown = SemilinearAllenCahn(dim=50)
    assert unknown.reference_value is None
    with pytest.raises(InvalidArgument, match="problem.dim=50.*10, 100, 1000, 10000"):
        unknown.exact(*origin(50))


def test_arctan_max_baselines():
    problem = SemilinearAllenCahn(dim=100)
    found = problem.baselines(problem.sample_test(1, generator()))
    assert found["terminal"].item() == 0
    assert found["closed_form"].item() == pytest.approx(1.0451, rel=1e-3)
    x = torch.tensor([0.3, -1.0, 0.2], dtype=torch.float64)
    mean = mean_arctan_max(x, torch.tensor(0.2))
    noise = torch.randn(200_000, 3, generator=generator(), dtype=torch.float64)
    sample = torch.atan((x + math.sqrt(0.4) * noise).amax(1))
    assert (sample.mean() - mean).abs() < 4 * sample.std() / math.sqrt(200_000)


@pytest.mark.parametrize("cls", [SemilinearHeat, SemilinearSineGordon])
def test_semilinear_closed_form_improves_with_dimension(cls):
    errors = []
    for dim in (10, 1000):
        problem = cls(dim=dim)
        p = problem.sample_test(500, generator())
        closed = problem.baselines(p)["closed_form"]
        errors.append(relative(closed, problem.exact(p.x, p.t)))
    assert errors[0] < 0.05 and errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("cls", [SemilinearHeat, SemilinearSineGordon])
def test_terminal_conditions_vanish_for_the_terminal_data(cls):
    problem = cls(dim=5)
    assert dict(problem.conditions) == {"terminal": 20.0, "terminal_gradient": 1.0}
    assert not cls(dim=5, constraint="hard").conditions
    p = problem.sample_condition("terminal", 2000, generator())
    assert bool((p.t == problem.final_time).all())
    assert p.x.square().mean() == pytest.approx(0.6, rel=0.1)
    p = p.to(torch.float64)
    p.t.fill_(problem.final_time)
    x = p.x.clone().requires_grad_()
    value = problem.exact(x, p.t)
    (grad,) = torch.autograd.grad(value.sum(), x)
    u = Fields(value, gradient=lambda: grad)
    assert problem.condition_residual("terminal", u, p).abs().max() < 1e-8
    slope = problem.condition_residual("terminal_gradient", u, p)
    assert slope.shape == (2000, 5) and slope.abs().max() < 1e-7


def test_kinked_terminal_gradient():
    problem = SemilinearAllenCahn(dim=5)
    x = torch.randn(9, 5, generator=generator(), dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(problem.terminal(x).sum(), x)
    assert torch.allclose(problem.terminal_gradient(x), grad, rtol=1e-12, atol=1e-12)


def test_collocation_pieces():
    c, a = radau(3)
    assert c[-1] == pytest.approx(1)
    for power in range(3):
        assert a @ c**power == pytest.approx(c ** (power + 1) / (power + 1))
    z, d = chebyshev_points(12)
    assert d @ z**5 == pytest.approx(5 * z**4)
