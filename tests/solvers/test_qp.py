"""Quadratic programs against closed forms, scipy and finite differences."""

import numpy as np
import pytest
import scipy.optimize
import torch

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType
from sciml.solvers import Implicit, Status, project_simplex, qp


def program(batch=4, n=5, m=2, p=6, slack=0.3):
    """Return feasible data with, as a rule, some active constraints."""
    root = torch.randn(batch, n, n)
    inside = torch.randn(batch, n)
    a, g = torch.randn(batch, m, n), torch.randn(batch, p, n)
    b = (a @ inside[..., None])[..., 0]
    h = (g @ inside[..., None])[..., 0] + slack * torch.rand(batch, p)
    return root @ root.mT + 0.1 * torch.eye(n), torch.randn(batch, n), a, b, g, h


def solve(q, c, a, b, g, h, order=1):
    out = qp(
        q, c, equality=(a, b), inequality=(g, h), on_failure="raise", adjoint=Implicit(order=order)
    )
    return out.value


def test_optimality_and_scipy():
    q, c, a, b, g, h = program()
    out = qp(q, c, equality=(a, b), inequality=(g, h), on_failure="raise")
    x, y, z = out.value
    slack = h - (g @ x[..., None])[..., 0]
    slope = (q @ x[..., None] + a.mT @ y[..., None] + g.mT @ z[..., None])[..., 0] + c
    assert slope.abs().max() < 1e-12 and (z >= 0).all() and slack.min() > -1e-13
    assert (z * slack).abs().max() < 1e-12 and (z > 1e-3).any()
    for k in range(len(x)):
        wanted = scipy.optimize.minimize(
            lambda v, k=k: 0.5 * v @ q[k].numpy() @ v + c[k].numpy() @ v,
            np.zeros(5),
            method="SLSQP",
            constraints=[
                {"type": "eq", "fun": lambda v, k=k: a[k].numpy() @ v - b[k].numpy()},
                {"type": "ineq", "fun": lambda v, k=k: h[k].numpy() - g[k].numpy() @ v},
            ],
            options={"ftol": 1e-14, "maxiter": 500},
        ).x
        assert np.abs(x[k].numpy() - wanted).max() < 1e-5


def test_a_linear_program_equals_scipy():
    c, g = torch.randn(3, 4), torch.randn(3, 6, 4)
    h = 1 + torch.rand(3, 6)
    box = torch.cat([torch.eye(4), -torch.eye(4)]).expand(3, 8, 4)
    rows, bound = torch.cat([g, box], 1), torch.cat([h, torch.ones(3, 8)], 1)
    out = qp(torch.zeros(4, 4), c, inequality=(rows, bound), on_failure="raise")
    for k in range(3):
        wanted = scipy.optimize.linprog(c[k].numpy(), g[k].numpy(), h[k].numpy(), bounds=(-1, 1)).x
        assert np.abs(out.value.x[k].numpy() - wanted).max() < 1e-9


def test_equality_constraints_alone_have_a_closed_form():
    q, c, a, b, _, _ = program()
    x, y, z = qp(q, c, equality=(a, b), on_failure="raise").value
    zero = torch.zeros(4, 2, 2)
    both = torch.cat([torch.cat([q, a.mT], -1), torch.cat([a, zero], -1)], -2)
    wanted = torch.linalg.solve(both, torch.cat([-c, b], -1))
    assert (torch.cat([x, y], -1) - wanted).abs().max() < 1e-11 and z.shape == (4, 0)


def test_derivatives_of_all_data():
    given = tuple(t.requires_grad_() for t in program(1, 3, 1, 4, slack=0.02))
    z = solve(*given).inequality
    assert 0 < (z > 1e-6).sum() < z.numel()
    assert torch.autograd.gradcheck(
        lambda *data: torch.cat(solve(*data), -1), given, check_forward_ad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        lambda *data: torch.cat(solve(*data, order=2), -1), given, fast_mode=True
    )


def test_derivative_of_the_projection_on_the_simplex():
    v, eye = torch.randn(5, 6, requires_grad=True), torch.eye(6)
    x = qp(
        eye,
        -v,
        equality=(torch.ones(1, 6), torch.ones(1)),
        inequality=(-eye, torch.zeros(6)),
        on_failure="raise",
    ).value.x
    weights = torch.randn(5, 6)
    (got,) = torch.autograd.grad((x * weights).sum(), v)
    (wanted,) = torch.autograd.grad((project_simplex(v) * weights).sum(), v)
    assert (x - project_simplex(v)).abs().max() < 1e-14 and (got - wanted).abs().max() < 1e-12


def test_transforms():
    q, c, a, b, g, h = program(2, 3, 1, 3)

    def one(c):
        return solve(q, c, a, b, g, h).x.sum()

    many = torch.stack([c, c + 0.01, c - 0.01])
    each = torch.stack([torch.func.grad(one)(row) for row in many])
    assert (torch.vmap(torch.func.grad(one))(many) - each).abs().max() < 1e-10
    assert (torch.func.jacfwd(one)(c) - torch.func.grad(one)(c)).abs().max() < 1e-10


