"""What is left out or misspelt in a system is said before training, at the line of its class."""

from __future__ import annotations

import inspect

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType, NumericalWarning, SciMLWarning
from sciml.physics.systems import (
    At,
    Initial,
    Integral,
    Interval,
    Observed,
    On,
    Rectangle,
    Same,
    System,
    Time,
    Unknown,
)

SQUARE = Rectangle((0, 0), (1, 1))
BAR = Interval(0, 1) * Time(0, 1)
WALLS = {"walls": On(SQUARE.boundary, u=0)}


class Plate(System):
    domain = SQUARE
    conditions = WALLS

    def residual(self, u):
        return u.lap + 1


def plate(**said: object) -> System:
    return type("Plate", (Plate,), said)()


def rod(conditions: dict, equation, **said: object) -> System:
    said = {"domain": BAR, **said, "conditions": conditions}
    return type("Rod", (System,), {**said, "residual": equation})()


def heat(self, u):
    return u.t - u.xx


def wave(self, u):
    return u.tt - u.xx


ENDS, START = On(BAR.boundary, u=0), Initial(u=0)


# --- names ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "meant"),
    [("output", "'outputs'"), ("condtions", "'conditions'"), ("unknown", r"c = Unknown\(0.1\)"),
     ("Periodic", "'periodic'"), ("exat", "'exact'")],
)  # fmt: skip
def test_a_name_one_letter_away_is_pointed_out(name: str, meant: str) -> None:
    with pytest.warns(SciMLWarning, match=f"Plate: .*'{name}' is read by nothing.*{meant}"):
        plate(**{name: {"c": 1.0}}).needs  # noqa: B018


def test_names_that_replace_what_a_system_needs_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="Plate.condition, .*Did you mean 'conditions'"):
        plate(condition=WALLS).needs  # noqa: B018
    with pytest.raises(InvalidArgument, match="Plate.residuals, .*Did you mean 'residual'"):
        plate(residuals=lambda self, u: u.xx).needs  # noqa: B018
    with pytest.raises(InvalidArgument, match=r"Plate.unknowns, .*c = Unknown\(0.1\)|Rename"):
        plate(unknowns={"c": 1.0}).needs  # noqa: B018
    with pytest.raises(InvalidArgument, match="Plate.solution, .*Rename it"):
        plate(solution=lambda self, x, y: x).needs  # noqa: B018


def test_names_that_are_used_or_far_away_are_the_users() -> None:
    class Named(Plate):
        weight = 2.0  # the residual reads it
        integral = Integral(lambda u, s: u, "x", 0, 1)
        conductivity = 3.0

        def residual(self, u, integral):
            return self.weight * u.lap + integral

        def sample(self, n, generator):  # a method of System, with its arguments
            return super().sample(n, generator)

    assert Named().needs


# --- conditions -------------------------------------------------------------------------------
def test_conditions_have_names_and_are_conditions() -> None:
    with pytest.raises(InvalidType, match='conditions of Plate of type list.*{"walls": On'):
        plate(conditions=[On(SQUARE.left, u=0)]).needs  # noqa: B018
    with pytest.raises(InvalidType, match="condition called 1 in Plate"):
        plate(conditions={1: On(SQUARE.boundary, u=0)}).needs  # noqa: B018


def test_no_conditions_at_all() -> None:
    with pytest.warns(NumericalWarning, match=r"Plate: it has no conditions and no hard\(\)"):
        plate(conditions={}).needs  # noqa: B018
    assert plate(conditions={}, hard=lambda self, u, x: x * u).needs
    assert plate(conditions={}, residual=lambda self, u, x: u - x).needs
    assert plate(conditions={}, periodic=("x", "y")).needs


