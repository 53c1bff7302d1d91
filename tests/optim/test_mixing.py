"""Residuals that depend on several samples: Jacobians against reverse mode row by row."""

import pytest
import torch
from torch import nn

from sciml.autodiff import laplacian
from sciml.callbacks.adaptive_batch import sample_noise
from sciml.errors import InvalidArgument, NumericalWarning, PerformanceWarning
from sciml.optim import ENGD, KFAC, SPRING
from sciml.optim.curvature.capture import affine_layers
from sciml.optim.curvature.jacobian import jacobian_of
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.optim.curvature.uses import UseCheck, mixing_terms
from sciml.optim.diagonal.probes import squared_probe

torch.set_num_threads(1)
N = 8


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    return net.double(), torch.rand(N, 2, dtype=torch.float64)


def halves(net, x):
    a, b = net(x).chunk(2)
    return torch.cat([a - b, a * b])


def integral(net, x):
    grid = torch.linspace(0, 1, 2 * N, dtype=torch.float64)[:, None].expand(-1, 2)
    return net(x)[:, 0] - net(grid).square().mean()


def only_the_integral(net, x):
    """Rows of the layers are nodes, rows of the residual are points."""
    grid = torch.linspace(0, 1, 2 * N, dtype=torch.float64)[:, None].expand(-1, 2)
    return x[:, 0] * net(grid).square().mean() - x[:, 1]


MIXING = {
    "two halves": halves,
    "mean of the batch": lambda net, x: net(x)[:, 0] - net(x).mean(),
    "neighbours": lambda net, x: (net(x) - net(x).roll(1, 0))[:, 0],
    "an outer product": lambda net, x: (net(x)[:, 0] * x[:, :1]).mean(1),
    "batch normalisation": lambda net, x: (net(x) - net(x).mean(0)) / net(x).std(0),
    "an integral": integral,
    "an integral alone": only_the_integral,
    "two outputs": lambda net, x: torch.cat([net(x), net(x).flip(0).square()], 1),
}
OWN = {
    "values": lambda net, x: net(x)[:, 0] - x[:, 0],
    "laplacian": lambda net, x: laplacian(net, x)[:, 0] - x[:, 0],
    "two points of one sample": lambda net, x: net(x)[:, 0] * net(x + 0.1)[:, 0] - 1.0,
}


def objective_of(net, x, function):
    return Objective(lambda: [LossTerm("own", net(x)[:, 0], 0.3, N), _term(net, x, function)])


def _term(net, x, function):
    return LossTerm("term", function(net, x), 0.7, N)


def reference(net, x, function):
    """Return J and r of `loss = |r|^2 / 2` by one reverse pass per residual."""
    rows, values = [], []
    for term in objective_of(net, x, function).terms():
        scaled = (term.scale**0.5 * term.outputs).t().reshape(-1)
        values.append(scaled.detach())
        for r in scaled:
            grads = torch.autograd.grad(r, list(net.parameters()), retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows), torch.cat(values)


@pytest.mark.parametrize("name", [*MIXING, *OWN])
def test_mixing_is_found_and_only_where_it_is(name):
    net, x = network()
    objective = objective_of(net, x, (MIXING | OWN)[name])
    found = mixing_terms(objective, affine_layers(net), tolerance=1e-9)
    assert found == (frozenset({"term"}) if name in MIXING else frozenset())


