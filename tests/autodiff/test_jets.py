"""Jets through ordinary modules against nested forward-mode differentiation."""

import logging

import pytest
import torch
import torch.nn.functional as F
from dense_references import along_line, error, hessians, parameter_gradient
from torch import nn

from sciml.autodiff import (
    DenseDirections,
    RadialDirection,
    SparseDirections,
    TimeDirection,
    linear_map,
    max_coordinate,
    one_hot,
    push,
    pushforward,
    quadratic_form,
    squared_norm,
    sum_coordinates,
)
from sciml.errors import InvalidArgument
from sciml.networks import MLP

D, N, H = 5, 4, 6


class Everything(nn.Module):
    """Uses most rules at once: x, t, a feature, gates, slices, sums, quotients."""

    def __init__(self, act=torch.tanh):
        super().__init__()
        self.x, self.t = nn.Linear(D, H), nn.Linear(1, H, bias=False)
        self.f, self.hidden, self.out = nn.Linear(1, H), nn.Linear(H, H), nn.Linear(H, 1)
        self.act = act

    def forward(self, x, t):
        g = torch.log((1 + squared_norm(x)) / 2)
        z = self.act(self.x(x) + self.t(t) + self.f(g))
        z = z + self.act(self.hidden(z)) * z
        z = torch.cat([z[..., :2], 0.5 * z[..., 2:], t * g], dim=-1)[..., :H]
        scale = torch.arange(1.0, D + 1)
        q = quadratic_form(x, lambda v: v * scale, scale)
        u = self.out(z) * (1 - t) + g / (2 + q) + F.linear(x * x * x, self.x.weight[:1])
        return u + torch.sin(x).sum(-1, keepdim=True) - x[..., 1:3].sum(-1, keepdim=True) ** 2


def every_part(points):
    return {
        "one-hot": one_hot(torch.tensor([1, 3, 3])),
        "per point": one_hot(torch.randint(D, (points, 2))),
        "sparse pairs": SparseDirections(
            torch.tensor([[0, 1], [2, 4]]), torch.tensor([[1.0, 1], [1, -2]])
        ),
        "pairs that coincide": SparseDirections(
            torch.tensor([[2, 2], [4, 4]]), torch.tensor([[1.0, 1], [1, -3]])
        ),
        "dense": DenseDirections(torch.randn(3, D)),
        "dense per point": DenseDirections(torch.randn(2, points, D)),
        "radial": RadialDirection(),
        "time": TimeDirection(),
        "space and time": SparseDirections(torch.tensor([0, 2]), time=-1.0),
    }


def vectors_of(part, x):
    """Return [(v (N, d), dt)] of a part."""
    return [(v.expand_as(x), part.time) for v in part.dense(x).expand(-1, len(x), -1)]


