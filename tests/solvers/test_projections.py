"""Projections and proximal maps against optimality conditions and finite differences."""

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.solvers import (
    group_soft_threshold,
    project_affine,
    project_box,
    project_l1_ball,
    project_l2_ball,
    project_nonnegative,
    project_second_order_cone,
    project_simplex,
    prox_elastic_net,
    qp,
    soft_threshold,
)

MATRIX = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
RHS = torch.tensor([1.0, -0.5], dtype=torch.float64)
SETS = {  # projection, and whether a point lies in the set
    "box": (lambda x: project_box(x, -0.3, 0.5), lambda u: (u >= -0.3) & (u <= 0.5)),
    "nonnegative": (project_nonnegative, lambda u: u >= 0),
    "simplex": (project_simplex, lambda u: (u >= 0) & ((u.sum(-1, True) - 1).abs() < 1e-12)),
    "l1": (lambda x: project_l1_ball(x, 0.7), lambda u: u.abs().sum(-1, True) <= 0.7 + 1e-12),
    "l2": (
        lambda x: project_l2_ball(x, 0.7),
        lambda u: u.norm(dim=-1, keepdim=True) <= 0.7 + 1e-12,
    ),
    "cone": (
        project_second_order_cone,
        lambda u: u[..., 1:].norm(dim=-1, keepdim=True) <= u[..., :1] + 1e-12,
    ),
    "affine": (
        lambda x: project_affine(x, MATRIX, RHS),
        lambda u: (u @ MATRIX.T - RHS).abs().amax(-1, keepdim=True) < 1e-12,
    ),
}
PROXES = {
    "l1": (lambda x: soft_threshold(x, 0.4), lambda u: 0.4 * u.abs().sum(-1)),
    "group": (lambda x: group_soft_threshold(x, 0.4), lambda u: 0.4 * u.norm(dim=-1)),
    "elastic": (
        lambda x: prox_elastic_net(x, 0.4, 0.5),
        lambda u: 0.4 * u.abs().sum(-1) + 0.25 * u.square().sum(-1),
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_the_projection_is_the_nearest_point(name):
    """For convex sets exactly the point p of the set with (x - p)(q - p) <= 0 for all q in it."""
    project, contains = SETS[name]
    x = 1.5 * torch.randn(50, 4)
    p = project(x)
    assert contains(p).all()
    others = project(2 * torch.randn(400, 1, 4))
    assert ((x - p) * (others - p)).sum(-1).max() < 1e-12
    assert (project(p) - p).abs().max() < 1e-12


@pytest.mark.parametrize("name", PROXES)
def test_the_prox_is_the_minimum(name):
    prox, penalty = PROXES[name]
    x = torch.randn(40, 3)

    def total(u):
        return penalty(u) + 0.5 * (u - x).square().sum(-1)

    u = prox(x)
    for size in (1e-4, 1e-2, 1.0):
        assert (total(u + size * torch.randn(300, 40, 3)) >= total(u) - 1e-14).all()


def test_the_simplex_and_the_l1_ball_by_quadratic_programs():
    x, eye = torch.randn(6, 5), torch.eye(5)
    by_qp = qp(
        eye,
        -x,
        equality=(torch.ones(1, 5), torch.full((1,), 2.0)),
        inequality=(-eye, torch.zeros(5)),
        on_failure="raise",
    ).value.x
    assert (project_simplex(x, 2.0) - by_qp).abs().max() < 1e-12
    x, eye = x[:, :3], torch.eye(3)
    signs = torch.tensor(np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T)
    face = qp(eye, -x, inequality=(signs, torch.ones(8)), on_failure="raise").value.x
    assert (project_l1_ball(x) - face).abs().max() < 1e-9


@pytest.mark.parametrize("name", [*SETS, *(f"prox {name}" for name in PROXES)])
def test_first_and_second_derivatives(name):
    function = PROXES[name[5:]][0] if name.startswith("prox ") else SETS[name][0]
    x = (1.3 * torch.randn(3, 4)).requires_grad_()
    assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True)
    batched = torch.vmap(torch.func.jacrev(function))(x.detach())
    one = torch.stack([torch.func.jacfwd(function)(row) for row in x.detach()])
    assert (batched - one).abs().max() < 1e-13


def test_derivatives_in_radii_weights_and_sets():
    x = torch.randn(3, 4)
    radius = torch.tensor([0.5, 1.0, 1.3], requires_grad=True)
    for project in (project_simplex, project_l1_ball, project_l2_ball):
        assert torch.autograd.gradcheck(lambda r, f=project: f(2 * x, r), radius)
    weight = torch.tensor(0.3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: soft_threshold(x, w), weight)
    assert torch.autograd.gradcheck(lambda w: group_soft_threshold(x, w), weight)
    given = (x.requires_grad_(), MATRIX.clone().requires_grad_(), RHS.clone().requires_grad_())
    assert torch.autograd.gradcheck(project_affine, given)
    assert torch.autograd.gradgradcheck(project_affine, given)


@pytest.mark.parametrize("name", [*SETS, *(f"prox {name}" for name in PROXES)])
def test_zero_vectors_empty_batches_and_a_sample_of_nan(name):
    function = PROXES[name[5:]][0] if name.startswith("prox ") else SETS[name][0]
    zero = torch.zeros(2, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(function(zero).sum(), zero)
    assert function(zero).isfinite().all() and slope.isfinite().all()
    assert function(torch.zeros(0, 4)).shape == (0, 4)
    assert function(torch.zeros(2, 3, 4)).shape == (2, 3, 4)
    x = torch.randn(3, 4)
    bad = x.clone()
    bad[1, 2] = torch.nan
    got = function(bad)
    assert got[1].isnan().any()
    assert (got[[0, 2]] == function(x)[[0, 2]]).all()


def test_ties_and_points_inside():
    assert project_simplex(torch.tensor([1.0, 1.0, 1.0, 1.0])).tolist() == [0.25] * 4
    assert project_simplex(torch.tensor([3.0, 3.0, -1.0])).tolist() == [0.5, 0.5, 0.0]
    assert project_l1_ball(torch.tensor([-1.0, 1.0])).tolist() == [-0.5, 0.5]
    inside = 0.1 * torch.randn(20, 3)
    assert (project_l1_ball(inside, 2.0) == inside).all()
    assert (project_l2_ball(inside, 2.0) == inside).all()
    apex = torch.tensor([[-2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    wanted = torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert (project_second_order_cone(apex) == wanted).all()


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_any_scale_in_both_precisions(size):
    x = torch.randn(5, 4)
    for dtype, digits in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        for project in (project_simplex, project_l1_ball, project_l2_ball):
            got = project((x * size).to(dtype), 0.6 * size).double() / size
            assert (got - project(x, 0.6)).abs().max() < digits
        got = project_second_order_cone((x * size).to(dtype)).double() / size
        assert (got - project_second_order_cone(x)).abs().max() < digits


def test_wrong_arguments():
    x = torch.randn(3, 4)
    for radius in (0.0, -1.0, float("nan"), float("inf")):
        for project in (project_simplex, project_l1_ball, project_l2_ball):
            with pytest.raises(InvalidArgument, match="positive"):
                project(x, radius)
    # a tensor is not looked at: its rows say so
    got = project_simplex(x, torch.tensor([1.0, -1.0, 2.0]))
    assert got.isnan().any(-1).tolist() == [False, True, False]
    assert project_l2_ball(0 * x, torch.tensor([1.0, -1.0, 0.0])).isnan()[:, 0].tolist() == [
        False,
        True,
        True,
    ]
    with pytest.raises(InvalidArgument, match="lower <= upper"):
        project_box(x, 1.0, 0.0)
    with pytest.raises(InvalidArgument, match="broadcasts"):
        project_box(x, torch.zeros(3), 1.0)
    with pytest.raises(InvalidArgument, match="one per row"):
        project_simplex(x, torch.ones(3, 1))
    with pytest.raises(InvalidArgument, match="broadcasts"):
        soft_threshold(torch.randn(4), torch.ones(4, 1))
    with pytest.raises(InvalidArgument, match="zero or a positive"):
        soft_threshold(x, -0.1)
    with pytest.raises(InvalidArgument, match="m <= n"):
        project_affine(x, torch.ones(5, 4), torch.ones(5))


def test_dependent_rows_give_the_least_norm_projection():
    torch.manual_seed(2)
    x, base = torch.randn(6, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    mix = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, -2.0]], dtype=torch.float64)
    rhs = torch.tensor([0.3, -0.7], dtype=torch.float64)
    found = project_affine(x, mix @ base, mix @ rhs)
    wanted = project_affine(x, base, rhs)  # the same set, without the rows that depend
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-13)
    assert torch.autograd.gradcheck(
        lambda x: project_affine(x, mix @ base, mix @ rhs), x.clone().requires_grad_()
    )
    # equations that contradict each other: half way between them
    found = project_affine(
        x[:, :2], torch.tensor([[1.0, 0.0]] * 2).to(x), torch.tensor([0.0, 1.0]).to(x)
    )
    assert torch.allclose(
        found, torch.stack([torch.full_like(x[:, 0], 0.5), x[:, 1]], -1), rtol=0, atol=1e-13
    )


def test_a_matrix_with_nan_spares_the_others():
    torch.manual_seed(3)
    x, matrices = torch.randn(2, 4), torch.randn(2, 2, 4)
    matrices[0, 0, 0] = torch.nan
    found = project_affine(x, matrices, torch.ones(2, 2))
    assert bool(found[0].isnan().all())
    wanted = project_affine(x[1], matrices[1], torch.ones(2))
    assert torch.allclose(found[1], wanted, rtol=1e-5, atol=1e-6)
