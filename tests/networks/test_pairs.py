"""Sums over neighbouring pairs against dense derivatives."""

import pytest
import torch
from torch.func import grad, hessian, vmap

from sciml.autodiff import (
    DenseDirections,
    RadialDirection,
    SparseDirections,
    laplacian,
    one_hot,
    push,
    trace,
)
from sciml.errors import InvalidArgument
from sciml.networks import PairNetwork
from sciml.networks.pointwise.pairs import PairSum

torch.set_num_threads(1)
N = 4


def pair_sum(dim, degree, scale=1.3):
    torch.manual_seed(0)
    net = PairSum(dim=dim, degree=degree, scale=scale).double()
    torch.nn.init.normal_(net.weight)
    return net


def dense(net, x):
    """Return gradients (N, d) and Hessians (N, d, d)."""

    def one(z):
        return net(z[None])[0, 0]

    return vmap(grad(one))(x), vmap(hessian(one))(x)


def close(a, b):
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("dim", [2, 3, 6])
def test_value_is_the_sum_over_sites(dim, degree):
    net, x = pair_sum(dim, degree), torch.randn(N, dim).double()
    y, total = 1.3 * x, torch.zeros(N).double()
    assert len(set(net.exponents)) == len(net.exponents)
    for m, (a, b) in enumerate(net.exponents):
        assert a >= 1 and a + b <= degree
        for i in range(dim):
            if i + 1 < dim:
                total = total + net.weight[m, i] * y[:, i] ** a * y[:, i + 1] ** b
            elif b == 0:  # the last site has no right neighbour
                total = total + net.weight[m, i] * y[:, i] ** a
    assert close(net(x)[:, 0], total)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("dim", [2, 6])
def test_jets(dim, degree):
    net, x = pair_sum(dim, degree), torch.randn(N, dim).double()
    g, h = dense(net, x)
    parts = [
        one_hot(torch.arange(dim)),
        one_hot(torch.randint(dim, (N, 2))),
        SparseDirections(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[1.0, -2.0], [1.0, 1.0]])),
        DenseDirections(torch.randn(2, dim).double()),
        DenseDirections(torch.randn(2, N, dim).double()),
        RadialDirection(),
    ]
    v = torch.cat([p.dense(x).expand(-1, N, -1) for p in parts])
    first = torch.einsum("kni,ni->kn", v, g)[..., None]
    second = torch.einsum("kni,nij,knj->kn", v, h, v)[..., None]
    jet = push(net, x, None, parts)
    assert close(jet.first, first) and close(jet.top, second)
    assert close(push(net, x, None, parts, order=1).first, first)
    w = torch.rand(len(v), N).double()
    assert close(push(net, x, None, parts, w).top, (w[..., None] * second).sum(0))


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_the_laplacian_is_exact_whatever_is_drawn(degree):
    net, x = pair_sum(6, degree), torch.randn(N, 6).double()
    g, h = dense(net, x)
    parts, w = [one_hot(torch.tensor([4])), RadialDirection()], torch.tensor([6.0]).double()
    jet = push(net, x, None, parts, w, laplacian=1.0)
    assert close(jet.top[:, 0], h.diagonal(dim1=1, dim2=2).sum(1))
    assert close(jet.first[:, :, 0], torch.stack([g[:, 4], (x * g).sum(1)]))
    # chunks add up to one Laplacian
    third = push(net, x, None, parts, w, laplacian=1 / 3)
    assert close(3 * third.top, jet.top)


def test_with_perceptron_and_gradient_of_the_weights():
    torch.manual_seed(0)
    net = PairNetwork(dim=5, degree=3, width=6, depth=3).double()
    assert net.pairs.scale == pytest.approx(5**0.5)
    x = 0.4 * torch.randn(N, 5).double()
    torch.nn.init.normal_(net.pairs.weight)
    w = torch.ones(5).double()
    jet = push(net, x, None, [one_hot(torch.arange(5))], w, laplacian=1.0)
    _, h = dense(net, x)
    lap = h.diagonal(dim1=1, dim2=2).sum(1)
    assert close(jet.top[:, 0], lap)
    parameters = [p for p in net.parameters() if p is not net.bias and p is not net.mlp.output.bias]
    found = torch.autograd.grad(jet.top.square().sum(), parameters)
    wanted = torch.autograd.grad(lap.square().sum(), parameters)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PairSum(dim=1), "dim=1"),
        (lambda: PairSum(dim=4, degree=5), "degree=5"),
        (lambda: PairSum(dim=4, degree=0), "degree=0"),
        (lambda: PairNetwork(dim=4, time=True), "inputs besides x"),
        (lambda: PairNetwork(dim=4, features=1), "inputs besides x"),
    ],
)
def test_unusable_arguments_are_named(make, words):
    with pytest.raises(InvalidArgument, match=words):
        make()


def test_orders_above_two_are_refused():
    net, x = pair_sum(3, 2), torch.zeros(N, 3).double()
    with pytest.raises(InvalidArgument, match="above order two"):
        push(net, x, None, [RadialDirection()], order=4)
    with pytest.raises(InvalidArgument, match="above order two"):
        push(lambda z: net(torch.sin(z)), x, None, [RadialDirection()])


@pytest.mark.parametrize("chunk", [None, 1, 2, 4, 5])
def test_chunks_and_weights_keep_the_sum_of_second_derivatives(chunk):
    torch.manual_seed(0)
    net, x = PairNetwork(dim=5, degree=3, width=6, depth=3).double(), torch.randn(N, 5).double()
    torch.nn.init.normal_(net.pairs.weight)
    second = dense(net, x)[1].diagonal(dim1=1, dim2=2)
    assert close(laplacian(net, x, chunk=chunk)[:, 0], second.sum(1))
    for weights in (torch.tensor([2.0, -1.0, 0.0, 0.5, 3.0]).double(), torch.rand(N, 5).double()):
        found = trace(net, x, weights=weights, chunk=chunk)
        assert close(found[:, 0], (weights * second).sum(1))
