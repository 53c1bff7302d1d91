"""Polynomials as control variates: their algebra, no bias, less noise; tables for walks."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_families import StarDiffusion, StarPoisson, StarScreened
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball
from sciml.physics.walks.control_variate import estimate, fitted, orders_up_to, products, remainder
from sciml.physics.walks.distance_table import WalkTable, inside_points
from sciml.physics.walks.spheres import WalkOnSpheres


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(family, count=3, degree=6):
    instances = family.draw(count, generator(2))
    domain = instances.domain
    on = domain.sample_boundary(200, generator(3), torch.float64).points
    inner = domain.sample_interior(200, generator(4), torch.float64)
    return instances, inner, fitted(instances.problem, domain, on, inner, degree=degree)


@pytest.mark.parametrize("dim", [2, 3])
def test_products_are_chebyshev_polynomials(dim):
    orders = orders_up_to(4, dim)
    x = 2 * torch.rand(dim, 9, dtype=torch.float64, generator=generator()) - 1
    for row, found in zip(orders, products(x, orders), strict=True):
        # T_n(x) = cos(n arccos x)
        exact = torch.stack([(n * x[a].acos()).cos() for a, n in enumerate(row)]).prod(0)
        assert torch.allclose(found, exact, atol=1e-12, rtol=1e-12)
    assert len(orders) == {2: 15, 3: 35}[dim]


def test_laplacian_by_automatic_differentiation():
    _, inner, psi = drawn(StarPoisson())
    z = inner[:, :5].clone().requires_grad_()
    i = torch.arange(3).repeat_interleave(5)
    value = psi(z.permute(2, 0, 1).flatten(1), i)
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    exact = sum(
        torch.autograd.grad(slope[..., k].sum(), z, retain_graph=True)[0][..., k] for k in range(2)
    )
    found = psi.laplacian()(z.detach().permute(2, 0, 1).flatten(1), i).view_as(exact)
    assert torch.allclose(found, exact, atol=1e-11, rtol=1e-12)


def test_a_polynomial_solution_leaves_nothing():
    # u = x^2 y - y^3 / 3 + 1 - x^2 - y^2, so f = 4
    def g(x, i):
        return x[0] ** 2 * x[1] - x[1] ** 3 / 3 + 1 - x[0] ** 2 - x[1] ** 2

    ball = Ball()
    problem = Dirichlet(g, lambda x, i: torch.full_like(x[0], 4.0))
    on = ball.sample_boundary(60, generator(), torch.float64).points
    inner = ball.sample_interior(60, generator(1), torch.float64)
    psi = fitted(problem, ball, on, inner, degree=3)
    found = estimate(WalkOnSpheres(walks=1), ball, problem, inner, generator(2), psi)
    exact = g(inner[0].T, None)
    assert (found.mean[0] - exact).abs().max() < 1e-4  # of single walks


@pytest.mark.parametrize("family", [StarPoisson(wide=0.5), StarScreened(), StarDiffusion()])
def test_no_bias_and_less_variance(family):
    instances, inner, psi = drawn(family)
    engine = WalkOnSpheres(walks=400, eps=1e-3, outside="nan")
    args = (engine, instances.domain, instances.problem, inner[:, :40], generator(6))
    plain, less = estimate(*args), estimate(*args, psi)
    exact = instances.solution(inner[:, :40])
    error = less.mean - exact
    assert (error.abs() <= 4.5 * less.standard_error + 3e-3).all()
    # the mean over many points is sharper: a wrong sign of the remainder would show
    assert abs(float(error.mean())) < 4 * float(less.variance.sum().sqrt()) / error.numel() + 1e-3
    assert less.squares.mean() < 0.1 * plain.squares.mean()
    for half in less.halves:
        assert (half - exact).square().mean() < 0.01 * exact.square().mean()


def test_the_remainder_of_a_zero_polynomial_is_the_problem():
    instances, inner, psi = drawn(StarScreened())
    psi = type(psi)(psi.coefficients * 0, psi.orders, psi.scale)
    x, i = instances.domain.columns(inner)
    left = remainder(instances.problem, psi)
    assert torch.equal(left.boundary(x, i), instances.problem.boundary(x, i))
    assert torch.equal(left.source(x, i), instances.problem.source(x, i))


def test_coefficients_without_derivatives_are_refused():
    ball, points = Ball(), torch.zeros(1, 1, 2, dtype=torch.float64)

    def one(x, i):
        return torch.ones_like(x[0])

    with pytest.raises(InvalidArgument, match="varies in space"):
        fitted(Dirichlet(one, screening=one), ball, points, points)
    with pytest.raises(InvalidArgument, match="without gradient"):
        fitted(Dirichlet(one, diffusion=one), ball, points, points)


# --- tables ---------------------------------------------------------------------------------------
def test_walks_in_a_table_agree_with_exact_distances():
    instances, inner, _ = drawn(StarPoisson(wide=0.5))
    table = WalkTable(instances.domain, 64)
    engine = WalkOnSpheres(walks=1500, eps=2e-3, outside="nan")
    found = engine(table, instances.problem, inner[:, :30], generator(6))
    error = (found.mean - instances.solution(inner[:, :30])).abs()
    assert (error <= 4.5 * found.standard_error + 0.015).all()
    assert error.mean() < 0.01


def test_landings_lie_on_the_boundary_within_the_slack():
    domain = StarPoisson().domains(4, generator())
    table = WalkTable(domain, 64)
    on = domain.sample_boundary(200, generator(1), torch.float64)
    near = on.points - 0.01 * on.normals
    x, i = domain.columns(near)
    landed = table.land(x, i).view(2, 4, 200).permute(1, 2, 0)
    assert (domain.signed_distance(landed).abs() <= 2 * table.slack[:, None] + 1e-4).all()
    x, i = domain.columns(near)
    assert (table.gap(x, i).view(4, 200) <= domain.signed_distance(near).abs() + 1e-6).all()


def test_inside_points_pads_with_the_rows_first():
    mask = torch.tensor([[False, True, False, True], [False, False, True, False]])
    index, own = inside_points(mask)
    assert index.tolist() == [[1, 3], [2, 2]]
    assert own.tolist() == [[True, True], [True, False]]