def points():
    return 0.5 * torch.randn(N, D), torch.rand(N, 1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", every_part(N))
def test_every_kind_of_direction(name, order):
    net, (x, t), part = Everything(), points(), every_part(N)[name]
    jet = push(net, x, t, [part], order=order)
    assert torch.allclose(jet.value, net(x, t), rtol=1e-12, atol=1e-12)
    wanted = [along_line(net, x, v, order, t, dt) for v, dt in vectors_of(part, x)]
    for m in range(order):
        assert jet.derivatives[m].shape == (part.num, N, 1)
        assert error(jet.derivatives[m], torch.stack([w[m] for w in wanted])) < 1e-11


@pytest.mark.parametrize("order", [2, 3, 4])
def test_collapsed_is_the_weighted_sum(order):
    """With shared and per-point weights, all kinds of directions in one pass."""
    net, (x, t), parts = Everything(), points(), list(every_part(N).values())
    free = push(net, x, t, parts, order=order)
    for shape in ((free.frame.num,), (free.frame.num, N)):
        w = torch.randn(shape)
        jet = push(net, x, t, parts, w, order)
        assert jet.top.shape == (N, 1)
        wanted = (w.reshape(len(w), -1, 1) * free.top).sum(0)
        assert error(jet.top, wanted) < 1e-11
        for a, b in zip(jet.derivatives[:-1], free.derivatives[:-1], strict=True):
            assert error(a, b) < 1e-12


def test_directions_beyond_the_weights_count_for_first_derivatives_only():
    net, (x, t) = Everything(), points()
    w = torch.rand(2)
    jet = push(net, x, t, [one_hot(torch.tensor([0, 4])), TimeDirection(), RadialDirection()], w)
    alone = push(net, x, t, [one_hot(torch.tensor([0, 4]))], w)
    assert error(jet.top, alone.top) < 1e-12
    slope = along_line(net, x, torch.zeros_like(x), 1, t, 1.0)[0]
    assert error(jet.first[2], slope) < 1e-12


ONES = torch.ones(N, 2, dtype=torch.float64)
WEIGHT, VECTOR = torch.randn(3, D, dtype=torch.float64), torch.rand(D, dtype=torch.float64) + 0.5
FUNCTIONS = {
    "squared norm": squared_norm,
    "fourth power of the norm": lambda x: squared_norm(x) ** 2,
    "sum": sum_coordinates,
    "mean": lambda x: x.mean(-1, keepdim=True) ** 3,
    "maximum": lambda x: torch.atan(max_coordinate(x)),
    "coordinate-wise, summed": lambda x: (torch.sin(x) * torch.cos(x)).sum(-1, keepdim=True),
    "coordinate-wise, mapped": lambda x: F.linear(torch.sin(x * x), WEIGHT),
    "powers": lambda x: (x**3 - x**4 + (x + 3) ** -1.5).sum(-1, keepdim=True),
    "times a vector": lambda x: ((x * VECTOR) ** 2 - VECTOR * x).sum(-1, keepdim=True),
    "times a column": lambda x: F.linear(x * torch.linspace(1, 2, N)[:, None], WEIGHT),
    "quotient": lambda x: (VECTOR / (x + 4) + 1 / (x - 4) + x / 3 + x / (2 + x * x)).sum(
        -1, keepdim=True
    ),
    "residual connection to x": lambda x: F.linear(
        x + F.linear(torch.tanh(F.linear(x, WEIGHT)), WEIGHT.t()), WEIGHT
    ),
    "jet times x": lambda x: (torch.tanh(F.linear(x, WEIGHT[:1])) * x).sum(-1, keepdim=True),
    "x over a jet": lambda x: (x / torch.exp(F.linear(x, WEIGHT[:1]))).sum(-1, keepdim=True),
    "joined with a constant": lambda x: torch.cat([torch.tanh(F.linear(x, WEIGHT)), ONES], -1) ** 2,
    "joined with x": lambda x: torch.cat([torch.tanh(F.linear(x, WEIGHT)), x], -1) ** 2,
    "select": lambda x: x[..., [0, 3]] * x[:, 1:2],
    "matrix product": lambda x: torch.tanh(x @ WEIGHT.t()) @ WEIGHT,
    "convolution": lambda x: torch.sin(
        linear_map(
            x,
            lambda y: F.conv1d(y[:, None], VECTOR[None, None, :2])[:, 0],
            lambda i: F.conv1d(
                F.one_hot(i, D).double().reshape(-1, 1, D), VECTOR[None, None, :2]
            ).reshape(*i.shape, D - 1),
        )
    ),
    "quotient of jets": lambda x: (
        1 / (2 + F.linear(x, WEIGHT) ** 2) - 3.0 / torch.exp(x @ VECTOR[:, None])
    ),
    "sum of features": lambda x: torch.exp(F.linear(x, WEIGHT)).sum(-1, keepdim=True).sqrt(),
    "mean of features": lambda x: torch.mean(torch.exp(F.linear(x, WEIGHT)), -1, keepdim=True),
    "broadcast": lambda x: squared_norm(x) + torch.arange(3.0) * F.linear(x, WEIGHT[:1]),
    "torch.add with alpha": lambda x: torch.add(F.linear(x, WEIGHT), torch.ones(3), alpha=2),
    "torch.sub with alpha": lambda x: torch.sub(x @ VECTOR[:, None], squared_norm(x), alpha=0.5),
    "constant": lambda x: torch.ones(N, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_coordinates(name):
    f, x = FUNCTIONS[name], 0.5 * torch.randn(N, D)
    parts = [p for p in every_part(N).values() if not p.time]
    vectors = [v for p in parts for v, _ in vectors_of(p, x)]
    dense = [along_line(f, x, v, 4) for v in vectors]
    for order in (1, 2, 3, 4):
        jet = push(f, x, None, parts, order=order)
        wanted = torch.stack([w[order - 1] for w in dense])
        assert jet.top.shape == wanted.shape
        assert (jet.top - wanted).abs().max() <= 1e-11 * wanted.abs().max().clamp_min(1.0)
        if order > 1:
            w = torch.randn(len(vectors), N)
            top = push(f, x, None, parts, w, order).top
            summed = (w[..., None] * wanted).sum(0)
            assert (top - summed).abs().max() <= 1e-11 * summed.abs().max().clamp_min(1.0)


def test_quadratic_form_with_a_full_matrix():
    a = torch.randn(D, D)
    a = a + a.t()
    x = torch.randn(N, D)

    def f(z):
        return torch.exp(-0.1 * quadratic_form(z, lambda v: v @ a, a.diagonal()))

    parts = list(every_part(N).values())[:7]
    vectors = [v for p in parts for v, _ in vectors_of(p, x)]
    jet = push(f, x, None, parts, order=4)
    wanted = [along_line(f, x, v, 4) for v in vectors]
    for m in range(4):
        assert error(jet.derivatives[m], torch.stack([w[m] for w in wanted])) < 1e-11


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: quadratic_form(torch.sin(x), lambda v: v, torch.ones(D)), "quadratic_form of a"),
        (lambda x: max_coordinate(x * 2), "max_coordinate of a function"),
        (lambda x: x.sum(), "keeps the axis"),
        (lambda x: F.linear(x, WEIGHT)[0], "on a jet"),
        (lambda x: torch.cat([F.linear(x, WEIGHT)] * 2, dim=0), "dim=0"),
        (lambda x: F.linear(x, WEIGHT).sum(0), "dim=0"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(f, words):
    with pytest.raises(InvalidArgument, match=words):
        push(f, torch.randn(N, D), None, [RadialDirection()])


def test_orders_and_weights_out_of_range_are_refused():
    x = torch.randn(N, D)
    for order in (0, 5):
        with pytest.raises(InvalidArgument, match="order from 1 to 4"):
            push(squared_norm, x, None, [RadialDirection()], order=order)
    with pytest.raises(InvalidArgument, match="2 weights for 1 directions"):
        push(squared_norm, x, None, [RadialDirection()], torch.ones(2))
    with pytest.raises(InvalidArgument, match="direction index of shape"):
        SparseDirections(torch.zeros(1, 1, 1, 1, dtype=torch.long))


# --- operations without a rule ----------------------------------------------------------------
FALLBACKS = {
    "elu": F.elu,
    "mish": nn.Mish(),
    "layer norm": nn.LayerNorm(H).double(),
    "erf": torch.erf,
    "softmax": nn.Softmax(dim=-1),
    "gelu, tanh form": nn.GELU(approximate="tanh"),
    "prelu": nn.PReLU().double(),
    "two arguments": lambda z: torch.atan2(z, 2 + z * z),
    "condition": lambda z: torch.where(torch.arange(H) > 2, z, z * z),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_operations_without_rule(name):
    net, (x, t) = Everything(FALLBACKS[name]), points()
    parts = [one_hot(torch.tensor([1])), DenseDirections(torch.randn(1, N, D)), TimeDirection()]
    vectors = [vd for p in parts for vd in vectors_of(p, x)]
    jet = push(net, x, t, parts, order=4)
    dense = [along_line(net, x, v, 4, t, dt) for v, dt in vectors]
    for m in range(4):
        assert error(jet.derivatives[m], torch.stack([w[m] for w in dense])) < 1e-10
    for shape in ((len(vectors),), (len(vectors), N)):
        w = torch.randn(shape)
        jet, free = push(net, x, t, parts, w, 2), push(net, x, t, parts, order=2)
        wanted = (w.reshape(len(w), -1, 1) * free.top).sum(0)
        assert error(jet.top, wanted) < 1e-10


def test_the_fallback_is_logged_once(caplog, monkeypatch):
    monkeypatch.setattr(pushforward, "_seen", set())
    x = torch.randn(N, D)
    with caplog.at_level(logging.INFO, logger="sciml.autodiff"):
        for _ in range(3):
            push(lambda z: F.elu(F.linear(z, WEIGHT)), x, None, [RadialDirection()])
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 1 and "elu has no Taylor rule" in lines[0]


def test_expanding_coordinates_is_logged_once(caplog, monkeypatch):
    monkeypatch.setattr(pushforward, "_seen", set())
    x = torch.randn(N, D)
    with caplog.at_level(logging.INFO, logger="sciml.autodiff"):
        for _ in range(2):
            jet = push(lambda z: torch.softmax(z, -1), x, None, [RadialDirection()])
    assert sum("(K, N, d)" in r.getMessage() for r in caplog.records) == 1
    wanted = along_line(lambda z: torch.softmax(z, -1), x, x, 2)
    assert error(jet.top[0], wanted[1]) < 1e-11


# --- gradients and modes ----------------------------------------------------------------------
@pytest.mark.parametrize("act", [torch.tanh, F.elu], ids=["rule", "fallback"])
def test_parameter_gradient_of_a_loss(act):
    """Against reverse mode through the Hessian, and the Hessian by double backward."""
    net, (x, t) = Everything(act), points()
    w = torch.rand(D, N)
    part = one_hot(torch.arange(D))
    jet = push(net, x, t, [part, TimeDirection()], w)
    found = parameter_gradient((jet.top + jet.value * jet.first[-1]).square().mean(), net)

    z, s = x.clone().requires_grad_(), t.clone().requires_grad_()
    u = net(z, s)
    slope, rate = torch.autograd.grad(u.sum(), (z, s), create_graph=True)
    total = torch.zeros(N)
    for j in range(D):
        row = torch.autograd.grad(slope[:, j].sum(), z, create_graph=True)[0]
        total = total + w[j] * row[:, j]
    wanted = parameter_gradient((total[:, None] + u * rate).square().mean(), net)
    assert error(found, wanted) < 1e-11


def test_gradient_of_a_trace_with_respect_to_the_points():
    net = MLP(dim=D, width=H).double()
    x = torch.randn(N, D, requires_grad=True)
    part = one_hot(torch.arange(D))
    top = push(net, x, None, [part], torch.ones(D)).top
    (found,) = torch.autograd.grad(top.sum(), x)
    dense = hessians(net, x).diagonal(dim1=1, dim2=2).sum()
    (wanted,) = torch.autograd.grad(dense, x)
    assert error(found, wanted) < 1e-11


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("act", [torch.tanh, F.elu], ids=["rule", "fallback"])
def test_works_without_gradients(mode, act):
    net, (x, t), parts = Everything(act), points(), list(every_part(N).values())
    w = torch.rand(sum(p.num for p in parts))
    wanted = push(net, x, t, parts, w).top.detach()
    with mode():
        found = push(net, x.clone(), t.clone(), parts, w)
        assert not found.top.requires_grad
        assert error(found.top, wanted) < 1e-13


def test_float32_stays_float32():
    net = MLP(dim=D, width=H).float()
    part = one_hot(torch.arange(D))
    for weights in (torch.ones(D), torch.ones(D, dtype=torch.float32)):
        jet = push(net, torch.randn(N, D, dtype=torch.float32), None, [part], weights)
        assert jet.top.dtype == jet.first.dtype == torch.float32


def test_compiled_loss_equals_eager():
    """The whole of it in one graph, the coordinates drawn being an input."""
    net = MLP(dim=8, time=True, width=16, depth=3).float()
    x, t = torch.randn(6, 8, dtype=torch.float32), torch.rand(6, 1, dtype=torch.float32)

    def loss(x, t, index, w):
        jet = push(net, x, t, [one_hot(index), TimeDirection(), RadialDirection()], w)
        return (jet.top + jet.first[-2] + jet.value * jet.first[-1]).square().mean()

    index, w = torch.tensor([1, 5, 2]), torch.full((3,), 8 / 3, dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=False)
    a, b = loss(x, t, index, w), compiled(x, t, index, w)
    assert torch.allclose(a, b, rtol=1e-5)
    assert error(parameter_gradient(b, net), parameter_gradient(a, net)) < 1e-5


@pytest.mark.slow
def test_inductor_loss_equals_eager():
    net = MLP(dim=8, time=True, width=16, depth=3).float()
    x, t = torch.randn(6, 8, dtype=torch.float32), torch.rand(6, 1, dtype=torch.float32)

    def loss(x, t, index, w):
        jet = push(net, x, t, [one_hot(index), TimeDirection()], w)
        return (jet.top + jet.first[-1]).square().mean()

    index, w = torch.tensor([1, 5, 2]), torch.full((3,), 8 / 3, dtype=torch.float32)
    compiled = torch.compile(loss, fullgraph=True, dynamic=False)
    for _ in range(2):
        a, b = loss(x, t, index, w), compiled(x, t, index, w)
        assert torch.allclose(a, b, rtol=1e-5)
        assert error(parameter_gradient(b, net), parameter_gradient(a, net)) < 1e-5
        index = torch.tensor([7, 0, 3])
