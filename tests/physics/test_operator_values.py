"""Values, traces and gradients that residuals are made of, against reverse passes."""

import pytest
import torch

from sciml.autodiff import SDGD, Exact
from sciml.autodiff.streams import Streams
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics import (
    HJBLQG,
    Biharmonic,
    BlackScholesBarenblatt,
    Poisson,
    SemilinearHeat,
)
from sciml.physics.residual.residual_fields import evaluate, operator_of, second_derivatives

F64 = torch.float64
CASES = [
    (Poisson(dim=4), ("x", "radius")),
    (HJBLQG(dim=4), ("x", "t", "terminal")),
    (SemilinearHeat(dim=4), ("x", "t")),
    (BlackScholesBarenblatt(dim=4), ("x", "t")),
    (Biharmonic(dim=3), ("x",)),
]


def trial_of(problem, inputs):
    torch.manual_seed(0)
    space = problem.dim if "x" in inputs else 0
    features = [name for name in inputs if name not in ("x", "t")]
    network = MLP(dim=space, time="t" in inputs, features=len(features), width=8)
    return TrialSolution(problem, network.double(), inputs)


def by_reverse_passes(trial, p):
    """Return u, grad u, u_t and all second derivatives `(N, d, d)`."""
    x = p.x.clone().requires_grad_()
    t = None if p.t is None else p.t.clone().requires_grad_()
    u = (trial(x, t) if t is not None else trial(x))[:, 0]
    keep = {"create_graph": True}
    (slope,) = torch.autograd.grad(u.sum(), x, **keep)
    dt = None if t is None else torch.autograd.grad(u.sum(), t, **keep)[0][:, 0]
    rows = [torch.autograd.grad(slope[:, j].sum(), x, **keep)[0] for j in range(x.shape[1])]
    return u, slope, dt, torch.stack(rows, 1), x


@pytest.mark.parametrize(("problem", "inputs"), CASES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("closed", [True, False])
def test_exact_directions_give_the_operator(problem, inputs, chunk, closed):
    trial = trial_of(problem, inputs)
    p = problem.sample(5, torch.Generator().manual_seed(1)).to(F64)
    draw = Exact().draw(operator_of(problem, p), p.x, Streams(0, 0), "dims")
    found = evaluate(trial, p, draw, closed_form=closed, chunk=chunk)
    u, slope, dt, second, x = by_reverse_passes(trial, p)
    weights = problem.diffusion(p)
    weights = torch.ones_like(p.x) if weights is None else weights
    trace = (second.diagonal(dim1=1, dim2=2) * weights).sum(1)
    if problem.order == 4:
        laplacian = second.diagonal(dim1=1, dim2=2).sum(1)
        (rate,) = torch.autograd.grad(laplacian.sum(), x, create_graph=True)
        trace = sum(
            torch.autograd.grad(rate[:, j].sum(), x, retain_graph=True)[0][:, j]
            for j in range(x.shape[1])
        )
    torch.testing.assert_close(found.value, u, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.trace, trace, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.grad, slope, rtol=1e-10, atol=1e-12)
    if dt is not None:
        torch.testing.assert_close(found.dt, dt, rtol=1e-10, atol=1e-12)
    without = evaluate(trial, p, None, closed_form=closed)
    torch.testing.assert_close(without.value, u, rtol=1e-11, atol=1e-12)
    assert without.trace is None


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_reference_supplies_the_value_and_the_draw_the_gradient(chunk):
    """SDGD, algorithm 1: value of the exact operator, gradient of the sampled one."""
    problem, inputs = CASES[1]
    trial = trial_of(problem, inputs)
    p = problem.sample(6, torch.Generator().manual_seed(2)).to(F64)
    operator = operator_of(problem, p)
    every = Exact().draw(operator, p.x, Streams(0, 0), "dims")
    few = SDGD(num_dims=2).draw(operator, p.x, Streams(0, 0), "dims")
    parameters = list(trial.parameters())

    def traced(draw, reference=None):
        trace = evaluate(trial, p, draw, reference, chunk=chunk).trace
        grads = torch.autograd.grad(trace.square().mean(), parameters, allow_unused=True)
        return trace.detach(), [g for g in grads if g is not None]

    exact, _ = traced(every)
    sampled, _ = traced(few)
    both, gradient = traced(few, every)
    torch.testing.assert_close(both, exact, rtol=1e-10, atol=1e-12)
    assert float((sampled - exact).abs().max()) > 1e-4  # they are different numbers
    trace = evaluate(trial, p, few, chunk=chunk).trace  # 2 mean(exact d sampled)
    wanted = torch.autograd.grad((2 * exact * trace).mean(), parameters, allow_unused=True)
    for a, b in zip(gradient, [g for g in wanted if g is not None], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_sampled_gradients_have_the_squared_norm_on_average():
    problem, inputs = CASES[1]
    trial = trial_of(problem, inputs)
    p = problem.sample(3, torch.Generator().manual_seed(2)).to(F64)
    operator = operator_of(problem, p)
    full = evaluate(trial, p, Exact().draw(operator, p.x, Streams(0, 0), "d"), gradient="sampled")
    plain = evaluate(trial, p, None).grad.square().sum(1)
    torch.testing.assert_close(full.grad.square().sum(1), plain, rtol=1e-10, atol=0)
    means = torch.stack([
        evaluate(
            trial, p, SDGD(num_dims=2).draw(operator, p.x, Streams(0, s), "d"), gradient="sampled"
        ).grad.square().sum(1).detach()
        for s in range(150)
    ])  # fmt: skip
    error = means.std(0) / 150**0.5
    assert bool(((means.mean(0) - plain).abs() < 4 * error).all())


def test_second_derivatives_of_the_network_by_coordinate():
    problem, inputs = CASES[0]
    trial = trial_of(problem, inputs)
    p = problem.sample(5, torch.Generator().manual_seed(1)).to(F64)
    found = second_derivatives(trial, p, torch.tensor([3, 0]))
    x = p.x.clone().requires_grad_()
    n = trial.raw(x, None)[:, 0]
    (slope,) = torch.autograd.grad(n.sum(), x, create_graph=True)
    for row, j in zip(found, (3, 0), strict=True):
        (second,) = torch.autograd.grad(slope[:, j].sum(), x, retain_graph=True)
        torch.testing.assert_close(row, second[:, j], rtol=1e-10, atol=1e-12)
    assert not found.requires_grad
