"""Fused layers on packed jets: the numbers of the plain rules, to second gradients."""

from __future__ import annotations

import ctypes
import os
import platform

import pytest
import torch
import torch.nn.functional as F

from sciml.autodiff import DenseDirections, TimeDirection, elementwise, fused, one_hot, push
from sciml.networks.pointwise.mlp import MLP, ModifiedMLP, ResidualMLP

RULES = {"tanh": elementwise.tanh, "sin": elementwise.sin, "gelu": elementwise.gelu}
K, N, H = 3, 2, 4


def packed(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(K + 2, N, H, generator=generator, dtype=torch.float64)
    return y.requires_grad_()


@pytest.mark.parametrize("name", RULES)
def test_activation_gradients(name):
    y, weights = packed(), torch.tensor([2.0, 0.5, 0.0], dtype=torch.float64)

    def function(y):
        return fused.Activation.apply(y, weights, RULES[name])

    torch.testing.assert_close(
        function(y), fused.plain(y, weights, RULES[name]), rtol=1e-12, atol=1e-11
    )
    assert torch.autograd.gradcheck(function, y, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, y)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("needed", [(True, True, True), (True, False, True), (False, True, False)])
def test_first_activation_gradients(name, needed):
    """Shared tangents, tangents of every point and tangents without gradient, as time's are."""
    torch.manual_seed(0)
    shapes = [(2, 1, H), (1, N, H), (1, 1, H)]
    blocks = [
        torch.randn(shape, dtype=torch.float64).requires_grad_(need)
        for shape, need in zip(shapes, needed, strict=True)
    ]
    z = torch.randn(N, H, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([2.0, 0.5, 0.0, -1.0], dtype=torch.float64)

    def function(z, *blocks):
        return fused.FirstActivation.apply(z, weights, RULES[name], *blocks)

    y = fused.pack(z, [torch.cat([b.expand(-1, N, -1) for b in blocks]), torch.zeros_like(z)])
    torch.testing.assert_close(
        function(z, *blocks), fused.plain(y, weights, RULES[name]), rtol=1e-12, atol=1e-11
    )
    assert torch.autograd.gradcheck(function, (z, *blocks), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, (z, *blocks))


@pytest.mark.parametrize("bias", [True, False])
def test_affine_gradients(bias):
    torch.manual_seed(0)
    weight = torch.randn(5, H, dtype=torch.float64, requires_grad=True)
    b = torch.randn(5, dtype=torch.float64, requires_grad=True) if bias else None
    inputs = (packed(), weight, b) if bias else (packed(), weight)

    def function(a, weight, b=None):
        return torch.sin(fused.Affine.apply(a, weight, b))

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("transposed", [False, True])
def test_wide_product_is_as_accurate_as_the_default(transposed):
    torch.manual_seed(0)
    x, weight = torch.randn(700, 64), torch.randn(32, 64)
    if transposed:  # as in the gradient of a weight
        x, weight = torch.randn(512, 40).t(), torch.randn(512, 30).t()
    exact = x.double() @ weight.double().t()
    error = (fused.multiply(x, weight) - exact).abs().max()
    assert error < 2e-6 * exact.abs().max()
    assert torch.equal(fused.multiply(x, weight), fused.multiply(x, weight))


def loss_and_gradients(net, parts, weights, x):
    jet = push(net, x, None, parts, weights)
    loss = (jet.top + jet.value + jet.first.square().sum(0)).square().mean()
    return [loss, *torch.autograd.grad(loss, list(net.parameters()))]


@pytest.mark.parametrize("network", [MLP, ResidualMLP, ModifiedMLP])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["tanh", "sin", "gelu", "silu"])
def test_networks_agree_with_the_plain_rules(network, dtype, activation, monkeypatch):
    torch.manual_seed(0)
    net = network(dim=6, width=16, activation=activation).to(dtype)
    x = torch.randn(5, 6, dtype=dtype)
    parts = [one_hot(torch.tensor([0, 3, 5])), DenseDirections(torch.randn(2, 6, dtype=dtype))]
    weights = torch.tensor([2.0, 1.0, 0.5], dtype=dtype)  # the dense rows carry no weight
    ours = loss_and_gradients(net, parts, weights, x)
    monkeypatch.setattr(fused, "is_plain_reverse_mode", lambda x: False)
    plain = loss_and_gradients(net, parts, weights, x)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    for a, b in zip(ours, plain, strict=True):
        size = float(b.detach().abs().max())
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * size)


