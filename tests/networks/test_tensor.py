"""Tensor network: derivatives, factors, and the Rayleigh quotient of the oscillator."""

import pytest
import torch
from torch.func import hessian, vmap

from sciml.autodiff import one_hot, push
from sciml.errors import InvalidArgument
from sciml.networks.pointwise.tensor import TensorNetwork
from sciml.physics.problems.schrodinger import gauss_nodes, rayleigh_quotient


@pytest.mark.parametrize(
    ("dim", "rank", "shared"), [(1, 2, False), (2, 1, False), (5, 3, False), (4, 2, True)]
)
def test_jets_give_the_hessian_diagonal(dim, rank, shared):
    torch.manual_seed(0)
    net = TensorNetwork(dim=dim, rank=rank, width=8, depth=3, shared=shared).double()
    x = torch.randn(6, dim, dtype=torch.float64)
    jet = push(net, x, None, [one_hot(torch.arange(dim))], torch.ones(dim).double(), 2)
    assert jet.value.shape == (6, 1)
    assert torch.allclose(jet.value, net(x), rtol=1e-12, atol=1e-11)
    dense = vmap(hessian(lambda v: net(v[None])[0, 0]))(x).diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(jet.top[:, 0], dense, rtol=1e-10, atol=1e-12)


def test_factors_multiply_to_the_network_and_vanish_at_the_ends():
    torch.manual_seed(0)
    net = TensorNetwork(dim=3, rank=2, width=6).double()
    nodes = torch.tensor([-5.0, -1.3, 0.4, 5.0], dtype=torch.float64)
    value, slope = net.factors(nodes)
    assert value.shape == slope.shape == (4, 3, 2)
    assert value[[0, -1]].abs().max() == 0
    # the point (-1.3, 0.4, -1.3)
    product = value[1, 0] * value[2, 1] * value[1, 2]
    x = torch.tensor([[-1.3, 0.4, -1.3]], dtype=torch.float64)
    assert torch.allclose(product.sum(), net(x)[0, 0], rtol=1e-12, atol=1e-11)
    step = 1e-6
    above, below = net.factors(nodes[1:3] + step)[0], net.factors(nodes[1:3] - step)[0]
    assert torch.allclose((above - below) / (2 * step), slope[1:3], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("dim", [1, 7, 400])
def test_rayleigh_quotient_of_the_ground_state(dim):
    nodes, weights = gauss_nodes()
    value = torch.exp(-0.5 * nodes**2)[:, None, None].expand(-1, dim, 1)
    slope = -nodes[:, None, None] * value
    quotient = rayleigh_quotient(value, slope, nodes, weights)
    assert quotient.item() == pytest.approx(dim, rel=1e-9)
    # an excited coordinate costs 2, whatever the size of the factors
    value, slope = value.clone(), slope.clone()
    value[:, 0, 0] = 1e-30 * nodes * value[:, 0, 0]
    slope[:, 0, 0] = 1e-30 * (1 - nodes**2) * torch.exp(-0.5 * nodes**2)
    assert rayleigh_quotient(value, slope, nodes, weights).item() == pytest.approx(dim + 2)


def test_rayleigh_quotient_of_a_sum_of_products():
    """Rank two against a two-dimensional quadrature of the summed function."""
    torch.manual_seed(1)
    net = TensorNetwork(dim=2, rank=2, width=6).double()
    nodes, weights = gauss_nodes()
    quotient = rayleigh_quotient(*net.factors(nodes), nodes, weights)
    x = torch.cartesian_prod(nodes, nodes).requires_grad_()
    w = torch.cartesian_prod(weights, weights).prod(1)
    psi = net(x)
    (grad,) = torch.autograd.grad(psi.sum(), x)
    energy = grad.square().sum(1) + x.square().sum(1) * psi[:, 0] ** 2
    expected = (w @ energy) / (w @ psi[:, 0] ** 2)
    assert quotient.item() == pytest.approx(expected.item(), rel=1e-10)


def test_minimising_the_quotient_finds_the_eigenvalue():
    torch.manual_seed(0)
    net = TensorNetwork(dim=5, width=16, depth=3).double()
    nodes, weights = gauss_nodes()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(250):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 250)
        optimizer.zero_grad()
        quotient = rayleigh_quotient(*net.factors(nodes), nodes, weights)
        quotient.backward()
        optimizer.step()
    assert 0 < quotient.item() - 5 < 2e-2
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dim": 0}, "dim=0"),
        ({"dim": 2, "time": True}, "time=True"),
        ({"dim": 2, "features": 1}, "features=1"),
        ({"dim": 2, "low": 1.0, "high": 1.0}, "network.low=1.0"),
        ({"dim": 2, "rank": 0}, "network.rank=0"),
        ({"dim": 2, "activation": "relu"}, "network.activation=relu"),
    ],
)
def test_unusable_arguments_are_named(arguments, words):
    with pytest.raises(InvalidArgument, match=words):
        TensorNetwork(**arguments)
    with pytest.raises(InvalidArgument, match="low < high"):
        gauss_nodes(1.0, 0.0)
