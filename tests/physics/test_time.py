"""Time-dependent problems: exactness by differentiation, hard constraints, laws, refusals."""

import copy
import inspect
import pickle
from pathlib import Path

import pytest
import torch
import yaml

from sciml.autodiff import TimeDirection, one_hot, push
from sciml.errors import InvalidArgument
from sciml.physics.pde import Fields
from sciml.physics.problems.black_scholes import BlackScholesBarenblatt
from sciml.physics.problems.hjb import HJBLQG, HJBRosenbrock
from sciml.physics.problems.hjb_linear import HJBLinear
from sciml.physics.problems.schrodinger import HarmonicOscillator
from sciml.physics.problems.semilinear import SemilinearHeat, SemilinearSineGordon
from sciml.physics.problems.semilinear_allen_cahn import SemilinearAllenCahn
from sciml.physics.problems.wave import Wave
from sciml.physics.residual.residual_fields import derive_lift_terms

PROBLEMS = {
    "lqg": (HJBLQG, {}),
    "lqg_mu": (HJBLQG, {"mu": 2.5, "final_time": 0.5}),
    "lqg_small_mu": (HJBLQG, {"mu": 0.4}),
    "rosenbrock": (HJBRosenbrock, {"coefficient_seed": 3}),
    "rosenbrock_mu": (HJBRosenbrock, {"mu": 0.5, "final_time": 2.0}),
    "linear": (HJBLinear, {}),
    "linear_final_time": (HJBLinear, {"final_time": 0.5, "exponent": 1.5}),
    "bsb": (BlackScholesBarenblatt, {}),
    "bsb_final_time": (BlackScholesBarenblatt, {"final_time": 0.5, "rate": -0.1}),
    "wave": (Wave, {}),
    "oscillator": (HarmonicOscillator, {}),
    "oscillator_wave": (HarmonicOscillator, {"form": "wave"}),
    "heat": (SemilinearHeat, {}),
    "heat_hard": (SemilinearHeat, {"constraint": "hard"}),
    "allen_cahn": (SemilinearAllenCahn, {"terminal_data": "rational", "constraint": "hard"}),
    "sine_gordon": (SemilinearSineGordon, {"constraint": "hard"}),
    "sine_gordon_unscaled": (SemilinearSineGordon, {"rescaled": False}),
}
LIFTED = [k for k in PROBLEMS if k not in ("heat", "sine_gordon_unscaled") and k[:3] != "osc"]


def build(name, dim):
    cls, arguments = PROBLEMS[name]
    return cls(dim=dim, **arguments)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def dense_fields(problem, p):
    """Return the fields of the exact solution at one point by dense differentiation."""
    x = p.x[0].clone().requires_grad_()
    t = None if p.t is None else p.t[0].clone().requires_grad_()

    def u(x, t):
        return problem.exact(x[None], None if t is None else t[None])[0]

    (grad,) = torch.autograd.grad(u(x, t), x)
    diagonal = torch.autograd.functional.hessian(lambda v: u(v, t), x).diagonal()
    weights = problem.diffusion(p)
    trace = (diagonal if weights is None else diagonal * weights[0]).sum()
    dt = dtt = None
    if t is not None:
        (dt,) = torch.autograd.grad(u(x, t), t)
        dtt = torch.autograd.functional.hessian(lambda s: u(x, s), t)[0]
    return Fields(u(x, t)[None], trace[None], dt, dtt, gradient=lambda: grad[None])


@pytest.mark.parametrize("dim", [3, 5, 10])
@pytest.mark.parametrize("name", PROBLEMS)
def test_residual_of_the_reference_vanishes(name, dim):
    problem = build(name, dim)
    points = problem.sample_test(6, generator(dim))
    for i in range(len(points)):
        p = points[i : i + 1]
        residual = problem.residual(dense_fields(problem, p), p) * problem.residual_scale
        assert residual.shape == (1,)
        assert residual.abs().item() < 1e-9


