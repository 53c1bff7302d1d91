"""Inputs from polygons, masks, triangles and solids, against closed forms."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import (
    Ball,
    Mesh,
    Polygon,
    inscribed,
    mask_domain,
    triangulated_domain,
)
from sciml.pretrained import load_pretrained
from sciml.pretrained.inputs import operator_inputs

CENTRE, RADIUS = (30.0, -7.0), 5.0


def disk_mask(n=400):
    """Return the mask of the disk, first axis x, and the corners of its box."""
    low = np.array(CENTRE) - 1.2 * RADIUS
    cells = low[:, None] + 2.4 * RADIUS * (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(*cells, indexing="ij")
    return np.hypot(x - CENTRE[0], y - CENTRE[1]) < RADIUS, low, low + 2.4 * RADIUS


def fan(rings=12, around=160):
    """Return triangles that fill the disk."""
    angle = torch.arange(around, dtype=torch.float64) * (2 * math.pi / around)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    radii = torch.arange(1, rings + 1, dtype=torch.float64) / rings
    vertices = torch.cat([torch.zeros(1, 2), (radii[:, None, None] * circle).flatten(0, 1)])
    k = torch.arange(around)
    first, second = 1 + k, 1 + (k + 1) % around
    faces = [torch.stack([0 * k, first, second], 1)]
    for ring in range(rings - 1):
        a, b = first + ring * around, second + ring * around
        faces += [torch.stack([a, a + around, b], 1), torch.stack([b, a + around, b + around], 1)]
    return torch.tensor(CENTRE).double() + RADIUS * vertices, torch.cat(faces)


def domains():
    vertices, faces = fan()
    faces[::3] = faces[::3].flip(1)  # either way round
    return {
        "ball": (Ball(RADIUS, CENTRE), 1e-6),
        "polygon": (inscribed(Ball(RADIUS, CENTRE), 256), 1e-4),
        "mask": (mask_domain(*disk_mask()), 0.006),
        "triangles": (triangulated_domain(vertices, faces), 3e-4),
    }


def bowl(x, i):
    """u = x^2 + 3 x y in the domain's own coordinates; its Laplacian is 2."""
    return x[0] ** 2 + 3 * x[0] * x[1]


BOWL = Dirichlet(bowl, lambda x, i: torch.full_like(x[0], -2.0))


@pytest.mark.parametrize("kind", ["ball", "polygon", "mask", "triangles"])
def test_a_disk_far_away_is_the_unit_disk_in_the_box(kind):
    domain, tolerance = domains()[kind]
    operator = load_pretrained("wos_poisson2d")
    found = operator_inputs(operator, domain, BOWL)
    assert list(found.inputs) == ["sdf", "boundary", "source"]
    axis = torch.linspace(-1.5, 1.5, 44)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    r = torch.hypot(x, y)
    assert torch.allclose(found.inputs["sdf"][0], r - 1, rtol=0, atol=tolerance)
    source = torch.full((1, 44, 44), -2.0 * RADIUS**2)
    scale = 0.03 if kind == "mask" else 2 * tolerance + 1e-6
    assert torch.allclose(found.inputs["source"], source, rtol=scale, atol=0.0)
    on = torch.stack([x, y]) / r.clamp_min(1e-6)
    at = torch.tensor(CENTRE)[:, None, None] + RADIUS * on
    expected = at[0] ** 2 + 3 * at[0] * at[1]
    # away from the centre the closest point is one: a mask has it within a cell
    error = ((found.inputs["boundary"][0] - expected).abs() / expected.abs().max())[r > 0.3]
    assert float(error.max()) < {"mask": 0.05}.get(kind, 0.02)
    assert float(error.mean()) < {"ball": 1e-6, "mask": 0.01}.get(kind, 2e-3)
    assert torch.allclose(found.centre, torch.tensor([CENTRE]).double(), rtol=0, atol=0.08)
    back = found.to_box(found.points).view(44, 44, 2)
    assert torch.allclose(back, torch.stack([x, y], 2).double(), rtol=0, atol=1e-6)


def test_the_operator_solves_what_it_is_shown():
    """A disk of radius 5, 30 away: the linear part of u is large, so compare what is left."""
    operator = load_pretrained("wos_poisson2d")

    def u(x, i):
        return (x[0] - CENTRE[0]) * (x[1] - CENTRE[1]) / 25 + (x[0] - CENTRE[0]) ** 2 / 25

    problem = Dirichlet(u, lambda x, i: torch.full_like(x[0], -2 / 25))
    domain = Ball(RADIUS, CENTRE)
    found = operator_inputs(operator, domain, problem)
    value = operator.predict(**found.inputs)["value"].flatten(1)
    inside = domain.inside(found.points)
    exact = u(*domain.columns(found.points)).view_as(value)
    error = (value - exact)[inside].norm() / exact[inside].norm()
    assert float(error) < 0.01


def test_coefficients_move_too():
    screened = load_pretrained("wos_screened2d")
    problem = Dirichlet(bowl, None, screening=0.2)
    found = operator_inputs(screened, Ball(RADIUS, CENTRE), problem).inputs
    assert torch.allclose(found["screening"], torch.full((1, 44, 44), 5.0), rtol=1e-6, atol=0.0)
    varying = load_pretrained("wos_varcoef2d")
    problem = Dirichlet(bowl, diffusion=lambda x, i: 1 + 0.01 * x[0])
    found = operator_inputs(varying, Ball(RADIUS, CENTRE), problem).inputs
    axis = CENTRE[0] + RADIUS * torch.linspace(-1.5, 1.5, 44)
    assert torch.allclose(found["diffusion"][0, :, 7], 1 + 0.01 * axis, rtol=1e-6, atol=0.0)


