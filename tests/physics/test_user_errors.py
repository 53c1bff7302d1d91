"""What a newcomer writes wrongly is said in words, with the line where it stands."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.systems import (
    At,
    Ball,
    Box,
    Disk,
    On,
    Polygon,
    Rectangle,
    Same,
    System,
    Unknown,
)

SQUARE = Rectangle((0, 0), (1, 1))


def plate(residual, **values: object) -> System:
    conditions = {"walls": On(SQUARE.boundary, **(values or {"u": 0}))}
    said = {"domain": SQUARE, "conditions": conditions, "residual": residual}
    return type("Plate", (System,), said)()


def laplace(self, u):
    return u.lap


RESIDUALS = {
    "derivative of a coordinate": (lambda self, u, x: u.lap + (x**2).x, "asks for .x of values"),
    "derivative of no output": (lambda self, u: u.lap + torch.abs(u).lap, "asks for .lap of"),
    "no time": (lambda self, u: u.lap + torch.abs(u).t, "asks for .t of values"),
    "math of a coordinate": (lambda self, u, x: u.lap + math.sin(x), "torch.sin, torch.exp"),
    "math of an output": (lambda self, u: u.lap + math.sin(u), "torch.sin, torch.exp"),
    "numpy": (lambda self, u: np.sin(torch.abs(u)) + u.lap, "in place of np.sin"),
    "if": (lambda self, u: u.lap if u > 1 else u.x, "torch.where"),
}


@pytest.mark.parametrize("case", RESIDUALS)
def test_errors_in_a_residual_are_explained(case: str) -> None:
    residual, text = RESIDUALS[case]
    line = residual.__code__.co_firstlineno
    with pytest.raises((InvalidArgument, InvalidType), match=text) as caught:
        plate(residual).needs  # noqa: B018
    assert f"Plate.residual(), line {line} of test_user_errors.py" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_errors_in_a_condition_are_explained_and_others_are_left() -> None:
    with pytest.raises(InvalidType, match="u of condition 'walls', line .*torch.sin"):
        plate(laplace, u=lambda x: math.sin(x)).needs  # noqa: B018
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        plate(lambda self, u: u.lap + None).needs  # noqa: B018
    assert type(caught.value) is TypeError


def test_values_of_conditions_are_numbers_or_functions() -> None:
    for value, text in [
        ("0", r"On\(u='0'\).*Write u=0"),
        (None, "u=None"),
        (np.zeros(3), "u=a ndarray"),
        (Unknown(1.0), r"On\(u=lambda c: c\)"),
        (math.nan, "a finite number|a number"),
        (math.inf, "a finite number"),
    ]:
        with pytest.raises((InvalidType, InvalidArgument), match=text):
            On(SQUARE.left, u=value)
    for value in (0, 1.5, np.float64(2), np.array(1.0), torch.tensor(1.0), torch.sin):
        assert On(SQUARE.left, u=value).values["u"] is value
    for order in ("1", lambda x: x, -1, 1.5):
        with pytest.raises(InvalidType, match=r"Same\('x', u=.*Write Same\('x', u=1\)"):
            Same("x", u=order)
    with pytest.raises(InvalidType, match="x='0'"):
        At(x="0", y=0, u=1)
    said = {"domain": SQUARE, "conditions": {"pin": At(x=abs, y=0, u=1)}, "residual": laplace}
    with pytest.raises(InvalidType, match="at x = a function"):
        type("Pinned", (System,), said)().needs  # noqa: B018


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (lambda: Rectangle(0, 0, 1, 1), "Rectangle((0, 0), (1, 1))"),
        (lambda: Rectangle(0, 1), "Rectangle((0, 0), (1, 1))"),
        (lambda: Box(0, 0, 0, 1, 1, 2.5), "Box((0, 0, 0), (1, 1, 2.5))"),
        (lambda: Box(0, 0, 1), "Box((0, 0), (1, 1))"),
        (lambda: Disk(0, 0, 1), "Disk((0, 0), 1)"),
        (lambda: Ball(0, 0, 0, 0.5), "Ball((0, 0, 0), 0.5)"),
        (lambda: Disk(0, 1), "Disk((0, 0), 1)"),
        (lambda: Polygon((0, 0), (1, 0), (0, 1)), "Polygon([(0, 0), (1, 0), (0, 1)])"),
    ],
)
def test_the_right_call_of_a_shape_is_said(make, right: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make()
    assert str(caught.value).endswith(f"Write {right}.")
