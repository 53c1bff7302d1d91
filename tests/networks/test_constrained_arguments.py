"""Arguments of constrained operators: refused by name, whatever kind of thing came."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument, SciMLError
from sciml.networks.spectral.constrained_fno import ConstrainedFNO
from sciml.physics.constraints import BurgersConstraint, HardConstraint
from sciml.physics.evolution import Burgers, Heat, VorticityNavierStokes
from sciml.solvers import CG, LevenbergMarquardt, least_squares

PROBLEM = Burgers(points=24, time_count=4)
SMALL = {"functions": 4, "width": 4, "hidden": 4, "modes": 2, "blocks": 1}
NUMBERS = ("functions", "width", "hidden", "modes", "blocks", "padding", "patience")


def made(**words):
    layer = HardConstraint(BurgersConstraint(PROBLEM), experts=2)
    return ConstrainedFNO(layer, **{**SMALL, **words})


@pytest.mark.parametrize("value", [-1, "x", math.nan, None])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name, value):
    with pytest.raises(SciMLError, match=name):
        made(**{name: value})


@pytest.mark.parametrize(
    "words",
    [{"mean": [math.nan]}, {"mean": "x"}, {"std": [0.0]}, {"std": [-1.0]}, {"mean": [0.0, 1.0]}]
    + [{"solver": "qr"}, {"solver": LevenbergMarquardt}, {"width": 0}, {"hidden": 0}]
    + [{"adjoint": "exact"}, {"blocks": 2.5}, {"modes": True}],
)
def test_other_arguments(words):
    with pytest.raises(SciMLError, match=next(iter(words))):
        made(**words)


@pytest.mark.parametrize("levels", [0, 1, -1, 2.5, "x"])
def test_levels(levels):
    with pytest.raises(SciMLError, match="levels"):
        made().solve(torch.zeros(2, 1, 24), levels=levels)


@pytest.mark.parametrize("field", [torch.zeros(2, 2, 24), torch.zeros(2, 1, 23), "x", [1.0]])
def test_fields(field):
    with pytest.raises(SciMLError, match="field"):
        made()(field)


def test_no_samples_and_no_rounds():
    network = made()
    assert network(torch.zeros(0, 1, 24)).shape == (0, 4, 24)
    assert network.rollout(torch.zeros(2, 1, 24), 0) == []
    for rounds in (-1, 2.5):
        with pytest.raises(SciMLError, match="rounds"):
            network.rollout(torch.zeros(2, 1, 24), rounds)


@pytest.mark.parametrize("problem", [PROBLEM, Heat(24), VorticityNavierStokes(24)])
def test_samples_are_counted(problem):
    assert len(problem.sample(0, torch.Generator())) == 0
    for count in (-1, 2.5, "x", None):
        with pytest.raises(TypeError, match="count is"):
            problem.sample(count, torch.Generator())
    with pytest.raises(TypeError, match="generator is None"):
        problem.sample(2, None)


@pytest.mark.parametrize("points", ["x", None, [1], 2.5])
def test_points_of_a_square(points):
    with pytest.raises(InvalidArgument, match="an even number of points"):
        VorticityNavierStokes(points)


def test_a_linear_solver_does_not_solve_equations():
    with pytest.raises(TypeError, match="linear ones go into linear_solve"):
        least_squares(lambda x: x - 1, torch.zeros(2, 3), solver=CG(), on_failure="raise")
