"""Multilayer perceptrons: values, jets against dense derivatives, arguments."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, hessian, vmap

from sciml.autodiff import RadialDirection, TimeDirection, one_hot, push
from sciml.errors import InvalidArgument, InvalidType
from sciml.networks import MLP, FourierMLP, ModifiedMLP, ResidualMLP
from sciml.networks.pointwise.layers import InputLayer

torch.set_num_threads(1)
D, N = 5, 4
MAKERS = {
    "mlp": lambda **k: MLP(width=8, depth=3, **k),
    "mlp, sin, scaled": lambda **k: MLP(width=8, depth=2, activation="sin", input_scale=2.5, **k),
    "mlp, shared kernel": lambda **k: MLP(width=8, depth=3, share=2, input_scale=0.5, **k),
    "residual": lambda **k: ResidualMLP(width=8, blocks=2, activation="gelu", **k),
    "residual, shared kernel": lambda **k: ResidualMLP(width=8, blocks=1, share=3, **k),
    "modified": lambda **k: ModifiedMLP(width=8, depth=4, activation="silu", **k),
    "fourier": lambda **k: FourierMLP(width=8, depth=2, frequencies=6, scale=0.7, **k),
}


def network(name, **inputs):
    torch.manual_seed(0)
    return MAKERS[name](**inputs).double()


def points():
    torch.manual_seed(1)
    return torch.randn(N, D).double(), torch.rand(N, 1).double(), torch.randn(N, 2).double()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", MAKERS)
def test_jets_are_dense_derivatives(name):
    net, (x, t, _) = network(name, dim=D, time=True, features=2), points()

    def u(x, t):  # with features that depend on x and t
        r = (x * x).sum(-1, keepdim=True)
        return net(x, t, torch.cat([torch.log1p(r), t * r], dim=-1))

    def one(z, s):
        return u(z[None], s[None])[0, 0]

    h = vmap(hessian(one))(x, t)
    slope, rate = vmap(grad(one, argnums=(0, 1)))(x, t)
    jet = push(u, x, t, [one_hot(torch.arange(D)), TimeDirection(), RadialDirection()])
    assert close(jet.top[:D, :, 0].t(), h.diagonal(dim1=1, dim2=2))
    assert close(jet.first[:D, :, 0].t(), slope)
    assert close(jet.first[D], rate)
    assert close(jet.top[D + 1, :, 0], torch.einsum("ni,nij,nj->n", x, h, x))


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        (name, inputs)
        for name in MAKERS
        for inputs in ("x", "t", "f", "xt", "xf", "tf")
        if "x" in inputs or "shared" not in name
    ],
)
def test_any_subset_of_inputs(name, inputs):
    sizes = {"dim": D * ("x" in inputs), "time": "t" in inputs, "features": 2 * ("f" in inputs)}
    net, (x, t, f) = network(name, **sizes), points()
    given = [v if c in inputs else None for c, v in zip("xtf", (x, t, f), strict=True)]
    u = net(*given)
    assert u.shape == (N, 1)
    # what it is given, it uses
    for i in range(3):
        if given[i] is not None:
            moved = list(given)
            moved[i] = given[i] + 0.3
            assert (net(*moved) - u).abs().max() > 1e-6


def test_input_layer_is_the_sum_of_its_products():
    layer = InputLayer(dim=D, time=True, features=2, width=7, input_scale=3.0).double()
    x, t, f = points()
    wanted = 3.0 * (x @ layer.x.weight.t() + layer.x.bias)
    wanted = wanted + t @ layer.t.weight.t() + f @ layer.f.weight.t()
    assert close(layer(x, t, f), wanted)
    assert layer.t.bias is None and layer.f.bias is None


@pytest.mark.parametrize("share", [2, 3, 5, 8])
def test_shared_kernel_is_a_strided_convolution(share):
    """Value, and the columns that one-hot directions gather."""
    layer = InputLayer(dim=D, time=False, features=0, width=7, share=share).double()
    with torch.no_grad():
        layer.kernel.normal_()
    x, _, _ = points()
    blocks = math.ceil(D / share)
    assert layer.x.in_features == blocks
    padded = F.pad(x, (0, blocks * share - D))[:, None]
    reduced = F.conv1d(padded, layer.kernel[None, None], stride=share)[:, 0]
    assert close(layer(x), F.linear(reduced, layer.x.weight, layer.x.bias))
    jet = push(layer, x, None, [one_hot(torch.arange(D)), RadialDirection()], order=1)
    assert close(jet.first[:D, 0], layer(torch.eye(D).double()) - layer.x.bias)
    assert close(jet.first[D], layer(x) - layer.x.bias)
    parameters = sum(p.numel() for p in layer.parameters())
    assert parameters == 7 * blocks + 7 + share


def test_modified_mlp_follows_the_equations():
    net, (x, t, _) = network("modified", dim=D, time=True), points()
    pre, act, w = net.input(x, t), F.silu, 8
    first, u, v = act(pre[:, :w]), act(pre[:, w : 2 * w]), act(pre[:, 2 * w :])
    z = (1 - first) * u + first * v
    for layer in net.hidden:
        h = act(layer(z))
        z = (1 - h) * u + h * v
    assert close(net(x, t), net.output(z))


def test_fourier_features_are_fixed_and_have_their_scale():
    net = FourierMLP(dim=200, frequencies=64, scale=0.3, width=4, depth=2)
    assert not any(p.requires_grad for p in net.input.parameters())
    assert net.input.x.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert net.input.x.bias.min() >= 0 and net.input.x.bias.max() <= 2 * math.pi
    x = torch.randn(3, 200)
    z = net.input(x)
    wanted = net.mlp(None, None, torch.cat([z.sin(), z.cos()], -1))
    assert torch.allclose(net(x), wanted, rtol=1e-6, atol=1e-8)


def test_depth_and_width_are_what_they_say():
    net = MLP(dim=D, width=8, depth=4)
    sizes = [tuple(m.weight.shape) for m in net.modules() if isinstance(m, torch.nn.Linear)]
    assert sizes == [(8, D), (8, 8), (8, 8), (1, 8)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLP(dim=0), "without inputs"),
        (lambda: MLP(dim=3, width=0), "network.width=0"),
        (lambda: MLP(dim=3, depth=-1), "network.depth=-1"),
        (lambda: MLP(dim=3, depth=1), "network.depth=1"),
        (lambda: ModifiedMLP(dim=3, depth=1), "network.depth=1"),
        (lambda: FourierMLP(dim=3, depth=1), "network.depth=1"),
        (lambda: MLP(dim=-1), "network.dim=-1"),
        (lambda: MLP(dim=3, width=2.0), "network.width is 2.0"),
        (lambda: MLP(dim=3, share=0), "network.share=0"),
        (lambda: MLP(dim=3, activation="relu"), "network.activation=relu"),
        (lambda: MLP(dim=3, activation="tahn"), "tanh"),
        (lambda: ResidualMLP(dim=3, blocks=0), "network.blocks=0"),
        (lambda: FourierMLP(dim=3, frequencies=True), "network.frequencies is True"),
    ],
)
def test_unusable_arguments_are_named(make, words):
    with pytest.raises((InvalidArgument, InvalidType), match=words):
        make()
