"""The first layer with its columns: same numbers as two plain operations, to any order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sciml.autodiff import DenseDirections, SparseDirections, one_hot, push
from sciml.autodiff.gather import LinearWithColumns, linear_with_columns
from sciml.networks.pointwise.mlp import MLP

N, D, H = 3, 5, 4
REPEATED = torch.tensor([1, 4, 1])  # a column drawn twice must count twice


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(H, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return x, weight


def test_gradient_and_second_gradient(layer):
    def function(x, weight):
        # Nonlinear on top, or the second gradient of a bilinear map would hardly be tested.
        product, columns = LinearWithColumns.apply(x, weight, REPEATED)
        return torch.tanh(product), torch.sin(columns)

    assert torch.autograd.gradcheck(function, layer)
    assert torch.autograd.gradgradcheck(function, layer)


@pytest.mark.parametrize(
    "index", [REPEATED, torch.tensor([[[0], [2]]]), torch.arange(2 * N).reshape(N, 2, 1) % D]
)
def test_equals_two_plain_operations(layer, index):
    x, weight = layer
    results = []
    for pair in (
        linear_with_columns(x, weight, index),
        (F.linear(x, weight), F.embedding(index, weight.t())),
    ):
        loss = pair[0].square().sum() + pair[1].exp().sum()
        results.append([*pair, *torch.autograd.grad(loss, layer)])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-14, atol=1e-14)


def test_weight_without_gradient(layer):
    x, weight = layer[0], layer[1].detach()
    product, columns = linear_with_columns(x, weight, REPEATED)
    (slope,) = torch.autograd.grad(product.sum() + columns.sum(), x)
    torch.testing.assert_close(slope, weight.sum(0).expand(N, D), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("dims", ["shared", "per_point", "two_entries", "with_dense"])
def test_jets_use_it_and_agree_with_torch_func(dims):
    """All kinds of sparse directions, alone and beside others, against nested jvp."""
    torch.manual_seed(0)
    net = MLP(dim=D, width=H, depth=3).double()
    x = torch.randn(N, D, dtype=torch.float64)
    sparse = {
        "shared": one_hot(torch.tensor([4, 0])),
        "per_point": one_hot(torch.tensor([[0, 1], [2, 3], [4, 4]])),
        "two_entries": SparseDirections(
            torch.tensor([[0, 1], [3, 2]]), torch.tensor([[1.0, -1.0], [2.0, 0.5]])
        ),
        "with_dense": one_hot(torch.tensor([4, 0])),
    }[dims]
    parts = [sparse] + (
        [DenseDirections(torch.randn(2, D, dtype=x.dtype))] if dims == "with_dense" else []
    )
    jet = push(net, x, None, parts)
    vectors = torch.cat([part.dense(x).expand(-1, N, -1) for part in parts])
    for k, v in enumerate(vectors):

        def first(y, v=v):
            return torch.func.jvp(net, (y,), (v,))[1]

        slope, curvature = torch.func.jvp(first, (x,), (v,))
        torch.testing.assert_close(jet.first[k], slope, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(jet.top[k], curvature, rtol=1e-12, atol=1e-13)


def test_transforms_take_the_plain_operations():
    """Per-sample gradients of a jet by torch.func agree with a loop of ordinary gradients."""
    torch.manual_seed(0)
    net = MLP(dim=D, width=H, depth=3).double()
    x = torch.randn(N, D, dtype=torch.float64)
    parameters = dict(net.named_parameters())

    def top(values, point):
        def network(y):
            return torch.func.functional_call(net, values, (y,))

        return push(network, point[None], None, [one_hot(torch.tensor([2]))]).top.sum()

    batched = torch.func.vmap(torch.func.grad(top), in_dims=(None, 0))(parameters, x)[
        "input.x.weight"
    ]
    for i in range(N):
        loss = top(parameters, x[i])
        torch.testing.assert_close(
            batched[i], torch.autograd.grad(loss, net.input.x.weight)[0], rtol=1e-12, atol=1e-13
        )


def test_autocast_runs():
    """Half precision casts each operation; a function with one backward could not follow."""
    net, x = MLP(dim=D, width=H, depth=3), torch.randn(N, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        jet = push(net, x, None, [one_hot(torch.tensor([0, 1]))])
        loss = jet.top.float().square().mean()
    loss.backward()
    assert torch.isfinite(net.input.x.weight.grad).all()


def test_compiled_code_uses_it_too_with_equal_gradients():
    """The matrix of zeros would be as large for the compiler."""
    torch.manual_seed(0)
    net, x = MLP(dim=D, width=H, depth=3), torch.randn(N, D)

    def loss(x):
        return push(net, x, None, [one_hot(REPEATED)], torch.ones(3)).top.square().mean()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    pairs = [
        torch.autograd.grad(function(x), net.input.x.weight)[0] for function in (loss, compiled)
    ]
    torch.testing.assert_close(*pairs, rtol=1e-5, atol=1e-6)
