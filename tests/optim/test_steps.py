"""Where a step takes its gradient from, and that it never moves nothing in silence."""

import pytest
import torch
from torch import nn

from sciml import optim
from sciml.errors import InvalidArgument
from sciml.optim import KFAC, MFAC, MKOR, AdaHessian, GaLore, LossTerm, Objective, SophiaG
from sciml.optim.curvature.terms import total_loss

F64 = torch.float64
OURS = [getattr(optim, n) for n in optim.__all__ if hasattr(getattr(optim, n), "step")]
# Methods with a curvature of their own and gradients from outside.
GRADIENT = {
    "kfac": lambda net: KFAC(net, step="lr", lr=0.1),
    "kfac_star": lambda net: KFAC(net, step="quadratic"),
    "kfac_search": lambda net: KFAC(net, step="line_search", adapt_every=1),
    "mkor": lambda net: MKOR(net, curvature_every=1),
    "sophia": lambda net: SophiaG(net, curvature_every=1),
    "adahessian": lambda net: AdaHessian(net),
}


def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 1)).double()
    x = torch.randn(9, 2, dtype=F64)
    return net, lambda: [LossTerm("data", net(x)[:, 0] - x.sum(1), 0.5, 9)]


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("cls", OURS)
def test_a_step_without_any_gradient_raises(cls):
    net, _ = problem()
    before = weights(net)
    with pytest.raises(InvalidArgument, match=rf"{cls.__name__}\.step\(\).*Call "):
        cls(net).step()
    assert torch.equal(weights(net), before)


@pytest.mark.parametrize("name", GRADIENT)
def test_the_gradient_of_the_objective_is_that_of_a_backward_pass(name):
    found = []
    for backward in (True, False):
        net, terms = problem()
        optimizer = GRADIENT[name](net)
        for step in range(3):
            if backward:
                optimizer.zero_grad()
                total_loss(terms()).backward()
            optimizer.update_curvature(Objective(terms, step=step))
            optimizer.step()
        if not backward:
            assert all(p.grad is None for p in net.parameters())
        found.append(weights(net))
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


def test_several_objectives_before_a_step_are_averaged():
    found = []
    for twice in (False, True):
        net, terms = problem()
        optimizer = SophiaG(net, curvature_every=1, betas=(0.9, 0.0))
        for _ in range(1 + twice):
            optimizer.update_curvature(Objective(terms))
        optimizer.step()
        found.append(weights(net))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-14)


def test_an_objective_serves_one_step():
    net, terms = problem()
    optimizer = SophiaG(net)
    optimizer.update_curvature(Objective(terms))
    optimizer.step()
    with pytest.raises(InvalidArgument, match="no parameter has a gradient"):
        optimizer.step()


@pytest.mark.parametrize("cls", [GaLore, MFAC, SophiaG])
def test_some_gradients_or_a_closure_are_enough(cls):
    net, terms = problem()
    optimizer = cls(net)
    before = weights(net)

    def closure():
        optimizer.zero_grad()
        loss = total_loss(terms())
        loss.backward()
        net[0].weight.grad = None
        return loss

    optimizer.step(closure)
    assert not torch.equal(weights(net), before)
