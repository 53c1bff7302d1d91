"""Taylor arithmetic in several variables against nested reverse mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sciml.autodiff.multi_indices import Lattice
from sciml.autodiff.multijet import MultiJet, constant, variables
from sciml.errors import InvalidArgument
from sciml.networks.pointwise.mlp import MLP, FourierMLP, ModifiedMLP, ResidualMLP

WANTED = [(1, 1, 1), (4, 0, 0), (2, 2, 0), (0, 1, 3), (0, 0, 2)]
SIZES = {"dim": 0, "features": 3, "outputs": 2, "width": 7}


def nested(function, x: torch.Tensor, index) -> torch.Tensor:
    """Return D^index of a function `(N, 3) -> (N, h)`, one reverse pass per order and column."""
    x = x.clone().requires_grad_()
    columns = []
    for value in function(x).unbind(1):
        for i, order in enumerate(index):
            for _ in range(order):
                if value.requires_grad:
                    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
                    value = slope[:, i]
                else:
                    value = torch.zeros_like(value)
        columns.append(value.detach())
    return torch.stack(columns, 1)


def points(n: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.2 + 0.6 * torch.rand(n, 3, generator=generator, dtype=torch.float64)


def compare(function, wanted=WANTED) -> None:
    x, lattice = points(), Lattice(wanted)
    with torch.no_grad():
        jet = function(variables(x, lattice))
    for index in lattice.indices:
        torch.testing.assert_close(
            jet.derivative(index), nested(function, x, index), rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("activation", ["tanh", "sin", "gelu", "silu"])
def test_all_orders_of_a_perceptron(activation) -> None:
    torch.manual_seed(0)
    net = MLP(depth=3, activation=activation, **SIZES).double()
    compare(lambda x: net(None, None, x))


@pytest.mark.parametrize("kind", [ResidualMLP, ModifiedMLP, FourierMLP])
def test_all_orders_of_the_other_networks(kind) -> None:
    torch.manual_seed(0)
    net = kind(**SIZES).double()
    compare(lambda x: net(None, None, x))


def test_all_orders_of_formulas() -> None:
    def formula(x):
        a, b, c = x[:, :1], x[:, 1:2], x[..., 2:3]
        first = torch.sin(3 * a) * torch.exp(b - 1) / (1 + c**2) - 2 * b**3
        second = torch.sqrt(a + b) / c + (2 - a) * torch.cosh(c) + 1 / (a * b)
        return torch.cat([first, second, (x**2).sum(-1, keepdim=True)], -1)

    compare(formula)
    compare(lambda x: torch.add(torch.sin(x), x**2, alpha=3))
    compare(lambda x: torch.sub(torch.sin(x), torch.arange(3.0, dtype=x.dtype), alpha=3))


def test_the_backward_pass_equals_the_one_of_plain_operations() -> None:
    torch.manual_seed(0)
    net = MLP(depth=3, **SIZES).double()
    parameters, x = list(net.parameters()), points()
    for wanted in ([(2, 1, 0)], [(0, 0, 0)], [(0, 0, 1), (2, 0, 0)]):
        lattice = Lattice(wanted)

        def loss(lattice=lattice) -> torch.Tensor:
            return net(None, None, variables(x, lattice)).packed.pow(3).sum()

        fused = torch.autograd.grad(loss(), parameters)
        # under forward mode the arithmetic is made of plain operations
        with torch.autograd.forward_ad.dual_level():
            plain = torch.autograd.grad(loss(), parameters)
        for a, b in zip(fused, plain, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_products_with_the_hessian_of_a_loss() -> None:
    torch.manual_seed(0)
    net = MLP(depth=3, dim=0, features=3, width=4).double()
    x, lattice = points(), Lattice([(0, 0, 1), (2, 0, 0)])
    weight = net.hidden[0].weight

    def gradient() -> torch.Tensor:
        loss = net(None, None, variables(x, lattice)).packed.square().sum()
        return torch.autograd.grad(loss, weight, create_graph=True)[0]

    v = torch.randn_like(weight)
    (product,) = torch.autograd.grad((gradient() * v).sum(), weight)
    start, step = weight.detach().clone(), 1e-6
    with torch.no_grad():
        weight.copy_(start + step * v)
    up = gradient().detach()
    with torch.no_grad():
        weight.copy_(start - step * v)
    down = gradient().detach()
    torch.testing.assert_close(product, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


def test_the_lattice_is_closed_downwards_and_products_are_convolutions() -> None:
    lattice = Lattice([(2, 1)])
    assert lattice.indices == ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))
    x = torch.rand(4, 2, dtype=torch.float64)
    jet = variables(x, lattice)
    a, b = jet[:, :1], jet[:, 1:]
    product = a * a * b
    assert torch.equal(product.derivative((2, 1)), torch.full((4, 1), 2.0, dtype=torch.float64))
    torch.testing.assert_close(
        product.derivative((1, 0)), 2 * x[:, :1] * x[:, 1:], rtol=1e-14, atol=0
    )
    flat = constant(x[:, :1], lattice)
    assert isinstance(flat, MultiJet) and not flat.packed[1:].any()


def test_what_has_no_rule_is_refused_by_name() -> None:
    jet = variables(points(), Lattice([(1, 0, 0)]))
    with pytest.raises(InvalidArgument, match="torch.cumsum of an output.*tanh"):
        torch.cumsum(jet, 1)
    with pytest.raises(InvalidArgument, match="order 5.*order 4 at most"):
        Lattice([(5, 0)])
    assert isinstance(nn.Tanh()(jet), MultiJet)