def test_a_forgotten_start() -> None:
    with pytest.warns(NumericalWarning, match=r"Rod: u.t .* no condition says u .*Initial\(u="):
        rod({"ends": ENDS}, heat).needs  # noqa: B018
    with pytest.warns(NumericalWarning, match="u.tt .* no condition says u_t at the start"):
        rod({"ends": ENDS, "start": START}, wave).needs  # noqa: B018
    with pytest.warns(NumericalWarning, match="v.t .* no condition says v at"):
        pair = {"outputs": ("u", "v"), "domain": Time(0, 1)}
        rod({"start": Initial(u=1)}, lambda self, u, v: (u.t - v, v.t + u), **pair).needs  # noqa: B018
    readings = Observed({"x": [0.5], "t": [0.5], "u": [1.0]})
    both = On(BAR.initial, lambda u: {"value": u - 1, "speed": u.t})
    for conditions, equation in [
        ({"ends": ENDS, "start": START}, heat),
        ({"ends": ENDS, "start": Initial(u=0, u_t=1)}, wave),
        ({"ends": ENDS, "start": both}, wave),
        ({"ends": ENDS, "start": START, "end": On(BAR.final, u=0)}, wave),
        ({"ends": ENDS, "end": On(BAR.final, u=0)}, heat),
        ({"ends": ENDS, "year": Same("t", u=1)}, wave),
        ({"ends": ENDS, "seen": readings}, heat),
    ]:
        assert rod(conditions, equation).needs
    assert rod({"ends": ENDS}, heat, periodic=("t",)).needs
    assert rod({"at": At(t=0, u=1)}, lambda self, u: u.t + u, domain=Time(0, 1)).needs
    built = {"hard_conditions": ("start",)}
    assert rod({"ends": ENDS, "start": START}, heat, **built).needs


def test_a_forgotten_wall() -> None:
    three = {"three": On(SQUARE.left | SQUARE.right | SQUARE.top, u=0)}
    with pytest.warns(NumericalWarning, match=r"the part bottom of .*Write On\(domain.bottom, "):
        plate(conditions=three).needs  # noqa: B018
    with pytest.warns(NumericalWarning, match="the parts left, right, bottom, top of"):
        plate(conditions={"pin": At(x=0, y=0, u=0)}).needs  # noqa: B018
    with pytest.warns(NumericalWarning, match="the part right of"):
        rod({"start": START, "left": On(BAR.left, u=0)}, heat).needs  # noqa: B018
    sides = {"sides": On(SQUARE.left | SQUARE.right, u=0)}
    assert plate(conditions={**sides, "rest": On(SQUARE.rest, u_n=0)}).needs
    assert plate(conditions={**sides, "round": Same("y", u=1)}).needs
    assert plate(conditions=sides, periodic=("y",)).needs
    assert plate(conditions=sides, mirrored={"y": 1}).needs
    first = {"inflow": On(SQUARE.left, u=1)}
    assert plate(conditions=first, residual=lambda self, u: u.x + u.y).needs
    line = Interval(0, 1)  # both conditions at one end, or at points
    for conditions in ({"left": On(line.left, u=0, u_x=1)}, {"a": At(x=0, u=0), "b": At(x=1, u=1)}):
        assert plate(domain=line, conditions=conditions).needs


def test_unknown_names_of_constants_are_no_mistakes() -> None:
    class Named(Plate):
        unknown = Unknown(0.5)

        def residual(self, u, x):
            return self.unknown * u.lap + torch.sin(x)

    assert Named().needs


def test_a_warning_points_at_the_class() -> None:
    class Forgetful(Plate):
        conditions = {"left": On(SQUARE.left, u=0), "top": On(SQUARE.top, u=1)}  # noqa: RUF012

    with pytest.warns(NumericalWarning) as found:
        Forgetful().needs  # noqa: B018
    line = inspect.getsourcelines(Forgetful)[1]
    texts = [str(w.message) for w in found]
    assert {(w.filename, w.lineno) for w in found} == {(__file__, line)}
    assert any("'left' and 'top' contradict" in text for text in texts)
    assert all(text.startswith("Forgetful: ") for text in texts)