@pytest.mark.parametrize("name", PROBLEMS)
def test_reference_is_float64_and_meets_the_hard_constraint(name):
    problem = build(name, 4)
    p = problem.sample_test(50, generator())
    assert p.x.dtype == torch.float64
    assert problem.exact(p.x, p.t).shape == (50,)
    a, b = problem.lift(p.x, p.t)
    if a is None:
        return
    start = problem.time_order == 2  # the wave equation holds initial data, the others terminal
    t = torch.zeros_like(p.t) if start else torch.full_like(p.t, problem.final_time)
    a, b = problem.lift(p.x, t)
    assert a.shape == b.shape == (50, 1)
    assert a.abs().max() < 1e-12
    assert torch.allclose(problem.exact(p.x, t), b[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LIFTED)
def test_closed_form_of_the_hard_constraint(name):
    problem = build(name, 5)
    p = problem.sample_test(8, generator())
    closed, derived = problem.lift_terms(p), derive_lift_terms(problem, p)
    for field in ("value", "trace", "direction", "dt", "offset", "offset_dt", "offset_trace"):
        ours, theirs = getattr(closed, field), getattr(derived, field)
        ours = torch.zeros_like(theirs) if ours is None else ours
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10), field


@pytest.mark.parametrize("name", [*PROBLEMS, "allen_cahn_kinked"])
def test_features_travel_as_jets(name):
    kinked = name == "allen_cahn_kinked"
    problem = SemilinearAllenCahn(dim=6) if kinked else build(name, 6)
    p = problem.sample(7, generator()).to(torch.float64)
    assert problem.feature_names
    for feature in problem.feature_names:
        value = problem.feature(feature, p.x, p.t)
        assert value.shape == (7, 1)
        parts = [one_hot(torch.arange(6))] + ([] if p.t is None else [TimeDirection()])
        jet = push(lambda x, t=None, f=feature: problem.feature(f, x, t), p.x, p.t, parts)
        x = p.x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(problem.feature(feature, x, p.t).sum(), x)
        assert torch.allclose(jet.value, value, rtol=1e-12, atol=1e-11)
        assert torch.allclose(jet.first[:6, :, 0].t(), grad, rtol=1e-12, atol=1e-11)
    with pytest.raises(InvalidArgument, match="feature 'nothing'"):
        problem.feature("nothing", p.x, p.t)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_can_be_copied_and_sent(name):
    problem = build(name, 4)
    p = problem.sample_test(3, generator())
    u = problem.exact(p.x, p.t)
    for other in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert torch.equal(other.exact(p.x, p.t), u)


@pytest.mark.parametrize("name", PROBLEMS)
def test_training_points_are_float32_and_follow_their_seed(name):
    problem = build(name, 4)
    p, q, other = (problem.sample(9, generator(s)) for s in (1, 1, 2))
    assert p.x.shape == (9, 4) and p.x.dtype == torch.float32
    assert torch.equal(p.x, q.x) and not torch.equal(p.x, other.x)
    if problem.time_dependent:
        assert p.t.shape == (9, 1) and 0 <= p.t.min() and p.t.max() <= problem.final_time


@pytest.mark.parametrize("name", PROBLEMS)
def test_baselines_and_constant_basis_have_the_right_shape(name):
    problem = build(name, 4)
    p = problem.sample_test(11, generator())
    for value in (*problem.baselines(p).values(), *problem.constant_basis(p)):
        assert value.shape == (11,) and bool(value.isfinite().all())


@pytest.mark.parametrize("cls", [HJBLQG, HJBRosenbrock, HJBLinear])
def test_domain_of_dependence_law(cls):
    n, dim = 200_000, 3
    published = cls(dim=dim, sampling="evaluation").sample(n, generator())
    spread = cls(dim=dim).sample(n, generator())
    assert published.x.square().mean() == pytest.approx(1.0, abs=0.02)
    # E(1 + 2 s) with s ~ U[0, t], t ~ U[0, 1]
    assert spread.x.square().mean() == pytest.approx(1.5, abs=0.02)
    late = spread.t[:, 0] > 0.95
    assert spread.x[late].square().mean() == pytest.approx(1.975, abs=0.05)
    early = spread.t[:, 0] < 0.05
    assert spread.x[early].square().mean() == pytest.approx(1.025, abs=0.05)


