"""Gradients by walks against derivatives in closed form."""

import math

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, Box, star_family
from sciml.physics.walks.gradients import estimate_gradients, gradient_radius
from sciml.physics.walks.spheres import WalkOnSpheres


def stream(step=0):
    return Streams(0, step).generator("gradients")


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_radii_have_their_law(dim):
    """Moments of (d + 1) / d (1 - s^d): E[s^k] = (d + 1) / ((k + 1) (k + d + 1))."""
    s = gradient_radius(200_000, dim, stream(), torch.float64)
    for k in (1, 2, 3):
        wanted = (dim + 1) / ((k + 1) * (k + dim + 1))
        assert abs(float((s**k).mean()) - wanted) < 4 * float((s**k).std()) / 200_000**0.5


def laplace(x, i):
    return x[0].exp() * x[1].cos()


def slope_of_laplace(p):
    x, y = p[..., 0], p[..., 1]
    rest = [torch.zeros_like(x)] * (p.shape[-1] - 2)
    return torch.stack([x.exp() * y.cos(), -x.exp() * y.sin(), *rest], -1)


def bump(x, i):
    return (-x.square().sum(0)).exp()


def source_of_bump(x, i):  # -Laplacian exp(-|x|^2)
    r2 = x.square().sum(0)
    return (2 * len(x) - 4 * r2) * (-r2).exp()


def slope_of_bump(p):
    return -2 * p * (-p.square().sum(-1, keepdim=True)).exp()


CASES = {
    "laplace, stars": (star_family(3, stream(5)), Dirichlet(laplace), slope_of_laplace),
    "source, ball": (Ball([1.0, 0.7]), Dirichlet(bump, source_of_bump), slope_of_bump),
    "source, box in 3D": (
        Box([[-1.0, -0.6, -0.8]], [[0.7, 0.9, 1.0]]),
        Dirichlet(bump, source_of_bump),
        slope_of_bump,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_in_closed_form(name):
    domain, problem, exact = CASES[name]
    points = 0.9 * domain.sample_interior(12, stream(1), torch.float64)
    found, error = estimate_gradients(
        WalkOnSpheres(4000, eps=1e-4), domain, problem, points, stream(2)
    )
    wanted = exact(points)
    off = (found - wanted).abs()
    assert (off < 4.5 * error + 2e-3).all(), float((off / error).max())
    # the errors are what they say, and small enough to tell a wrong gradient
    z = (found - wanted) / error
    assert 0.6 < float(z.std()) < 1.4 and error.mean() < 0.1 * wanted.abs().max()


def test_opposite_pairs_take_the_value_out():
    """u = 100 + x close to the boundary: single directions would scatter by 100 d / R."""
    disk, problem = Ball(), Dirichlet(lambda x, i: 100 + x[0])
    points = torch.tensor([[[0.99, 0.0]]], dtype=torch.float64)
    found, error = estimate_gradients(WalkOnSpheres(400), disk, problem, points, stream(3))
    assert error.max() < 0.02 * 100 * 2 / 0.01 / math.sqrt(400)
    assert (found[0, 0] - torch.tensor([1.0, 0.0])).abs().max() < 4.5 * error.max()


def test_what_it_is_not_for_is_refused():
    disk, points = Ball(), torch.zeros(1, 1, 2)
    engine = WalkOnSpheres(8)
    with pytest.raises(InvalidArgument, match="screening"):
        estimate_gradients(engine, disk, Dirichlet(laplace, screening=1.0), points, stream())
    with pytest.raises(InvalidArgument, match="walks=5"):
        estimate_gradients(WalkOnSpheres(5), disk, Dirichlet(laplace), points, stream())
    with pytest.raises(InvalidArgument, match="farther than"):
        estimate_gradients(engine, disk, Dirichlet(laplace), points + 1, stream())
