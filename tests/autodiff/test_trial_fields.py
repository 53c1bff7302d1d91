"""Fields of trial solutions: hard constraints, estimates and chunks against dense derivatives."""

import pytest
import torch
from dense_references import (
    bilaplacians,
    error,
    gradients,
    hessians,
    parameter_gradient,
    time_derivatives,
)

from sciml.autodiff.estimators import SDGD, Exact, Hutchinson
from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.networks import MLP, PairNetwork, TrialSolution
from sciml.physics.pde import PDE, Factor
from sciml.physics.problems.biharmonic import Biharmonic
from sciml.physics.problems.black_scholes import BlackScholesBarenblatt
from sciml.physics.problems.hjb import HJBLQG, HJBRosenbrock
from sciml.physics.problems.unit_ball import SineGordon
from sciml.physics.problems.wave import Wave
from sciml.physics.residual.residual_fields import derive_lift_terms, evaluate, operator_of

D, N = 4, 5


class Correlated(PDE):
    """Full diffusion matrix without hard constraint."""

    def __init__(self, dim):
        super().__init__(dim=dim)
        self.sigma = torch.randn(dim, 3)

    def diffusion(self, p):
        return Factor(self.sigma)


PROBLEMS = {
    "terminal cost": lambda: HJBLQG(dim=D),
    "anisotropic terminal cost": lambda: HJBRosenbrock(dim=D),
    "ball, radial factor": lambda: SineGordon(dim=D),
    "weights per point": lambda: BlackScholesBarenblatt(dim=D),
    "wave": lambda: Wave(dim=D),
    "full matrix": lambda: Correlated(dim=D),
}


def trial_of(problem, width=8):
    inputs = ("x", "t") if problem.time_dependent else ("x",)
    inputs += tuple(problem.feature_names)
    network = MLP(
        dim=D,
        time=problem.time_dependent,
        features=len(problem.feature_names),
        width=width,
        depth=3,
    )
    return TrialSolution(problem, network.double(), inputs)


def points_of(problem):
    if isinstance(problem, Correlated):
        from sciml.physics.pde import Points

        return Points(torch.randn(N, D))
    return problem.sample_test(N, torch.Generator().manual_seed(3))


def arguments(p):
    return (p.x,) if p.t is None else (p.x, p.t)


def dense_trace(problem, trial, p):
    h, weights = hessians(trial, *arguments(p)), problem.diffusion(p)
    if isinstance(weights, Factor):
        return torch.einsum("im,nij,jm->n", weights.sigma, h, weights.sigma)
    return (h.diagonal(dim1=1, dim2=2) * (1.0 if weights is None else weights)).sum(1)


def every(problem, p):
    return operator_of(problem, p).exact(p.x)


@pytest.mark.parametrize("closed_form", [True, False])
@pytest.mark.parametrize("name", PROBLEMS)
def test_exact_fields_are_dense_derivatives(name, closed_form):
    problem = PROBLEMS[name]()
    trial, p = trial_of(problem), points_of(problem)
    wanted = dense_trace(problem, trial, p)
    for chunk in (None, 3, 1):
        u = evaluate(trial, p, every(problem, p), closed_form=closed_form, chunk=chunk)
        assert error(u.trace, wanted) < 1e-11
        assert error(u.value, trial(*arguments(p))[:, 0]) < 1e-13
    assert error(u.grad, gradients(trial, *arguments(p))) < 1e-11
    if problem.time_dependent:
        assert error(u.dt, time_derivatives(trial, *arguments(p))) < 1e-11
    if problem.time_order == 2:
        twice = torch.func.vmap(torch.func.hessian(lambda s, z: trial(z[None], s[None])[0, 0]))(
            p.t, p.x
        )[:, 0, 0]
        assert error(u.dtt, twice) < 1e-11


@pytest.mark.parametrize("name", [n for n in PROBLEMS if n != "full matrix"])
def test_closed_lift_terms_agree_with_derived_ones(name):
    problem = PROBLEMS[name]()
    p = points_of(problem)
    a, b = problem.lift_terms(p), derive_lift_terms(problem, p)
    if a is None:
        return
    if a.direction is not None and a.direction.dim() == 1:
        a.direction = a.direction[:, None] * p.x
    for field in ("value", "trace", "direction", "dt", "offset", "offset_dt", "offset_trace"):
        left, right = getattr(a, field), getattr(b, field)
        left = torch.zeros(()) if left is None else left
        right = torch.zeros(()) if right is None else right
        assert (left - right).abs().max() < 1e-11 * right.abs().max().clamp_min(1.0), field


@pytest.mark.parametrize("name", PROBLEMS)
def test_one_term_draws_average_to_the_trace(name):
    """Every draw of one term is equally likely: the mean over them is exact, in both forms."""
    problem = PROBLEMS[name]()
    trial, p = trial_of(problem), points_of(problem)
    operator = operator_of(problem, p)
    wanted = dense_trace(problem, trial, p)
    m, spread = operator.terms, {}
    for closed_form in (True, False):
        draws = [operator.along(torch.tensor([j]), float(m), p.x) for j in range(m)]
        found = [evaluate(trial, p, d, closed_form=closed_form).trace for d in draws]
        assert error(torch.stack(found).mean(0), wanted) < 1e-11
        spread[closed_form] = torch.stack(found).var(0).mean()
    if name == "ball, radial factor":  # what is known need not be sampled
        assert spread[True] < spread[False]