def test_clouds():
    operator = load_pretrained("wos_poisson2d_gino")
    flat = Dirichlet(lambda x, i: 0.1 * (x[0] - CENTRE[0]))
    found = operator_inputs(operator, Ball(RADIUS, CENTRE), flat)
    points = found.inputs["points"][0]
    assert list(found.inputs) == list(operator.spec["inputs"]) and len(points) == 768
    assert torch.allclose(found.inputs["distance"][0], points.norm(dim=1) - 1, rtol=0, atol=1e-6)
    assert operator.predict(**found.inputs)["value"].shape == (1, 768)


def test_a_solid_from_triangles():
    ends = torch.tensor([[10.0, 10, 10], [12.0, 12, 12]], dtype=torch.float64)
    corners = torch.cartesian_prod(*ends.T)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = torch.tensor([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    operator = load_pretrained("wos_poisson3d")
    found = operator_inputs(operator, Mesh(corners, faces), Dirichlet(lambda x, i: x[2] - 11))
    axis = torch.linspace(-1.5, 1.5, 18)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    away = grid.abs() - 1
    sdf = away.clamp_min(0).norm(dim=0) + away.amax(0).clamp_max(0)
    assert torch.allclose(found.inputs["sdf"][0], sdf, rtol=0, atol=1e-6)
    value = operator.predict(**found.inputs)["value"][0]
    assert float((value - grid[2])[sdf < 0].norm() / grid[2][sdf < 0].norm()) < 0.05


def test_triangles_with_a_hole():
    side = torch.linspace(0, 3, 4, dtype=torch.float64)
    vertices = torch.cartesian_prod(side, side)
    quads = [(4 * i + j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    faces = torch.tensor([t for k in quads for t in ((k, k + 4, k + 5), (k, k + 5, k + 1))])
    domain = triangulated_domain(vertices, faces)
    where = torch.tensor([[[1.5, 1.5], [0.4, 1.5], [4.0, 1.5]]], dtype=torch.float64)
    exact = torch.tensor([[0.5, -0.4, 1.0]], dtype=torch.float64)
    assert torch.allclose(domain.signed_distance(where), exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mask_domain(np.full((9, 9), 200), (0, 0), (1, 1)), "threshold"),
        (lambda: mask_domain(np.zeros((9, 9)), (0, 0), (1, 1)), "all of one kind"),
        (lambda: mask_domain(np.eye(9), (0, 0), (1, 2)), "squares"),
        (lambda: triangulated_domain([[0, 0], [1, 0], [2, 0]], [[0, 1, 2]]), "without area"),
        (
            lambda: triangulated_domain(
                [[0, 0], [1, 0], [0, 1], [5, 5], [6, 5], [5, 6]], [[0, 1, 2], [3, 4, 5]]
            ),
            "2 separate domains",
        ),
        (
            lambda: triangulated_domain([[0, 0], [1, 0], [0, 1], [1, 1]], [[0, 1, 2], [0, 1, 3]]),
            "overlap",
        ),
        (
            lambda: triangulated_domain(
                [[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]], [[0, 1, 2], [0, 3, 4]]
            ),
            "in a corner",
        ),
    ],
)
def test_what_shows_no_domain_is_refused(make, words):
    with pytest.raises(InvalidArgument, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "domain", "problem", "settings", "words"),
    [
        ("wos_poisson3d", Ball(1.0, (0.0, 0.0)), BOWL, {}, "2D"),
        ("wos_poisson2d", Ball(1.0, (9.0, 0.0)), BOWL, {"move": False}, "inside the box"),
        ("wos_poisson2d", Ball(1.0, (0.0, 0.0)), Dirichlet(bowl, screening=1.0), {}, "screening"),
        ("wos_screened2d", Ball(1.0, (0.0, 0.0)), BOWL, {}, "screening"),
        (
            "wos_poisson2d",
            Polygon([[0, 0], [1, 0], [0, 1]]),
            Dirichlet(lambda x, i: x[:1]),
            {},
            "one number per point",
        ),
    ],
)
def test_what_the_operator_cannot_be_shown_is_refused(name, domain, problem, settings, words):
    with pytest.raises(InvalidArgument, match=words):
        operator_inputs(load_pretrained(name), domain, problem, **settings)


def test_derivatives_with_respect_to_clouds_are_refused_and_those_of_data_are_right():
    """What autograd says of a disk's radius has the wrong sign: neighbours are held fixed."""
    model = load_pretrained("wos_poisson2d_gino")
    draw = torch.Generator().manual_seed(0)
    r = torch.cat([torch.rand(512, generator=draw).sqrt(), torch.ones(256)])
    angle = 2 * torch.pi * torch.rand(768, generator=draw)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    cloud = {"points": (r[:, None] * circle)[None], "distance": (r - 1)[None]}
    data = {"boundary": (circle[:, 0] / 4 + 1)[None], "source": torch.ones(1, 768)}

    def total(**given):
        return model.predict(**given)["value"].double().mean()

    for name in cloud:
        moving = {**cloud, **data, name: cloud[name].clone().requires_grad_()}
        with pytest.raises(InvalidArgument, match=f"derivatives with respect to {name}"):
            total(**moving)
        with torch.no_grad():
            assert float(total(**moving)) == float(total(**cloud, **data))
    size = torch.tensor(1.0, requires_grad=True)
    slope = torch.autograd.grad(total(**cloud, **{**data, "source": size * data["source"]}), size)
    step = 1e-2
    ahead, behind = (
        float(total(**cloud, **{**data, "source": (1 + s) * data["source"]})) for s in (step, -step)
    )
    assert float(slope[0]) == pytest.approx((ahead - behind) / (2 * step), rel=5e-3)
