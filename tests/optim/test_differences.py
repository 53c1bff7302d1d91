"""Products with the Jacobian by differences against the Jacobian itself."""

import pytest
import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature import jacobian
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.output_differences import Differences
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.kronecker.kfac import KFAC

OUTPUTS = 12  # more than K-FAC takes the exact Jacobian for


def problem(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, OUTPUTS)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    target = torch.arange(5) if kind == "categorical" else None
    shift = torch.randn(5, OUTPUTS, dtype=torch.float64)
    layers = {name: layer for name, layer in net.named_modules() if isinstance(layer, nn.Linear)}

    def terms():
        out = net(x) if kind == "categorical" else net(x) - shift
        return [LossTerm("data", out, 0.7, 5, kind, target)]

    return net, layers, Objective(terms)


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_products_are_those_of_the_jacobian(kind):
    net, layers, objective = problem(kind)
    parameters = list(net.parameters())
    exact = jacobian.jacobian_of(objective, layers, parameters)
    found = Differences(objective, objective.terms(), parameters)
    vector = [torch.randn_like(p) for p in parameters]
    before = [p.detach().clone() for p in parameters]
    wanted = exact.times(vector).view(OUTPUTS, 5).t().flatten()  # there outputs come first
    assert torch.allclose(found.times(vector), wanted, rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # a step that was made in between
        for p in parameters:
            p.add_(0.3)
    moved = [p.detach().clone() for p in parameters]
    assert torch.allclose(found.times(vector), wanted, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(p, m) for p, m in zip(parameters, moved, strict=True))
    assert not torch.equal(before[0], moved[0])
    nothing = [torch.zeros_like(p) for p in parameters]
    assert found.times(nothing).abs().max() < 1e-200


@pytest.mark.parametrize("step", ["quadratic", "line_search"])
def test_kfac_makes_the_same_steps_with_either(step, monkeypatch):
    ends = []
    for few in (OUTPUTS, OUTPUTS - 1):
        monkeypatch.setattr("sciml.optim.kronecker.kfac.FEW_OUTPUTS", few)
        net, layers, objective = problem("gaussian")
        optimizer = KFAC(net, step=step, kind="type2", damping=1e-3, adapt_every=1)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            fresh = Objective(objective._evaluate)
            optimizer.update_curvature(fresh)
            loss = sum(term.loss() for term in fresh.terms())
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        ends.append(losses)
    assert ends[0][-1] < 0.5 * ends[0][0]
    assert ends[1] == pytest.approx(ends[0], rel=1e-3)


def test_a_jacobian_that_does_not_fit_is_refused(monkeypatch):
    net, layers, objective = problem("gaussian")
    monkeypatch.setattr(jacobian, "LARGEST", 1000)
    with pytest.raises(InvalidArgument, match="12 outputs per sample"):
        jacobian.jacobian_of(objective, layers, list(net.parameters()))
