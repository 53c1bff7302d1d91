"""Gradient methods on convex sets, and Halpern's iteration, against closed forms."""

import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.solvers import (
    FixedPointIteration,
    Halpern,
    Implicit,
    Status,
    fixed_point,
    mirror_descent,
    project_box,
    project_simplex,
    projected_gradient,
    proximal_gradient,
    qp,
    root,
    soft_threshold,
)

B, N = 3, 5


def half_square(x, q, c):
    return 0.5 * (x * (q @ x[..., None])[..., 0]).sum(-1) + (c * x).sum(-1)


def bowl():
    root = torch.randn(B, N, N)
    return root @ root.mT / N + 0.5 * torch.eye(N), torch.randn(B, N)


def by_simplex(q, c, order=1, policy="raise", **options):
    return projected_gradient(
        half_square,
        lambda v, *_: project_simplex(v),
        torch.zeros_like(c),
        (q, c),
        on_failure=policy,
        adjoint=Implicit(order=order),
        **options,
    )


def by_mirror(q, c, order=1, policy="raise", **options):
    start = torch.full(c.shape, 1 / c.shape[-1], dtype=c.dtype)
    return mirror_descent(
        half_square, start, (q, c), on_failure=policy, adjoint=Implicit(order=order), **options
    )


def by_lasso(q, c, order=1, policy="raise", **options):
    return proximal_gradient(
        half_square,
        lambda v, step, *_: soft_threshold(v, 0.4 * step),
        torch.zeros_like(c),
        (q, c),
        on_failure=policy,
        adjoint=Implicit(order=order),
        **options,
    )


def simplex_qp(q, c, order=1):
    eye, ones = torch.eye(N), torch.ones(1, N)
    return qp(
        q,
        c,
        equality=(ones, torch.ones(1)),
        inequality=(-eye, torch.zeros(N)),
        adjoint=Implicit(order=order),
        on_failure="raise",
    ).value.x


def lasso_qp(q, c, order=1):
    """Return the lasso's solution from its positive and negative parts."""
    wide = torch.cat([torch.cat([q, -q], -1), torch.cat([-q, q], -1)], -2)
    cost = torch.cat([c, -c], -1) + 0.4
    x = qp(
        wide,
        cost,
        inequality=(-torch.eye(2 * N), torch.zeros(2 * N)),
        adjoint=Implicit(order=order),
        on_failure="raise",
    ).value.x
    return x[:, :N] - x[:, N:]


@pytest.mark.parametrize(
    "method, program", [(by_simplex, simplex_qp), (by_mirror, simplex_qp), (by_lasso, lasso_qp)]
)
def test_the_solution_is_that_of_the_quadratic_program(method, program):
    q, c = bowl()
    out, wanted = method(q, c), program(q, c)
    assert (out.value - wanted).abs().max() < 1e-7
    assert (wanted.abs() < 1e-9).any() and (wanted.abs() > 1e-3).any()
    assert out.converged.all() and (out.iterations > 0).all()


def test_acceleration_pays_and_changes_nothing_else():
    scale = torch.logspace(-0.7, 0.7, N)
    q, c = torch.diag(scale).expand(B, N, N), torch.randn(B, N)
    plain, fast = (by_lasso(q, c, accelerate=flag) for flag in (False, True))
    exact = soft_threshold(-c, 0.4) / scale
    assert fast.iterations.max() < 0.5 * plain.iterations.max()
    for out in (plain, fast):
        assert (out.value - exact).abs().max() < 1e-6 * exact.abs().max()


def products(x, given):
    """Return gradient and a Hessian-vector product of a functional of the solution."""
    grads = torch.autograd.grad(x.sin().sum(), given, create_graph=True)
    inner = sum((g * (1 + torch.arange(g.numel()).reshape(g.shape)).cos()).sum() for g in grads)
    return *grads, *torch.autograd.grad(inner, given)


@pytest.mark.parametrize(
    "method, program", [(by_simplex, simplex_qp), (by_mirror, simplex_qp), (by_lasso, lasso_qp)]
)
def test_first_and_second_derivatives_equal_those_of_the_program(method, program):
    given = tuple(t.requires_grad_() for t in bowl())
    got = products(method(*given, order=2, rtol=1e-13).value, given)
    for mine, wanted in zip(got, products(program(*given, order=2), given), strict=True):
        # Q counts by its symmetric part in both
        assert (mine - wanted).abs().max() < 1e-8 * wanted.abs().max()


@pytest.mark.parametrize(
    "method", [by_simplex, by_lasso, pytest.param(by_mirror, marks=pytest.mark.slow)]
)
def test_finite_differences(method):
    q, c = bowl()
    q = q + torch.eye(N)  # few iterations
    given = (q[:1, :3, :3].clone().requires_grad_(), c[:1, :3].clone().requires_grad_())
    assert torch.autograd.gradcheck(
        lambda q, c: method(q, c, rtol=1e-13).value, given, check_forward_ad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        lambda q, c: method(q, c, order=2, rtol=1e-13).value, given, fast_mode=True
    )


