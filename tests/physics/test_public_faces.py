"""Nonsense at the public faces of geometry and walks: one message, nothing raw from inside."""

import inspect

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType, SciMLError
from sciml.physics import geometry
from sciml.physics.elliptic.elliptic_grid import Grid
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, Box, Domain, MixedPolygon, Polygon, Reflecting
from sciml.physics.pde import PDE, Fields, Points
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.stars import Mixed
from sciml.physics.walks.verification import GivenProblems, verify

NONSENSE = {
    "text": "ab",
    "None": None,
    "nan": float("nan"),
    "negative": -1,
    "nested": [["a"]],
    "empty": [],
    "four axes": torch.ones(2, 2, 2, 2),
    "NaN entries": torch.tensor([float("nan"), 1.0]),
    "object": object(),
    "function": lambda: 0,
}
SQUARE = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
FACES = {name: getattr(geometry, name) for name in dir(geometry) if name[0] != "_"}
FACES = {
    name: face
    for name, face in FACES.items()
    if callable(face) and face not in (Domain, Reflecting, geometry.Boundary)
}
GOOD = {
    "MixedPolygon": {"polygon": Polygon(SQUARE), "neumann": [True, False, False, False]},
    "MixedBox": {"box": Box([0.0, 0.0], [1.0, 1.0]), "neumann": [True, False, False, False]},
    "Polygon": {"vertices": SQUARE, "holes": ()},
    "Boolean": {"first": Ball(), "second": Ball(), "kind": "union"},
    "Similar": {"domain": Ball(), "center": (0.0, 0.0), "size": 1.0},
}


def only_ours(call):
    """Call, and pass on what is no message of ours."""
    try:
        call()
    except SciMLError as error:
        assert len(str(error)) > 15


@pytest.mark.parametrize("name", FACES)
def test_constructors_of_domains(name):
    face, parameters = FACES[name], inspect.signature(FACES[name]).parameters.values()
    good = GOOD.get(name, {p.name: p.default for p in parameters if p.default is not p.empty})
    needed = [p.name for p in parameters if p.default is p.empty]
    for value in NONSENSE.values():
        only_ours(lambda value=value: face(**dict.fromkeys(needed, value)))
        if set(needed) <= set(good):
            for key in good:
                only_ours(lambda key=key, value=value: face(**{**good, key: value}))


@pytest.mark.parametrize("kind", NONSENSE)
def test_methods_of_domains_and_walks(kind):
    value, ball, source = NONSENSE[kind], Ball(), torch.Generator().manual_seed(0)
    problem, points = Dirichlet(lambda x, i: x[0]), torch.zeros(1, 3, 2)
    walk = WalkOnSpheres(walks=4)
    for call in (
        lambda: ball.inside(value),
        lambda: ball.project(value),
        lambda: ball.select(value),
        lambda: ball.sample_boundary(value, source),
        lambda: ball.sample_interior(3, value),
        lambda: walk(value, problem, points, source),
        lambda: walk(ball, value, points, source),
        lambda: walk(ball, problem, value, source),
        lambda: walk(ball, problem, points, value),
        lambda: Dirichlet(value),
    ):
        only_ours(call)
    only_ours(lambda: walk(ball, Dirichlet(lambda x, i: x[0], None, value), points, source))
    for key in ("walks", "eps", "max_steps", "chunk", "close", "antithetic", "dtype", "outside"):
        only_ours(lambda key=key: WalkOnSpheres(**{key: value}))
    for key in ("nodes", "half", "dim"):
        only_ours(lambda key=key: Grid(**{key: value}))


def test_what_is_said():
    with pytest.raises(InvalidType, match="axes is a str 'ab'. Expected numbers"):
        geometry.Ellipse("ab")
    with pytest.raises(InvalidType, match="polygon is a list. Expected a Polygon"):
        MixedPolygon(SQUARE, [True, False, False, False])
    with pytest.raises(InvalidArgument, match="-1 points. Expected a whole number"):
        Ball().sample_interior(-1, torch.Generator())


@pytest.mark.parametrize("field", ["boundary", "source", "screening", "diffusion"])
def test_fields_of_another_number_of_arguments(field):
    for function in (lambda: 1.0, lambda x: x[0], lambda x, i, n: x[0]):
        fields = {"boundary": lambda x, i: x[0], field: function}
        with pytest.raises(InvalidType, match=rf"Dirichlet.{field} takes .*Expected \(x, i\)"):
            Dirichlet(**fields)
    with pytest.raises(InvalidType, match=r"Mixed.flux takes .*Expected \(x, i, n\)"):
        Mixed(lambda x, i: x[0], flux=lambda x, i: x[0])
    with pytest.raises(InvalidType, match=r"neumann takes .*Expected \(x, i\)"):
        MixedPolygon(Polygon(SQUARE), lambda x: x[0] > 0)


def test_methods_of_another_number_of_arguments():
    class Short(PDE):
        def residual(self):
            return 0

        def lift(self, x):
            return x, None

        def source(self, x, t, more):
            return x[:, 0]

    problem, x = Short(dim=2), torch.zeros(3, 2)
    with pytest.raises(InvalidType, match=r"Short.residual\(\) takes .*Expected \(self, u, p\)"):
        problem.residual(Fields(x[:, 0]), Points(x))
    with pytest.raises(InvalidType, match=r"Short.lift\(\) takes .*Expected \(self, x, t\)"):
        problem.lift(x, None)
    with pytest.raises(InvalidType, match=r"Short.source\(\) takes .*Expected \(self, x\)"):
        problem.source(x)


def asked(problems, points):
    raise AssertionError("the model was asked")


@pytest.mark.parametrize("name", ["boundary", "source", "screening"])
def test_verify_blames_the_data_for_what_is_not_finite(name):
    fields = {"boundary": lambda x, i: x[0], name: lambda x, i: (x[0] - 0.5).sqrt()}
    problems, source = GivenProblems(Ball(), Dirichlet(**fields)), torch.Generator().manual_seed(0)
    with pytest.raises(InvalidArgument, match=f"the {name} of the problem is not finite at"):
        verify(asked, problems, source, points=32, drawn=False)
    with pytest.raises(InvalidArgument, match="confidence=a"):
        verify(asked, problems, source, points=32, drawn=False, confidence="a")
