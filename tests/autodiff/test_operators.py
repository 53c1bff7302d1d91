"""Operators on plain functions against dense derivatives."""

import pytest
import torch
from dense_references import (
    along_line,
    bilaplacians,
    error,
    fourth_derivatives,
    hessians,
    laplacians,
    parameter_gradient,
)
from torch import nn
from torch.func import hessian, jacfwd, jacrev, vmap

from sciml.autodiff import (
    bilaplacian,
    d_x_d_t,
    directional,
    laplacian,
    mixed,
    second_mixed,
    squared_norm,
    trace,
)
from sciml.autodiff.directions import squared_length
from sciml.errors import InvalidArgument

D, N = 4, 3


class Net(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.a, self.t, self.b = nn.Linear(D, 7), nn.Linear(1, 7), nn.Linear(7, outputs)

    def forward(self, x, t=None):
        z = self.a(x) if t is None else self.a(x) + self.t(t)
        return self.b(torch.tanh(z)) * (1 + squared_norm(x))


@pytest.mark.parametrize("chunk", [None, 1, 3, 4, 9])
def test_laplacian(chunk):
    net, x, t = Net(), torch.randn(N, D), torch.rand(N, 1)
    found = laplacian(net, x, chunk=chunk)
    assert found.shape == (N, 1)
    assert error(found[:, 0], laplacians(net, x)) < 1e-12
    assert error(laplacian(net, x, t, chunk=chunk)[:, 0], laplacians(net, x, t)) < 1e-12
    loss = found.square().sum()
    wanted = laplacians(net, x).square().sum()
    assert error(parameter_gradient(loss, net), parameter_gradient(wanted, net)) < 1e-11
    with torch.inference_mode():
        assert error(laplacian(net, x.clone(), chunk=chunk), found.detach()) < 1e-12


def test_several_outputs():
    net, x = Net(outputs=3), torch.randn(N, D)
    dense = vmap(hessian(lambda z: net(z[None])[0]))(x)  # (N, 3, d, d)
    assert error(laplacian(net, x), torch.einsum("nhii->nh", dense)) < 1e-12
    assert error(second_mixed(net, x, 0, 2), dense[:, :, 0, 2]) < 1e-12


@pytest.mark.parametrize("shape", [(D,), (N, D)])
def test_weights_of_any_sign(shape):
    net, x, a = Net(), torch.randn(N, D), torch.randn(shape)
    wanted = (a * hessians(net, x).diagonal(dim1=1, dim2=2)).sum(1)
    assert error(trace(net, x, weights=a)[:, 0], wanted) < 1e-12
    assert error(trace(net, x, weights=a, chunk=3)[:, 0], wanted) < 1e-12


@pytest.mark.parametrize("shape", [(D, 2), (D, 6), (N, D, 2)])
def test_factor(shape):
    net, x, s = Net(), torch.randn(N, D), torch.randn(shape)
    wanted = torch.einsum(
        "nim,nij,njm->n", s.expand(N, *shape[-2:]), hessians(net, x), s.expand(N, *shape[-2:])
    )
    assert error(trace(net, x, sigma=s)[:, 0], wanted) < 1e-12
    assert error(trace(net, x, sigma=s, chunk=1)[:, 0], wanted) < 1e-12


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_directional(order):
    net, x, t = Net(), torch.randn(N, D), torch.rand(N, 1)
    for vectors in (torch.randn(2, D), torch.randn(2, N, D)):
        found = directional(net, x, vectors, order, t)
        dense = [along_line(net, x, v, order, t) for v in vectors]
        assert len(found) == order
        for m in range(order):
            assert error(found[m], torch.stack([w[m] for w in dense])) < 1e-11


@pytest.mark.parametrize("chunk", [None, 7])
def test_bilaplacian(chunk):
    net, x = Net(), torch.randn(N, D)
    assert error(bilaplacian(net, x, chunk=chunk)[:, 0], bilaplacians(net, x)) < 1e-11


def test_mixed_derivatives():
    net, x = Net(), torch.randn(N, D)
    second = hessians(net, x)
    third = vmap(jacfwd(hessian(lambda z: net(z[None])[0, 0])))(x)
    i, j = torch.tensor([0, 1, 3, 2]), torch.tensor([2, 1, 0, 2])
    found = second_mixed(net, x, i, j)
    assert found.shape == (4, N, 1)
    assert error(found[..., 0], second[:, i, j].t()) < 1e-12
    assert error(mixed(net, x, i, j)[..., 0], third[:, i, i, j].t()) < 1e-11
    assert error(mixed(net, x, i, 3)[..., 0], third[:, i, i, 3].t()) < 1e-11
    assert error(mixed(net, x, 3, 1)[:, 0], third[:, 3, 3, 1]) < 1e-11
    # the sum over both is the Laplacian of each first derivative
    every = torch.arange(D)
    total = sum(mixed(net, x, every, j) for j in range(D)).sum(0)
    assert error(total[:, 0], torch.einsum("niij->n", third)) < 1e-11


def test_space_time_derivative():
    net, x, t = Net(), torch.randn(N, D), torch.rand(N, 1)

    def u(z, s):
        return net(z[None], s[None])[0, 0]

    dense = vmap(jacrev(jacrev(u, argnums=1), argnums=0))(x, t)[:, 0]  # (N, d)
    assert error(d_x_d_t(net, x, t, 2)[:, 0], dense[:, 2]) < 1e-12
    i = torch.tensor([0, 3])
    assert error(d_x_d_t(net, x, t, i)[..., 0], dense[:, i].t()) < 1e-12


def test_bilaplacian_is_the_sum_of_fourth_derivatives():
    net, x = Net(), torch.randn(N, D)
    dense = torch.einsum("niijj->n", fourth_derivatives(net, x))
    assert error(bilaplacian(net, x)[:, 0], dense) < 1e-11


def test_plain_functions_and_constants():
    x = torch.randn(N, D)
    assert error(laplacian(squared_norm, x), torch.full((N, 1), 2.0 * D)) < 1e-13
    assert laplacian(lambda z: torch.ones(N, 1), x).abs().max() == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, x: laplacian(f, x[0]), "x of shape"),
        (lambda f, x: trace(f, x, weights=torch.ones(D), sigma=torch.eye(D)), "both weights"),
        (lambda f, x: trace(f, x, weights=torch.ones(D + 1)), "weights of shape"),
        (lambda f, x: trace(f, x, sigma=torch.ones(D + 1, 2)), "sigma of shape"),
        (lambda f, x: directional(f, x, torch.ones(D)), "vectors of shape"),
        (lambda f, x: directional(f, x, torch.ones(2, D), 5), "order"),
        (lambda f, x: mixed(f, x, 0, D), "integers from 0 to 3"),
        (lambda f, x: second_mixed(f, x, -1, 0), "integers from 0 to 3"),
        (lambda f, x: laplacian(lambda z: f(z)[..., 0], x), "one row per point"),
    ],
)
def test_unusable_arguments_are_named(call, words):
    with pytest.raises(InvalidArgument, match=words):
        call(Net(), torch.randn(N, D))