@pytest.mark.parametrize("name", [*MIXING, *OWN])
def test_jacobian_and_products_are_those_of_autograd(name):
    net, x = network()
    function = (MIXING | OWN)[name]
    expected, residual = reference(net, x, function)
    parameters = list(net.parameters())
    found = jacobian_of(objective_of(net, x, function), affine_layers(net), parameters)
    assert bool(found.layers) == (name in OWN)
    assert torch.allclose(found.residual, residual, rtol=1e-12, atol=1e-14)
    assert torch.allclose(found.dense(), expected, rtol=1e-10, atol=1e-12)
    assert torch.allclose(found.kernel(), expected @ expected.t(), rtol=1e-10, atol=1e-12)
    v = torch.randn(expected.shape[1], dtype=torch.float64)
    pieces = v.split([p.numel() for p in parameters])
    pieces = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
    assert torch.allclose(found.times(pieces), expected @ v, rtol=1e-10, atol=1e-12)
    w = torch.randn(len(expected), dtype=torch.float64)
    got = torch.cat([g.flatten() for g in found.transposed_times(w)])
    assert torch.allclose(got, expected.t() @ w, rtol=1e-10, atol=1e-12)
    product = torch.cat([g.flatten() for g in found.transposed_times(found.times(pieces))])
    assert torch.allclose(product, expected.t() @ (expected @ v), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", [ENGD, SPRING])
@pytest.mark.parametrize("name", ["two halves", "an integral", "two outputs"])
def test_gauss_newton_direction_of_mixing_residuals(optimizer, name):
    net, x = network()
    expected, residual = reference(net, x, MIXING[name])
    ours = optimizer(net, damping=1e-3, relative=False)
    with pytest.warns(PerformanceWarning, match=r"loss terms \['term'\] mix the samples"):
        ours.update_curvature(objective_of(net, x, MIXING[name]))
    system = expected @ expected.t() + 1e-3 * torch.eye(len(expected), dtype=torch.float64)
    wanted = -expected.t() @ torch.linalg.solve(system, residual)
    got = torch.cat([ours.state[p]["direction"].flatten() for p in net.parameters()])
    assert torch.allclose(got, wanted, rtol=1e-7, atol=1e-9)
    ours.step()
    ours.update_curvature(objective_of(net, x, MIXING[name]))  # warned once


def test_engd_reaches_rounding_on_an_integral_equation():
    """u(x) - int_0^1 x y u(y) dy = 2 x / 3 has the solution u = x."""
    net, _ = network()
    net[0] = nn.Linear(1, 6).double()
    x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
    weights = torch.full((20, 1), 1 / 19, dtype=torch.float64)
    weights[0] = weights[-1] = 0.5 / 19

    def terms():
        u = net(x)
        moment = (weights * x * x).sum()  # of the solution, by the same rule
        return [LossTerm("integral", u - x * (weights * x * u).sum() - x * (1 - moment), 1.0, 20)]

    optimizer = ENGD(net, damping=1e-10)
    with pytest.warns(PerformanceWarning):
        optimizer.update_curvature(Objective(terms))
    optimizer.step()
    for _ in range(30):
        optimizer.update_curvature(Objective(terms))
        optimizer.step()
    assert (net(x) - x).abs().max() < 1e-4


def test_kfac_keeps_the_expected_squares_of_mixing_residuals():
    """G of a linear layer is the sum over residuals and rows of squared cotangents."""
    net, x = network()
    layer = net[4]
    with torch.no_grad():
        hidden = net[:4](x)

    def objective(step):
        return Objective(lambda: [LossTerm("halves", halves(layer, hidden), 0.7, N)], step=step)

    optimizer = KFAC(nn.Sequential(layer), kind="type2", decay=0.999)
    with pytest.warns(NumericalWarning, match=r"\['halves'\] mix the samples"):
        optimizer.update_curvature(objective(0))
    draws = 400
    for step in range(1, draws):
        optimizer.preconditioner.observe(objective(step), None, frozenset({"halves"}))
    optimizer.preconditioner.refresh(optimizer.memory, objective(0), 0, False)
    (pair,) = optimizer.memory["factors"]["halves"].values()
    out = layer(hidden).detach()
    a, b = out.chunk(2)
    # residuals a_i - b_i and a_i b_i: squared derivatives in a_i and in b_i
    wanted = 2 * 0.7 / N * ((1 + b.square()) + (1 + a.square())).sum()
    assert float(pair[1].sum()) == pytest.approx(float(wanted), rel=0.1)


def test_kfac_star_takes_its_products_from_the_mixed_residuals():
    net, x = network()
    expected, residual = reference(net, x, halves)
    optimizer = KFAC(net, step="quadratic", damping=1e-2)
    objective = objective_of(net, x, halves)
    with pytest.warns(NumericalWarning):
        optimizer.update_curvature(objective)
    loss = sum(term.loss() for term in objective.terms())
    loss.backward()
    v = [torch.randn_like(p) for p in net.parameters()]
    image = optimizer._jacobian.times(v)
    wanted = expected @ torch.cat([p.flatten() for p in v])
    assert torch.allclose(image, wanted, rtol=1e-5, atol=1e-6)
    optimizer.step()
    assert float(objective.loss()) < float(loss)


@pytest.mark.parametrize("option", [{"ekfac": True}, {"sharing": "trace"}, {"sharing": "reduce"}])
def test_what_needs_gradients_of_samples_is_refused(option):
    net, x = network()
    with pytest.raises(InvalidArgument, match="mix the samples"):
        KFAC(net, **option).update_curvature(objective_of(net, x, halves))


def test_noise_of_samples_is_refused_where_there_are_none():
    net, x = network()
    with pytest.raises(InvalidArgument, match="variance=samples"):
        sample_noise(objective_of(net, x, halves), net)


@pytest.mark.parametrize("name", ["two halves", "mean of the batch"])
def test_random_probes_see_the_true_diagonal(name):
    """Sophia's probe: all signs of a small batch together give the mean exactly."""
    net, x = network()
    x = x[:4]
    expected, _ = reference(net, x, MIXING[name])
    parameters = list(net.parameters())
    term = _term(net, x, MIXING[name])
    rows = expected[4:]  # those of the other term come first
    total = 0
    for k in range(16):
        signs = torch.tensor([1.0 - 2 * (k >> i & 1) for i in range(4)], dtype=torch.float64)
        found = squared_probe([term], [signs[:, None]], parameters)
        total = total + torch.cat([f.flatten() for f in found])
    assert torch.allclose(total / 16, rows.square().sum(0), rtol=1e-10, atol=1e-13)


def test_mixing_that_begins_later_is_found_later():
    net, x = network()
    check, seen = UseCheck(affine_layers(net)), []
    for step in range(6):
        late = halves if step >= 3 else OWN["values"]
        seen.append(bool(check(objective_of(net, x, late))))
    assert seen == [False, False, False, False, True, True]


def test_a_bias_used_elsewhere_is_found_out():
    net, x = network()
    with pytest.raises(InvalidArgument, match="layer '4'.*weight or bias"):
        mixing_terms(
            objective_of(net, x, lambda net, x: net(x)[:, 0] + net[4].bias), affine_layers(net)
        )