@pytest.mark.parametrize("method", [by_simplex, by_mirror, by_lasso])
def test_transforms_and_empty_batches(method):
    q, c = bowl()
    many = torch.stack([c, c + 0.01])

    def slope(c):
        return torch.func.grad(lambda c: method(q, c).value.square().sum())(c)

    each = torch.stack([slope(row) for row in many])
    assert (torch.vmap(slope)(many) - each).abs().max() < 1e-6
    assert method(q[:0], c[:0]).value.shape == (0, N)


@pytest.mark.parametrize("method", [by_simplex, by_mirror, by_lasso])
def test_a_sample_of_nan_is_flagged_and_leaves_the_others_alone(method):
    q, c = bowl()
    bad = c.clone()
    bad[1, 0] = torch.nan
    bad.requires_grad_()
    out, alone = method(q, bad, policy="mask"), method(q, c)
    assert out.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert (out.value[[0, 2]] - alone.value[[0, 2]]).abs().max() < 1e-9
    assert torch.autograd.grad(out.value[[0, 2]].sum(), bad)[0][[0, 2]].isfinite().all()
    with pytest.raises(ConvergenceError, match="NaN"):
        method(q, bad)


def test_a_step_that_is_too_long_is_halved():
    """grad of log cosh(30 x) is ten times steeper at the solution than at the start."""
    c = torch.linspace(-0.5, 0.5, 4)[:, None]
    out = projected_gradient(
        lambda x, c: ((30 * (x - 1)).cosh().log() / 30 + 0.5 * (x - c).square()).sum(-1),
        lambda v, *_: project_box(v, -2.0, 2.0),
        torch.full((4, 1), -1.0),
        (c,),
        on_failure="raise",
    )
    slope = (30 * (out.value - 1)).tanh() + out.value - c
    assert slope.abs().max() < 1e-6
    q, c = bowl()
    far = by_simplex(q, c, step=100.0)
    assert (far.value - by_simplex(q, c).value).abs().max() < 1e-7


def test_wrong_arguments():
    q, c = bowl()
    with pytest.raises(InvalidArgument, match="positive number"):
        by_simplex(q, c, step=0.0)
    with pytest.raises(InvalidArgument, match="step of shape"):
        by_lasso(q, c, step=torch.ones(B, 1))
    with pytest.raises(InvalidArgument, match="one number per problem"):
        projected_gradient(lambda x: x.square(), lambda v: v, torch.zeros(B, N), on_failure="raise")
    for start in (torch.zeros(B, N), torch.ones(B, N), torch.eye(N)):
        with pytest.raises(InvalidArgument, match="positive entries that sum to 1"):
            mirror_descent(lambda x: x.square().sum(-1), start, on_failure="raise")


# --- Halpern -------------------------------------------------------------------------------------
def turn(x, angle):
    c, s = angle.cos(), angle.sin()
    return torch.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], -1)


def test_a_quarter_turn_converges_with_the_known_rate():
    x0, angle = torch.tensor([[1.0, 0.0], [3.0, -4.0]]), torch.tensor(torch.pi / 2)
    for steps in (10, 100, 1000):
        out = fixed_point(
            turn, x0, (angle,), solver=Halpern(rtol=1e-9, max_iter=steps), on_failure="best"
        )
        bound = 2 * x0.norm(dim=-1) / (steps + 1)
        assert (out.residual <= bound).all()
    assert out.value.norm(dim=-1).max() < 0.01
    plain = fixed_point(turn, x0, (angle,), solver=FixedPointIteration(), on_failure="best")
    assert not plain.converged.any() and plain.residual.min() > 1
    assert fixed_point(turn, x0, (angle,), solver=Halpern(), on_failure="raise").converged.all()


def test_halpern_finds_the_fixed_point_nearest_to_the_start():
    """Projection on a line: every point of it is fixed, I - dT/dx is singular."""
    x0 = torch.tensor([[2.0, 1.0]])
    out = fixed_point(
        lambda x: torch.stack([x[:, 0], -x[:, 1]], -1), x0, solver=Halpern(), on_failure="raise"
    )
    assert (out.value - torch.tensor([[2.0, 0.0]])).abs().max() < 2e-3


def test_derivatives_of_a_solution_by_halpern():
    """x = R x + b with a turn R: x = (I - R)^{-1} b."""
    b, angle = torch.randn(2, 2), torch.tensor(1.1)

    def solve(b, angle, order):
        return fixed_point(
            lambda x, b, angle: turn(x, angle) + b,
            torch.linalg.solve(torch.eye(2) - turn(torch.eye(2), angle).T, b.T).T.detach(),
            (b, angle),
            solver=Halpern(rtol=None, atol=1e-12),
            adjoint=Implicit(order=order),
            on_failure="raise",
        ).value

    given = (b.requires_grad_(), angle.requires_grad_())
    assert torch.autograd.gradcheck(lambda *t: solve(*t, 1), given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *t: solve(*t, 2), given)
    with pytest.raises(InvalidArgument, match="Type fixed_point"):
        root(lambda x: x, torch.ones(1, 1), solver=Halpern(), on_failure="raise")