def test_barenblatt_points_follow_the_asset_prices():
    problem = BlackScholesBarenblatt(dim=4)
    p = problem.sample(200_000, generator())
    late = p.t[:, 0] > 0.95
    growth = torch.exp(0.05 * p.t[late]).mean()
    expected = torch.tensor([1.0, 0.5, 1.0, 0.5]) * growth
    assert torch.allclose(p.x[late].mean(0), expected, rtol=0.02)
    # u(0, x0) is the mean of the discounted payoff
    x0, t0 = torch.tensor([[1.0, 0.5, 1.0, 0.5]]), torch.zeros(1, 1)
    assert problem.exact(x0, t0).item() == pytest.approx(2.5 * 1.23367805995674, rel=1e-12)


def test_wave_points_stay_in_the_cone():
    problem = Wave(dim=3)
    p = problem.sample(20_000, generator())
    outside = (p.x.abs() - 1).clamp_min(0).norm(dim=1)
    assert bool((outside <= problem.final_time - p.t[:, 0] + 1e-6).all())
    assert outside.max() > 0.3
    inside = Wave(dim=3, sampling="evaluation").sample(1000, generator())
    assert inside.x.abs().max() <= 1


@pytest.mark.parametrize(
    ("cls", "arguments", "words"),
    [
        (HJBLQG, {"dim": 0}, "problem.dim=0"),
        (HJBLQG, {"dim": -5}, "problem.dim=-5"),
        (HJBLQG, {"dim": 2.5}, "problem.dim=2.5"),
        (HJBLQG, {"dim": 3, "mu": 0}, "problem.mu=0.*positive"),
        (HJBLQG, {"dim": 3, "mu": "one"}, "problem.mu=one"),
        (HJBLQG, {"dim": 3, "final_time": float("nan")}, "problem.final_time=nan"),
        (HJBLQG, {"dim": 3, "sampling": "dependance"}, "Did you mean 'dependence'"),
        (HJBRosenbrock, {"dim": 1}, "problem.dim=1.*at least 2"),
        (HJBRosenbrock, {"dim": 3, "coefficient_seed": -1}, "problem.coefficient_seed=-1"),
        (HJBLinear, {"dim": 3, "exponent": 0.5}, "problem.exponent=0.5.*at least 1"),
        (BlackScholesBarenblatt, {"dim": 3, "volatility": -1}, "problem.volatility=-1"),
        (BlackScholesBarenblatt, {"dim": 3, "rate": "low"}, "problem.rate=low"),
        (SemilinearHeat, {"dim": 3, "constraint": "firm"}, "problem.constraint=firm"),
        (SemilinearAllenCahn, {"dim": 3, "constraint": "hard"}, "constraint=soft"),
        (SemilinearAllenCahn, {"dim": 3, "terminal_data": "max"}, "terminal_data=max"),
        (HarmonicOscillator, {"dim": 3, "form": "logs"}, "Did you mean 'log'"),
        (HarmonicOscillator, {"dim": 3, "origin_weight": -1}, "origin_weight=-1"),
        (Wave, {"dim": 3, "sampling": "box"}, "problem.sampling=box"),
    ],
)
def test_unusable_arguments_are_named(cls, arguments, words):
    with pytest.raises(InvalidArgument, match=words):
        cls(**arguments)


CONFIGS = {
    "hjb_lqg": HJBLQG,
    "hjb_rosenbrock": HJBRosenbrock,
    "hjb_linear": HJBLinear,
    "semilinear_heat": SemilinearHeat,
    "semilinear_allen_cahn": SemilinearAllenCahn,
    "semilinear_sine_gordon": SemilinearSineGordon,
    "bsb": BlackScholesBarenblatt,
    "schrodinger": HarmonicOscillator,
    "wave": Wave,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_names_every_argument_and_explains_it(name):
    cls = CONFIGS[name]
    path = Path(__file__).parents[2] / "configs" / "problem" / f"{name}.yaml"
    lines = path.read_text().splitlines()
    config = yaml.safe_load("\n".join(lines))
    assert config.pop("_target_") == f"sciml.physics.{cls.__qualname__}"
    assert set(config) == set(inspect.signature(cls).parameters)
    cls(**config)
    assert lines[0].startswith("# python train.py model=")
    for above, line in zip(lines, lines[1:], strict=False):
        assert line.startswith(("#", "_target_")) or above.startswith("#"), line