BAD = {  # rows of (Q, c, G, h) with n = 2
    Status.CONVERGED: ([1, 0, 0, 1], [2, 1], [1, 0, -1, 0], [1, 1]),
    Status.INFEASIBLE: ([1, 0, 0, 1], [1, 1], [1, 0, -1, 0], [-1, -1]),
    Status.UNBOUNDED: ([1, 0, 0, 0], [1, -1], [1, 0, 0, -1], [1, 1]),
    Status.NONCONVEX: ([1, 0, 0, -1], [1, 1], [0, 1, 0, -1], [1, 1]),
    Status.NONFINITE: ([1, 0, 0, 1], [float("nan"), 1], [1, 0, -1, 0], [1, 1]),
}


def test_every_failure_is_named_and_leaves_the_others_alone():
    columns = [torch.tensor(list(t), dtype=torch.float64) for t in zip(*BAD.values(), strict=True)]
    q, c, g, h = columns[0].reshape(-1, 2, 2), columns[1], columns[2].reshape(-1, 2, 2), columns[3]
    c.requires_grad_()
    out = qp(q, c, inequality=(g, h), on_failure="mask")
    assert out.status.tolist() == [int(status) for status in BAD]
    assert (out.value.x[0] + 1).abs().max() < 1e-14
    (slope,) = torch.autograd.grad(out.value.x[out.converged].sum(), c)
    # x = -c, on the bound in the first entry
    assert (slope[0] - torch.tensor([0.0, -1.0])).abs().max() < 1e-14 and (slope[1:4] == 0).all()
    words = [r"contradict.*loosen", "without bound.*Add bounds", "negative eigenvalue.*sign", "NaN"]
    for k, word in enumerate(words, start=1):
        pick = slice(k, k + 1)
        with pytest.raises(ConvergenceError, match=word):
            qp(q[pick], c[pick], inequality=(g[pick], h[pick]), on_failure="raise")


def test_equations_that_contradict_or_repeat():
    a = torch.ones(2, 2)
    b = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    out = qp(torch.eye(2), torch.ones(2, 2), equality=(a, b), on_failure="best")
    assert out.status.tolist() == [Status.CONVERGED, Status.INFEASIBLE]
    assert (out.value.x[0] - 0.5).abs().max() < 1e-10


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize("money", [1e-20, 1e20])
def test_units_of_the_data_do_not_matter(unit, money):
    """x in other units, the objective in others, and the rows of G in one each."""
    q, c, a, b, g, h = program()
    want = solve(q, c, a, b, g, h)
    rows = torch.logspace(-6, 6, 6)
    got = solve(
        q * money / unit**2, c * money / unit, a, b * unit, g * rows[:, None], h * rows * unit
    )
    assert (got.x / unit - want.x).abs().max() < 1e-8 * want.x.abs().max()
    assert (got.inequality * rows * unit / money - want.inequality).abs().max() < 1e-7


def test_float32_empty_batches_and_bounds_of_infinity():
    q, c, a, b, g, h = program()
    want = solve(q, c, a, b, g, h).x
    small = qp(
        q.float(),
        c.float(),
        equality=(a.float(), b.float()),
        inequality=(g.float(), h.float()),
        on_failure="raise",
    )
    assert small.value.x.dtype == torch.float32
    assert (small.value.x.double() - want).abs().max() < 1e-4 * want.abs().max()
    empty = qp(q[:0], c[:0], equality=(a[:0], b[:0]), inequality=(g[:0], h[:0]), on_failure="raise")
    assert empty.value.x.shape == (0, 5) and empty.status.shape == (0,)
    more = torch.cat([h, torch.full((4, 1), torch.inf)], 1)
    rows = torch.cat([g, torch.randn(4, 1, 5)], 1).requires_grad_()
    out = qp(q, c, equality=(a, b), inequality=(rows, more), on_failure="raise")
    assert (out.value.x - want).abs().max() < 1e-10
    assert torch.autograd.grad(out.value.x.sum(), rows)[0].isfinite().all()


def test_wrong_arguments():
    q, c, a, b, _, _ = program()
    with pytest.raises(InvalidArgument, match="quadratic of shape"):
        qp(q[:, :4], c, on_failure="raise")
    with pytest.raises(InvalidArgument, match="b of shape"):
        qp(q, c, equality=(a, b[:, :1]), on_failure="raise")
    with pytest.raises(InvalidArgument, match=r"linear\[None\]"):
        qp(q[0], c[0], on_failure="raise")
    with pytest.raises(InvalidType, match="one type on one device"):
        qp(q.float(), c, on_failure="raise")
    with pytest.raises(InvalidType, match="pair"):
        qp(q, c, equality=a, on_failure="raise")
