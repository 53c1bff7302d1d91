"""J^T r of pointwise rows: its value and derivatives of both modes against the rows themselves."""

import pytest
import torch
from test_pointwise import M, N, P, arguments, formula

from sciml.solvers import Dense, Implicit, least_squares
from sciml.solvers.nonlinear.pointwise_least_squares import PointwiseRows

MADE = PointwiseRows(formula, 1e-2)


def parts(points=M):
    """Return w and theta as a flat list of leaves."""
    features, offsets, aux, *rest = arguments(points=points)
    return [torch.randn(P, N), *features, *offsets, *aux, *rest]


def gathered(leaves):
    w, *rest = leaves
    return w, rest[:4], rest[4:8], rest[8:9], *rest[9:]


def plain(*leaves):
    """Return J^T r by automatic differentiation of the rows."""
    w, *theta = gathered(leaves)
    rows, pull = torch.func.vjp(lambda v: MADE.rows(v, *theta), w)
    return pull(rows)[0]


def fast(*leaves):
    return MADE.gradient(*gathered(leaves))


def close(got, want):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_value_and_derivatives_of_everything():
    leaves = [t.requires_grad_() for t in parts()]
    close([fast(*leaves)], [plain(*leaves)])
    side = torch.randn(P, N)
    want = torch.autograd.grad((plain(*leaves) * side).sum(), leaves)
    close(torch.autograd.grad((fast(*leaves) * side).sum(), leaves), want)


def test_second_derivatives():
    leaves = [t.requires_grad_() for t in parts(points=4)]
    side, other = torch.randn(P, N), [torch.randn_like(t) for t in leaves]

    def second(function):
        slopes = torch.autograd.grad((function(*leaves) * side).sum(), leaves, create_graph=True)
        along = sum((s * o).sum() for s, o in zip(slopes, other, strict=True))
        return torch.autograd.grad(along, leaves)

    close(second(fast), second(plain))


@pytest.mark.parametrize("moving", [range(13), [0], [1, 2, 3, 4], [9], [10]], ids=str)
def test_forward_mode(moving):
    """All at once, and one kind alone: the others carry no tangent."""
    leaves = parts()
    along = tuple(torch.randn_like(leaves[i]) for i in moving)

    def of(function):
        def some(*moved):
            given = dict(zip(moving, moved, strict=True))
            return function(*[given.get(i, t) for i, t in enumerate(leaves)])

        return torch.func.jvp(some, tuple(leaves[i] for i in moving), along)

    close(of(fast), of(plain))


def test_many_at_once_by_vmap():
    leaves = parts()
    many = torch.randn(6, P, N)
    got = torch.vmap(lambda w: fast(w, *leaves[1:]))(many)
    close(got, [plain(w, *leaves[1:]) for w in many])
    slopes = torch.vmap(torch.func.grad(lambda w: fast(w, *leaves[1:]).square().sum()))(many)
    one = torch.func.grad(lambda w: plain(w, *leaves[1:]).square().sum())
    close(slopes, [one(w) for w in many])


def test_what_stands_beside_the_features_may_be_whole_numbers():
    """A kind of point, which no derivative reaches."""

    def by_kind(values, aux):
        kind, factor = aux
        return torch.where(kind > 0, values[0] ** 2, factor * values[1])

    made = PointwiseRows(by_kind)
    features, offsets, aux, scale, matrix, target = arguments()
    kind = torch.arange(M).remainder(2).expand(P, M)
    factor = aux[0].requires_grad_()
    given = (features[:2], offsets[:2], [kind, factor], scale, matrix, target)
    w = torch.randn(P, N)
    (slope,) = torch.autograd.grad(made.gradient(w, *given).sum(), factor)
    rows, pull = torch.func.vjp(lambda v: made.rows(v, *given), w)
    (want,) = torch.autograd.grad(pull(rows)[0].sum(), factor)
    close([slope], [want])
    assert bool((slope[:, 1::2] == 0).all())
    assert bool((slope[:, ::2] != 0).all())


@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_a_solution_equal_those_without_the_formula(order):
    leaves = [t.requires_grad_() for t in parts()[1:]]
    _, *theta = gathered([None, *leaves])
    rule = Implicit(Dense("symmetric"), order=order)

    def of(**formulas):
        found = least_squares(
            MADE.rows, torch.zeros(P, N), theta, on_failure="raise", adjoint=rule, **formulas
        )
        slopes = torch.autograd.grad(found.value.square().sum(), leaves, create_graph=order == 2)
        if order == 1:
            return slopes
        return torch.autograd.grad(sum(s.square().sum() for s in slopes), leaves)

    for a, b in zip(of(gradient=MADE.gradient), of(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * float(b.abs().max()))
