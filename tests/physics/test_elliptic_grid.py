"""Problems on grids: fields where they belong, and an operator's values at any points."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.networks.elliptic.wos_fno import WosFNO
from sciml.physics.elliptic.elliptic_families import (
    BoxPoisson,
    StarDiffusion,
    StarPoisson,
    StarScreened,
)
from sciml.physics.elliptic.elliptic_grid import Grid, Shapes, grid_inputs, values
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_fields_of_a_disk():
    grid = Grid(9, 2.0)
    problem = Dirichlet(lambda x, i: x[0] + 2 * x[1], lambda x, i: x[0], screening=3.0)
    found = grid_inputs(Ball(), problem, grid)
    x = torch.linspace(-2, 2, 9)
    assert found["sdf"][0, 4, 4] == pytest.approx(-1)
    assert found["sdf"][0, 8, 4] == pytest.approx(1)  # at (2, 0): the first axis is x
    assert found["boundary"][0, 8, 4] == pytest.approx(1)
    assert found["boundary"][0, 4, 0] == pytest.approx(-2)  # at (0, -2)
    assert torch.allclose(found["source"][0], x[:, None].expand(9, 9), rtol=1e-6, atol=1e-8)
    assert (found["screening"] == 3).all() and "diffusion" not in found


@pytest.mark.parametrize("family", [StarPoisson(), BoxPoisson()])
def test_shapes_against_the_domain(family):
    grid = Grid(12, 1.5, family.dim)
    domain = family.domains(2, generator())
    shapes = Shapes.of(domain, grid)
    points = grid.points(2)
    assert torch.allclose(shapes.sdf.double(), domain.signed_distance(points), atol=1e-5, rtol=1e-6)
    assert domain.signed_distance(shapes.closest.double()).abs().max() < 1e-5
    one = shapes.select(torch.tensor([1]))
    assert torch.equal(one.sdf[0], shapes.sdf[1]) and torch.equal(one.closest[0], shapes.closest[1])


@pytest.mark.parametrize(
    ("family", "allowed"),
    [(StarPoisson(wide=1), 0.06), (StarScreened(wide=1), 0.2), (StarDiffusion(wide=1), 0.2),
     (BoxPoisson(), 0.06)],
)  # fmt: skip
def test_values_at_points_of_an_untrained_operator(family, allowed):
    """The first guess is the solution within some per cent; a wrong axis or sign is far off."""
    torch.manual_seed(0)
    nodes = 44 if family.dim == 2 else 20
    net = WosFNO(family.dim, 1.5, nodes, family.coefficients, 4, 3, 1, 8)
    instances = family.draw(4, generator(1))
    points = instances.domain.sample_interior(40, generator(2), torch.float64)
    with torch.no_grad():
        found = values(net, instances.domain, instances.problem, points)
    exact = instances.solution(points)
    assert ((found - exact).norm(dim=1) / exact.norm(dim=1)).mean() < allowed


def test_gradients_in_the_points_by_finite_differences():
    torch.manual_seed(0)
    net = WosFNO(2, 1.5, 32, (), 4, 3, 1, 8).double()
    instances = StarPoisson().draw(2, generator(1))
    points = instances.domain.sample_interior(10, generator(2), torch.float64) * 0.9
    z = points.clone().requires_grad_()
    args = (net, instances.domain, instances.problem)
    (slope,) = torch.autograd.grad(values(*args, z).sum(), z)
    h = 1e-5
    with torch.no_grad():
        for axis in range(2):
            step = h * torch.eye(2, dtype=torch.float64)[axis]
            central = (values(*args, points + step) - values(*args, points - step)) / (2 * h)
            close = (central - slope[..., axis]).abs() < 1e-3 * (1 + slope.abs().amax(2))
            assert close.double().mean() > 0.9  # not where the closest point jumps


def test_refusals():
    with pytest.raises(InvalidArgument, match="at least 8 nodes"):
        Grid(4)
