"""Fields handed to walks: wrong shapes refused with their name, right values unchanged."""

import pickle

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, MixedPolygon, l_shape
from sciml.physics.walks.control_variate import fitted
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.stars import Mixed, WalkOnStars

torch.set_num_threads(1)


def one(x, i):
    return torch.ones_like(x[0])


def generator():
    return torch.Generator().manual_seed(0)


def walk(**fields):
    domain = Ball()
    problem = Dirichlet(**({"boundary": one} | fields))
    return WalkOnSpheres(walks=8)(domain, problem, torch.zeros(1, 3, 2), generator())


WRONG = {
    "column": lambda x, i: x[0][:, None],
    "row": lambda x, i: x[:1],
    "all coordinates": lambda x, i: x,
    "product": lambda x, i: (x[0] * x[1][:, None]).mean(1),
    "mean": lambda x, i: x[:, 0],
    "whole numbers": lambda x, i: (x[0] > 0).long(),
    "numpy": lambda x, i: x[0].detach().numpy(),
    "nothing": lambda x, i: None,
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("field", ["boundary", "source", "screening", "diffusion", "reduced"])
def test_fields_of_walks_are_refused_by_name(field, name):
    more = {"diffusion": one} if field == "reduced" else {}
    with pytest.raises((InvalidArgument, InvalidType), match=f"Dirichlet.{field} "):
        walk(**{field: WRONG[name]}, **more)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("field", ["boundary", "source", "flux"])
def test_fields_of_stars_are_refused_by_name(field, name):
    domain = MixedPolygon(l_shape(), neumann=lambda x, i: x[0] > 0.99)
    wrong = WRONG[name] if field != "flux" else lambda x, i, n: WRONG[name](x, i)
    problem = Mixed(**({"boundary": one} | {field: wrong}))
    points = domain.sample_interior(3, generator())
    with pytest.raises((InvalidArgument, InvalidType), match=f"Mixed.{field} "):
        WalkOnStars(walks=16)(domain, problem, points, generator())


@pytest.mark.parametrize("constant", [3, 3.0, torch.tensor(3.0)])
def test_numbers_are_constants(constant):
    plain = walk(source=lambda x, i: torch.full_like(x[0], 3.0))
    found = walk(source=lambda x, i: constant)
    assert torch.equal(found.mean, plain.mean)


def test_what_is_no_function_is_refused():
    with pytest.raises(InvalidType, match="Dirichlet.boundary of type float"):
        Dirichlet(boundary=0.0)
    with pytest.raises(InvalidType, match="Mixed.flux of type Tensor"):
        Mixed(boundary=one, flux=torch.zeros(3))
    with pytest.raises(InvalidType, match="Dirichlet.boundary of type NoneType"):
        Dirichlet(boundary=None)


def test_a_field_that_nothing_would_read_is_refused():
    with pytest.raises(InvalidArgument, match="Dirichlet.reduced with constant coefficients"):
        Dirichlet(boundary=one, reduced=one)


def test_checked_problems_travel_between_processes():
    problem = pickle.loads(pickle.dumps(Dirichlet(boundary=one, screening=2.0)))
    assert problem.screening == 2.0
    assert torch.equal(problem.boundary(torch.zeros(2, 3), torch.zeros(3).long()), torch.ones(3))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, i: (x[0] > 0)[:, None],
        lambda x, i: x[:1] > 0,
        lambda x, i: x > 0,
        lambda x, i: True,
    ],
)
def test_neumann_returns_one_boolean_per_side(wrong):
    with pytest.raises(InvalidArgument, match=r"neumann returned.*x\[0\] > 0"):
        MixedPolygon(l_shape(), neumann=wrong)


def test_control_variates_pass_the_same_check():
    domain = Ball()
    problem = Dirichlet(boundary=lambda x, i: x[0][:, None])
    points = torch.rand(1, 40, 2, dtype=torch.float64) - 0.5
    with pytest.raises(InvalidArgument, match="Dirichlet.boundary returned"):
        fitted(problem, domain, points, points, degree=2, scale=1.0)
