"""Taylor rules of elementwise functions against nested forward-mode differentiation."""

import pytest
import torch
import torch.nn.functional as F
from dense_references import along_line
from torch import nn

from sciml.autodiff import DenseDirections, elementwise, one_hot, push

POSITIVE = {"log", "sqrt", "reciprocal"}
RULES = {f"{i}-{f.__name__}": f for i, f in enumerate(elementwise.RULES)}


def argument(name, shape=(6, 3)):
    z = 1.5 * torch.randn(shape)
    return z.abs() + 0.3 if name.split("-")[-1] in POSITIVE | {"log1p"} else z


@pytest.mark.parametrize("name", RULES)
def test_derivatives_to_order_four(name):
    function, z = RULES[name], argument(name)
    rule = elementwise.RULES[function]
    wanted = [function(z), *along_line(function, z, torch.ones_like(z), 4)]
    for order in range(5):
        found = rule(z, order)
        assert len(found) == order + 1
        for a, b in zip(found, wanted, strict=False):
            # b may be exactly zero: the derivatives of a square from the third on
            assert (a - b).abs().max() <= 1e-12 * b.abs().max().clamp_min(1.0)


@pytest.mark.parametrize("name", RULES)
def test_first_derivative_against_finite_differences(name):
    function, z, h = RULES[name], argument(name), 1e-6
    slope = (function(z + h) - function(z - h)) / (2 * h)
    assert (elementwise.RULES[function](z, 1)[1] - slope).abs().max() < 1e-6


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 5, -1, -2, 0.5, 2.5])
def test_powers(exponent):
    z = torch.rand(5, 2) + 0.5
    found = elementwise.power(z, 4, exponent)
    wanted = [z**exponent, *along_line(lambda y: y**exponent, z, torch.ones_like(z), 4)]
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


def test_integer_powers_are_finite_at_zero():
    for exponent in (2, 3, 4):
        found = elementwise.power(torch.zeros(1), 4, exponent)
        wanted = [0.0] * 5
        wanted[exponent] = float(torch.lgamma(torch.tensor(exponent + 1.0)).exp())
        assert [float(f) for f in found] == pytest.approx(wanted)


OPTIONS = {
    "softplus, beta 2": nn.Softplus(beta=2),
    "softplus": nn.Softplus(),
    "gelu, tanh form": nn.GELU(approximate="tanh"),
    "gelu": nn.GELU(),
    "silu in place": nn.SiLU(inplace=True),
    "relu in place": nn.ReLU(inplace=True),
    "F.tanh": F.tanh,
    "F.sigmoid": F.sigmoid,
    "method": lambda z: z.tanh() + z.sin().exp() + z.square().log1p() + z.pow(3),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("first", ["linear", "coordinates"])
def test_options_and_spellings_are_respected(name, first):
    """On a jet and on the coordinates themselves; in-place variants as well."""
    act, x, weight = OPTIONS[name], torch.randn(5, 4), torch.randn(3, 4)
    parts = [one_hot(torch.tensor([0, 3])), DenseDirections(torch.randn(2, 4))]

    def f(y):
        if first == "linear":
            return act(F.linear(y, weight))
        if not isinstance(y, torch.Tensor):
            return F.linear(act(y), weight)
        return F.linear(act(y.clone()), weight)

    directions = torch.cat([p.dense(x)[:, 0] for p in parts])
    for order in (1, 2, 3, 4):
        jet = push(f, x, None, parts, None, order)
        wanted = torch.stack([along_line(f, x, v, order)[-1] for v in directions])
        assert (jet.top - wanted).abs().max() <= 1e-11 * wanted.abs().max().clamp_min(1.0)


def test_unknown_attributes_are_refused():
    def f(x):
        return F.linear(x, torch.ones(1, 2)).frobnicate()

    with pytest.raises(AttributeError, match="Jet' object has no attribute 'frobnicate'"):
        push(f, torch.zeros(1, 2), None, [one_hot(torch.tensor([0]))])