def test_tangents_of_the_first_layer_are_written_out_on_demand():
    """One block for each kind of directions until anything but an activation asks for them."""
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(6, 9), torch.randn(5, 6)
    parts = [one_hot(torch.tensor([0, 3, 5])), DenseDirections(torch.randn(1, 5, 6))]
    jet = push(lambda y: layer(y), x, None, parts, torch.ones(3))
    assert jet.first.shape == (4, 5, 9)
    torch.testing.assert_close(
        jet.first[:3, 2], layer.weight.t()[[0, 3, 5]], rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        jet.first[3], parts[1].vectors[0] @ layer.weight.t(), rtol=1e-12, atol=1e-12
    )
    assert jet.top.shape == (5, 9) and not jet.top.any()
    torch.testing.assert_close(jet.value, layer(x), rtol=1e-12, atol=1e-11)


def test_gradient_of_the_gradient_through_a_network(monkeypatch):
    """The gradient-enhanced loss needs the x-gradient of the residual, then its own gradient."""
    torch.manual_seed(0)
    net = MLP(dim=4, width=12, depth=3).double()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def gradients():
        jet = push(net, x, None, [one_hot(torch.tensor([1, 2]))], torch.ones(2).double())
        (slope,) = torch.autograd.grad(jet.top.sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), list(net.parameters()), allow_unused=True)

    ours = gradients()
    monkeypatch.setattr(fused, "is_plain_reverse_mode", lambda x: False)
    for a, b in zip(ours, gradients(), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_without_gradients_and_with_time():
    net = MLP(dim=4, time=True, width=12, depth=3)
    x, t = torch.randn(3, 4), torch.rand(3, 1)
    parts = [one_hot(torch.tensor([1, 2])), TimeDirection()]
    with torch.no_grad():
        jet = push(net, x, t, parts, torch.ones(2))
    (slope,) = torch.autograd.grad(net(x, t.requires_grad_()).sum(), t)
    torch.testing.assert_close(jet.first[-1], slope, rtol=1e-12, atol=1e-12)
    assert not jet.top.requires_grad


def test_compiled_network_takes_the_plain_rules_and_agrees():
    torch.manual_seed(0)
    net = MLP(dim=4, width=12, depth=3)
    x, parts, weights = torch.randn(3, 4), [one_hot(torch.tensor([1, 2]))], torch.ones(2)

    def top(x):
        return push(net, x, None, parts, weights).top

    compiled = torch.compile(top, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), top(x), rtol=1e-5, atol=1e-5)


def test_linear_on_jets_without_collapse():
    """Order one and order four jets share the linear layer; their channels are counted right."""
    torch.manual_seed(0)
    weight, x = torch.randn(7, 5).double(), torch.randn(3, 5).double()
    for order in (1, 2, 4):
        jet = push(lambda y: F.linear(torch.tanh(y @ weight.t()), weight.t()), x, None,
                   [one_hot(torch.tensor([0, 4]))], None, order)  # fmt: skip
        assert [z.shape for z in jet.derivatives] == [(2, 3, 5)] * order


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep their ways")
def test_steps_reuse_the_memory_of_the_step_before(monkeypatch):
    resource = pytest.importorskip("resource")
    for name in [n for n in os.environ if n.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    fused.keep_freed_memory.cache_clear()
    net, x = MLP(dim=64, width=128), torch.randn(64, 64)
    parts, weights = [one_hot(torch.arange(64))], torch.ones(64)

    def step():
        push(net, x, None, parts, weights).top.square().mean().backward()

    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5
    assert faults * 4096 < 2 * x.shape[0] * 64 * 128 * 4  # two tensors of a dozen


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_user_win(name, monkeypatch):
    monkeypatch.setenv(name, "0")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("the allocator was set"))
    fused.keep_freed_memory.__wrapped__()