# --- odd batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("width", [4, 16])  # jets of width 8 and more go through fused activations
def test_batches_without_points_have_derivatives_without_points(n, width):
    torch.manual_seed(0)
    f = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
    g = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2))

    def ft(x, t):
        return g(torch.cat([x, t], 1))

    x, t = torch.rand(n, 3), torch.rand(n, 1)
    found = [
        laplacian(f, x),
        laplacian(f, x, chunk=2),
        laplacian(ft, x, t),
        trace(f, x, weights=torch.rand(n, 3)),
        trace(f, x, sigma=torch.rand(n, 3, 2)),
        bilaplacian(f, x),
        second_mixed(f, x, 0, 1),
        mixed(f, x, 0, 1),
        d_x_d_t(ft, x, t, 0),
        *(d[0] for d in directional(f, x, torch.rand(2, n, 3), order=4)),
    ]
    assert [tuple(y.shape) for y in found] == [(n, 2)] * len(found)
    parameters = [*f.parameters(), *g.parameters()]
    grads = torch.autograd.grad(sum(y.sum() for y in found), parameters)
    assert all(p.isfinite().all() for p in grads)
    assert n or all(not p.any() for p in grads)


def test_a_point_that_is_no_number_leaves_the_others_as_they_are():
    torch.manual_seed(0)
    f = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
    x = torch.rand(5, 3)
    y = x.clone()
    y[2] = torch.nan
    keep = torch.tensor([0, 1, 3, 4])
    for operator in (laplacian, bilaplacian):
        good, bad = operator(f, x), operator(f, y)
        assert torch.equal(bad[keep], good[keep])
        assert bad[2].isnan().all()


def test_the_default_dtype_and_the_layout_of_points_do_not_matter():
    torch.manual_seed(0)
    f = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).float()
    x = torch.rand(5, 3, dtype=torch.float32)
    expected = [laplacian(f, x), bilaplacian(f, x)]
    strided = torch.rand(3, 10, dtype=torch.float32).t()[::2].copy_(x)
    assert not strided.is_contiguous()
    torch.testing.assert_close(laplacian(f, strided), expected[0], rtol=1e-6, atol=1e-7)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = [laplacian(f, x), bilaplacian(f, x)]
    finally:
        torch.set_default_dtype(before)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("wrong", [[1, -1, 2], [1, D, 2], [-1], [D]])
def test_one_coordinate_of_many_that_does_not_exist_is_told(wrong):
    net, x = Net(), torch.randn(N, D)
    index = torch.tensor(wrong)
    for operator in (mixed, second_mixed):
        with pytest.raises(InvalidArgument, match=f"integers from 0 to {D - 1}"):
            operator(net, x, index, torch.zeros_like(index))
        with pytest.raises(InvalidArgument, match=f"integers from 0 to {D - 1}"):
            operator(net, x, torch.zeros_like(index), index)


@pytest.mark.parametrize("graph", [False, True])
def test_squared_length_is_a_number_per_point_with_second_derivatives(graph):
    x = torch.randn(N, D)
    x[0] = 0.0
    found = squared_length(x.requires_grad_(graph))
    torch.testing.assert_close(found, (x**2).sum(1), rtol=1e-13, atol=1e-13)
    if graph:  # two on the diagonal, at the origin as well
        second = vmap(hessian(lambda y: squared_length(y[None])[0]))(x.detach())
        assert torch.equal(second, 2 * torch.eye(D).expand(N, D, D))
