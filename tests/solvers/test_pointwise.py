"""Pointwise least squares: its formulas against automatic differentiation, and what they buy."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.solvers import Dense, Implicit, LevenbergMarquardt, Status, least_squares
from sciml.solvers.layout import Rows
from sciml.solvers.nonlinear.pointwise_least_squares import PointwiseRows

P, M, N = 3, 20, 4


def formula(values, aux):
    u, ut, ux, uxx = values
    return ut + u * ux - aux[0] * uxx + torch.sin(u)


def arguments(rows: int = 5, points: int = M):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    features = [0.5 * normal(P, points, N) for _ in range(4)]
    offsets = [0.3 * normal(P, points) for _ in range(4)]
    scale = torch.rand(P, points, generator=draw)
    aux = [torch.rand(P, points, generator=draw)]
    return features, offsets, aux, scale, normal(P, rows, N), normal(P, rows)


def one(args, i):
    features, offsets, aux, *rest = args
    pick = [[t[i] for t in part] for part in (features, offsets, aux)]
    return *pick, *(t[i] for t in rest)


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
@pytest.mark.parametrize("rows", [0, 5])
def test_jacobian_and_hessian_are_those_of_the_rows(ridge, rows):
    made, args = PointwiseRows(formula, ridge), arguments(rows)
    w = torch.randn(P, N)
    jacobian, hessian = made.jacobian(w, *args), made.hessian(w, *args)
    for i in range(P):

        def residual(v, i=i):
            return made.rows(v, *one(args, i))

        exact = torch.func.jacrev(residual)(w[i])
        torch.testing.assert_close(jacobian[i], exact, rtol=1e-13, atol=1e-14)
        exact = torch.func.hessian(lambda v, f=residual: f(v).square().sum() / 2)(w[i])
        torch.testing.assert_close(hessian[i], exact, rtol=1e-12, atol=1e-13)


def test_a_linear_formula_has_the_gauss_newton_hessian():
    made, args = PointwiseRows(lambda v, a: v[1] - a[0] * v[3]), arguments()
    w = torch.randn(P, N)
    rows = made.jacobian(w, *args)
    torch.testing.assert_close(made.hessian(w, *args), rows.mT @ rows, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("factor", ["qr", "gram"])
def test_solution_and_gradient_equal_those_without_formulas(factor):
    made, args = PointwiseRows(formula, 1e-4), arguments()
    features, target = args[0], args[-1]
    for t in (*features, target):
        t.requires_grad_()
    solver = LevenbergMarquardt(factor=factor)
    start = torch.zeros(P, N)
    plain = least_squares(made.rows, start, args, on_failure="raise")
    fast = least_squares(
        made.rows,
        start,
        args,
        on_failure="raise",
        solver=solver,
        jacobian=made.jacobian,
        hessian=made.hessian,
        gradient=made.gradient,
    )
    torch.testing.assert_close(fast.value, plain.value, rtol=1e-9, atol=1e-10)
    leaves = [*features, target]
    want = torch.autograd.grad(plain.value.square().sum(), leaves)
    got = torch.autograd.grad(fast.value.square().sum(), leaves)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def solved(args, features=None, **settings):
    made = PointwiseRows(formula, 1e-3)
    args = (args[0] if features is None else features, *args[1:])
    rule = Implicit(Dense("symmetric"), order=settings.pop("order", 1), **settings)
    return least_squares(
        made.rows,
        torch.zeros(P, N),
        args,
        on_failure="raise",
        adjoint=rule,
        jacobian=made.jacobian,
        hessian=made.hessian,
        gradient=made.gradient,
    ).value


def test_gradcheck_with_a_residual_left_over():
    args = arguments(rows=1, points=10)
    first, *rest = args[0]
    some, others = first[:, :2].clone().requires_grad_(), first[:, 2:]  # of two points
    assert torch.autograd.gradcheck(
        lambda t: solved(args, [torch.cat([t, others], 1), *rest]), some, atol=1e-6
    )


def test_gauss_newton_adjoint_is_another_derivative_where_residual_is_left():
    args = arguments()
    features = [t.requires_grad_() for t in args[0]]
    exact = torch.autograd.grad(solved(args).sum(), features[0])[0]
    rough = torch.autograd.grad(solved(args, hessian="gauss_newton").sum(), features[0])[0]
    assert float((exact - rough).norm() / exact.norm()) > 0.05


def test_gram_falls_back_to_qr_for_the_problems_that_need_it():
    features, offsets, aux, scale, matrix, target = arguments(0)
    linear = PointwiseRows(lambda v, a: v[0])
    tall = features[0].clone()
    tall[1, :, 3] = tall[1, :, 2] + 1e-9 * tall[1, :, 3]  # squared, its condition number is 1e18
    args = ([tall], [offsets[0]], aux, torch.ones(P, M), matrix, target)
    exact = -(torch.linalg.pinv(tall, rtol=1e-15) @ offsets[0][..., None])[..., 0]

    def error(factor):
        out = least_squares(
            linear.rows,
            torch.zeros(P, N),
            args,
            on_failure="best",
            solver=LevenbergMarquardt(factor=factor, max_iter=60),
            jacobian=linear.jacobian,
            hessian=linear.hessian,
        )
        assert (out.status[[0, 2]] == Status.CONVERGED).all()
        fitted = (tall @ out.value.detach()[..., None])[..., 0]
        best = (tall @ exact[..., None])[..., 0]
        return (fitted - best).norm(dim=-1) / best.norm(dim=-1)

    torch.testing.assert_close(error("gram"), error("qr"), rtol=0.0, atol=1e-6)
    assert float(error("gram")[[0, 2]].max()) < 1e-9


@pytest.mark.parametrize("scale", [1e-180, 1e-160, 1.0, 1e160])
def test_gram_of_rows_whose_squares_are_out_of_range(scale):
    features, offsets, *_ = arguments(0)
    tall, b = scale * features[0], scale * offsets[0]
    exact = -(torch.linalg.pinv(features[0]) @ offsets[0][..., None])[..., 0]

    def answer(tall, b):
        out = least_squares(
            lambda w: (tall @ w[..., None])[..., 0] + b,
            torch.zeros(tall.shape[:-2] + tall.shape[-1:]),
            layout=Rows(tall.dim() - 2),
            on_failure="raise",
            solver=LevenbergMarquardt(factor="gram"),
        )
        return out.value

    torch.testing.assert_close(answer(tall, b), exact, rtol=1e-9, atol=1e-10)
    # one problem without a batch, whose Gram matrix is singular
    tall[0, :, 3] = tall[0, :, 2] * (1 + 1e-9)
    fitted = (tall[0] @ answer(tall[0], b[0])[:, None])[:, 0]
    best = tall[0] @ torch.linalg.lstsq(tall[0], -b[0], driver="gelsd").solution
    torch.testing.assert_close(fitted, best, rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("factor", ["qr", "gram"])
def test_nan_in_one_problem_leaves_the_others_alone(factor):
    made, args = PointwiseRows(formula, 1e-4), arguments()

    def run(given):
        return least_squares(
            made.rows,
            torch.zeros(P, N),
            given,
            on_failure="best",
            solver=LevenbergMarquardt(factor=factor),
            jacobian=made.jacobian,
            hessian=made.hessian,
        )

    clean = run(args)
    args[0][0][1, 3, 2] = torch.nan
    out = run(args)
    assert out.status.tolist() == [0, int(Status.NONFINITE), 0]
    assert torch.equal(out.value[[0, 2]], clean.value[[0, 2]])


def test_wrong_shapes_and_names_are_refused():
    with pytest.raises(InvalidArgument, match="one residual per point"):
        made = PointwiseRows(lambda v, a: v[0].sum(-1))
        made.rows(torch.zeros(P, N), *arguments())
    with pytest.raises(InvalidArgument, match="ridge"):
        PointwiseRows(formula, -1.0)
    with pytest.raises(InvalidArgument, match="qr.*gram"):
        LevenbergMarquardt(factor="cholesky")