@pytest.mark.parametrize("name", [n for n in PROBLEMS if n != "full matrix"])
def test_sampled_gradients_have_an_unbiased_square(name):
    problem = PROBLEMS[name]()
    trial, p = trial_of(problem), points_of(problem)
    operator = operator_of(problem, p)
    draws = [operator.along(torch.tensor([j]), float(D), p.x) for j in range(D)]
    squares = [evaluate(trial, p, d, gradient="sampled").grad.square().sum(1) for d in draws]
    weights = problem.diffusion(p)
    slope = gradients(trial, *arguments(p))
    wanted = (slope**2 * (1.0 if weights is None else weights)).sum(1)
    assert error(torch.stack(squares).mean(0), wanted) < 1e-11


def test_biharmonic_through_jets():
    problem = Biharmonic(dim=3)
    network = MLP(dim=3, features=1, width=6, depth=3)
    trial = TrialSolution(problem, network, ("x", "radius"))
    p = problem.sample_test(2, torch.Generator().manual_seed(0))
    for chunk in (None, 5):
        u = evaluate(trial, p, every(problem, p), chunk=chunk)
        assert error(u.bilaplacian, bilaplacians(trial, p.x)) < 1e-10


@pytest.mark.parametrize("network", ["mlp", "pairs"])
def test_chunks_change_neither_value_nor_gradient(network):
    problem = SineGordon(dim=D)
    net = MLP(dim=D, width=8) if network == "mlp" else PairNetwork(dim=D, width=6, degree=3)
    if network == "pairs":
        torch.nn.init.normal_(net.pairs.weight)
    trial = TrialSolution(problem, net, ("x",))
    p = problem.sample_test(N, torch.Generator().manual_seed(0))
    wanted = dense_trace(problem, trial, p)
    whole = None
    for chunk in (None, 3, 2, 1):
        u = evaluate(trial, p, every(problem, p), chunk=chunk)
        assert error(u.trace, wanted) < 1e-11
        found = parameter_gradient((u.trace + u.value).square().mean(), trial)
        whole = found if whole is None else whole
        assert error(found, whole) < 1e-12
    dense = parameter_gradient((wanted + trial(p.x)[:, 0]).square().mean(), trial)
    assert error(whole, dense) < 1e-11


@pytest.mark.parametrize("reference_chunk", [None, 2])
@pytest.mark.parametrize("name", ["terminal cost", "ball, radial factor"])
def test_reference_draws_supply_the_value_and_the_draw_the_gradient(name, reference_chunk):
    problem = PROBLEMS[name]()
    trial, p = trial_of(problem), points_of(problem)
    operator = operator_of(problem, p)
    draw = operator.along(torch.tensor([1]), float(D), p.x)
    u = evaluate(trial, p, draw, operator.exact(p.x), chunk=reference_chunk)
    alone = evaluate(trial, p, draw)
    assert error(u.trace, dense_trace(problem, trial, p)) < 1e-11
    assert (alone.trace - u.trace).abs().max() > 1e-6
    weight = torch.randn(N)
    found = parameter_gradient((weight * u.trace).sum(), trial)
    assert error(found, parameter_gradient((weight * alone.trace).sum(), trial)) < 1e-12


def test_pair_networks_keep_the_exact_laplacian_under_any_draw():
    problem = SineGordon(dim=D)
    net = PairNetwork(dim=D, degree=3)
    torch.nn.init.normal_(net.pairs.weight)
    trial, p = TrialSolution(problem, net, ("x",)), points_of(problem)
    wanted = dense_trace(problem, trial, p)
    operator = operator_of(problem, p)
    for estimator in (SDGD(num_dims=2), SDGD(num_dims=3, chunk=1), Hutchinson(probes=3)):
        draw = estimator.draw(operator, p.x, Streams(0, 0), "dims")
        u = evaluate(trial, p, draw, operator.exact(p.x), chunk=estimator.chunk)
        assert error(u.trace, wanted) < 1e-11
        assert error(evaluate(trial, p, draw, chunk=estimator.chunk).trace, wanted) < 1e-11


def test_without_a_draw_there_is_no_trace():
    problem = HJBLQG(dim=D)
    trial, p = trial_of(problem), points_of(problem)
    u = evaluate(trial, p, None)
    assert u.trace is None
    assert error(u.dt, time_derivatives(trial, p.x, p.t)) < 1e-11


def test_modes_without_gradients():
    problem = HJBLQG(dim=D)
    trial, p = trial_of(problem), points_of(problem)
    draw = Exact().draw(operator_of(problem, p), p.x, Streams(0, 0), "dims")
    wanted = evaluate(trial, p, draw)
    with torch.no_grad():
        u = evaluate(trial, p, draw)
        assert error(u.trace, wanted.trace) < 1e-12 and not u.trace.requires_grad
        assert error(u.grad, wanted.grad) < 1e-12 and not u.grad.requires_grad
    with torch.inference_mode():
        u = evaluate(trial, p, draw)
        assert error(u.trace, wanted.trace.detach()) < 1e-12
        with pytest.raises(InvalidArgument, match="trainer.inference_mode=false"):
            u.grad  # noqa: B018
