"""Baselines of convergent graph solvers: dense references, reach, well-posedness."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.graph.graph_baselines import IGNN, MessagePassing
from sciml.networks.graph.graph_layers import Edges

F64 = torch.float64
SIZES = {"node_features": 2, "edge_features": 1}


def path(n):
    right = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    index = torch.cat([right, right.flip(0)], 1)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, generator=g, dtype=F64)
    return x, index, torch.randn(index.shape[1], 1, generator=g, dtype=F64)


@pytest.mark.parametrize("layers", [1, 3])
def test_message_passing_sees_as_many_hops_as_it_has_layers(layers):
    torch.manual_seed(0)
    net = MessagePassing(**SIZES, layers=layers).double()
    x, index, attr = path(8)
    before = net(x, index, attr)
    x[0] += 1.0
    moved = (net(x, index, attr) != before)[:, 0]
    assert moved.tolist() == [i <= layers for i in range(8)]


@pytest.mark.parametrize("kappa", [0.5, 0.95])
def test_ignn_equals_its_dense_fixed_point_and_gradient(kappa):
    torch.manual_seed(0)
    net = IGNN(**SIZES, width=5, kappa=kappa).double()
    net.weight.data.mul_(10)  # far outside the well-posed set before it is scaled
    x, index, attr = path(6)
    attr.requires_grad_()
    w = net.contracting_weight()
    assert w.abs().sum(1).max() <= kappa + 1e-12
    y, solution = net.solve(x, index, attr)
    edges = Edges.build(index, 6)
    nodes = net.node_input(x, edges.graph, 1)
    b, _ = net.bias(nodes, edges.sorted(attr), edges)
    a = torch.zeros(6, 6, dtype=F64).index_put_((edges.row, edges.col), torch.ones((), dtype=F64))
    a = a / a.sum(1, keepdim=True)
    z = torch.zeros_like(b)
    for _ in range(700):
        z = torch.relu(a @ z @ w.T + b)
    assert (solution.value - z).abs().max() < 1e-7
    got = torch.autograd.grad(y.square().sum(), (net.weight, attr))
    want = torch.autograd.grad(net.decoder(z).square().sum(), (net.weight, attr))
    for one, other in zip(got, want, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-9)


def test_ignn_sees_the_whole_graph():
    torch.manual_seed(0)
    net = IGNN(**SIZES).double()
    x, index, attr = path(12)
    before = net(x, index, attr)
    x[0] += 3.0
    assert ((net(x, index, attr) - before).abs() > 0).all()


@pytest.mark.parametrize("net", [MessagePassing, IGNN])
def test_graphs_are_independent_and_pooled(net):
    torch.manual_seed(0)
    net = net(**SIZES, readout="mean", outputs=3).double()
    x, index, attr = path(5)
    one = net(x, index, attr)
    two = net(
        torch.cat([x, 2 * x]),
        torch.cat([index, index + 5], 1),
        torch.cat([attr, attr]),
        torch.arange(10) // 5,
    )
    assert two.shape == (2, 3)
    assert torch.allclose(two[:1], one, atol=1e-12, rtol=1e-12)


def test_wrong_settings_are_refused():
    for cls, wrong in (
        (IGNN, {"kappa": 1.0}),
        (IGNN, {"readout": "first"}),
        (MessagePassing, {"layers": 0}),
    ):
        with pytest.raises(InvalidArgument):
            cls(**SIZES, **wrong)
