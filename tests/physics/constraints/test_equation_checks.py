"""What users' own equations return is compared with what was asked of them."""

import pytest
import torch
from discrete_cases import burgers_case

from sciml.errors import InvalidArgument
from sciml.physics.constraints import Balance, BurgersConstraint, HardConstraint

S = BurgersConstraint


def mine(**methods):
    """Return the layer of an equation with other methods, and what to call it with."""
    kind = type("Mine", (BurgersConstraint,), methods)
    equation, inputs, _, basis = burgers_case(functions=3)
    equation = kind(equation.problem)
    return HardConstraint(equation, experts=2), basis, inputs


def of(change, method="formula"):
    """Return a method that changes what the right one returns."""
    right = getattr(S, method)
    return lambda self, *given, **words: change(right(self, *given, **words))


CASES = {
    "features: no list": ({"features": lambda s, f, i, *, data: f}, "a list of tensors"),
    "features: none": ({"features": lambda s, f, i, *, data: []}, "a list of tensors"),
    "features: another shape": (
        {"features": of(lambda out: [t[..., :-1] for t in out], "features")},
        "tensors of the field's shape",
    ),
    "features: products": (
        {"features": of(lambda out: [t * t for t in out], "features")},
        r"Mine.features\(\) returned what is not affine",
    ),
    "features: one more with data": (
        {"features": lambda s, f, i, *, data: S.features(s, f, i, data=data) + [f] * data},
        "as many",
    ),
    "formula: a column": ({"formula": of(lambda r: r[..., None])}, "one residual per point"),
    "formula: a number": ({"formula": lambda s, v, a: 0.0}, "a formula that returns 0.0"),
    "formula: mixes points": (
        {"formula": of(lambda r: r - r.mean(-1, keepdim=True))},
        r"Mine.formula\(\) returned residuals that change when other points are left out",
    ),
    "aux: inputs": ({"aux": lambda s, i, z: [i]}, r"Mine.aux\(\) returned"),
    "conditions: one each": (
        {"conditions": of(lambda r: r.sum(-1), "conditions")},
        r"Mine.conditions\(\) returned",
    ),
    "conditions: nothing": ({"conditions": lambda s, f, i, *, data: None}, "returned None"),
    "columns": ({"columns": lambda s, f, i: f[:, 0]}, r"Mine.columns\(\) returned"),
    "offset": ({"offset": lambda s, f, i: f}, r"Mine.offset\(\) returned"),
    "assembled": ({"assembled": lambda s, v: v[:, 0]}, r"Mine.assembled\(\) returned"),
    "weight: negative": ({"weight": lambda s, z: -torch.ones(*z)}, "zero or positive weights"),
    "weight: a list": ({"weight": lambda s, z: [1.0]}, r"Mine.weight\(\) returned a list"),
    "weight: times": ({"weight": lambda s, z: torch.ones(z[0])}, r"Mine.weight\(\) returned"),
    "shared: numbers": ({"shared": lambda s, z: torch.zeros(*z)}, "booleans"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_by_the_name_of_its_method(case):
    methods, match = CASES[case]
    with pytest.raises(InvalidArgument, match=match):
        layer, basis, inputs = mine(**methods)
        layer(basis, inputs)


def test_the_right_methods_pass():
    layer, basis, inputs = mine()
    assert layer(basis, inputs).converged.all()


def test_fields_of_another_grid_and_biases_of_other_experts_are_refused():
    layer, basis, inputs = mine()
    with pytest.raises(InvalidArgument, match="a field of shape"):
        layer.residual(torch.zeros(2, 11, 23), inputs)  # had an answer
    with pytest.raises(InvalidArgument, match="a field of shape"):
        layer.conditions(torch.zeros(2, 11, 23), inputs)
    layer = HardConstraint(layer.equation, experts=2, points=9)
    for bias in (torch.zeros(3), torch.full((2,), torch.nan)):
        with pytest.raises(InvalidArgument, match="finite numbers, one per expert"):
            layer(basis, inputs, generator=torch.Generator(), bias=bias)
    with pytest.raises(TypeError, match="experts is 'two'"):
        Balance("two")
