"""Hyper-gradients of ridge, logistic regression and the elastic net."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from sciml.solvers import Anderson, Implicit, Rows, fixed_point

PATH = Path(__file__).parents[2] / "examples" / "bilevel.py"
SPEC = importlib.util.spec_from_file_location("bilevel", PATH)
bilevel = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bilevel)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_ridge_in_closed_form(dtype, tolerance):
    x, y, v = (t.to(dtype) for t in (torch.randn(30, 6), torch.randn(30), torch.randn(6)))
    t = torch.tensor([0.3] * 6, dtype=dtype, requires_grad=True)
    w = bilevel.ridge(t, x, y)
    gram = x.mT @ x + t.detach().exp().diag()
    exact = torch.linalg.solve(gram, x.mT @ y)
    assert (w - exact).abs().max() < tolerance * exact.abs().max()
    (g,) = torch.autograd.grad(w @ v, t)
    wanted = -torch.linalg.solve(gram, v) * t.detach().exp() * exact  # dw/dt_k = -G^-1 e_k e^t w_k
    assert (g - wanted).abs().max() < tolerance * wanted.abs().max()


def test_second_derivative_in_the_logarithm_of_the_decay():
    x, y, v = torch.randn(30, 6), torch.randn(30), torch.randn(6)
    t = torch.tensor(0.3)

    def value(t):
        return bilevel.ridge(t.expand(6), x, y, order=2) @ v

    q, s, r = torch.linalg.svd(x, full_matrices=False)
    a, b = s * (q.mT @ y), r @ v  # w.v = sum a_k b_k / (s_k^2 + e^t)
    d = t.exp()
    wanted = (a * b * (2 * d**2 / (s**2 + d) ** 3 - d / (s**2 + d) ** 2)).sum()
    assert abs(torch.func.grad(torch.func.grad(value))(t) - wanted) < 1e-6 * abs(wanted)
    assert abs(torch.func.hessian(value)(t) - wanted) < 1e-6 * abs(wanted)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_logistic_against_the_dense_formula(dtype, tolerance):
    x, y = bilevel.blobs(40, torch.Generator().manual_seed(0))
    x, v = x.to(dtype), torch.randn(5, 3).to(dtype)
    t = torch.tensor(-2.0, dtype=dtype, requires_grad=True)
    weight = torch.rand(40).to(dtype).requires_grad_()
    w = bilevel.logistic(t, weight, x, y, 3, torch.zeros(5, 3, dtype=dtype))
    got = torch.autograd.grad((w * v).sum(), (t, weight))
    # in float64, with Hessian and cross derivatives written out
    x, v, w = x.double(), v.double(), w.detach().double()
    c, d = weight.detach().double(), t.detach().double().exp()
    p = (x @ w).softmax(1)
    blocks = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    hessian = torch.einsum("n,ni,nj,nkl->ikjl", c / 40, x, x, blocks).reshape(15, 15)
    adjoint = torch.linalg.solve(hessian + d * torch.eye(15), v.flatten()).view(5, 3)
    onehot = torch.nn.functional.one_hot(y, 3)
    slopes = torch.einsum("ni,nk->nik", x, p - onehot) / 40
    wanted = (-(adjoint * d * w).sum(), -torch.einsum("ik,nik->n", adjoint, slopes))
    for g, u in zip(got, wanted, strict=True):
        assert (g - u).abs().max() < tolerance * u.abs().max()


def test_elastic_net_against_its_active_set():
    """Proximal fixed point; on the active set the minimum solves a linear system."""
    a, y = torch.randn(40, 10), torch.randn(40)
    eta = 1 / torch.linalg.matrix_norm(a, 2) ** 2

    def prox(x, s, t):
        u = x - eta * (a.mT @ (a @ x - y) + t.exp() * x)
        return u.sign() * (u.abs() - eta * s.exp()).relu()

    s, t = (torch.tensor(v, requires_grad=True) for v in (1.2, 0.1))
    x = fixed_point(
        prox,
        torch.zeros(10),
        (s, t),
        layout=Rows(0),
        solver=Anderson(rtol=1e-13),
        adjoint=Implicit(order=2),
        on_failure="raise",
    ).value
    active = x.detach() != 0
    assert 0 < active.sum() < 10

    def closed(s, t):
        gram = a[:, active].mT @ a[:, active] + t.exp() * torch.eye(int(active.sum()))
        rhs = a[:, active].mT @ y - s.exp() * x.detach()[active].sign()
        return torch.linalg.solve(gram, rhs)

    def derivatives(x):
        first = torch.autograd.grad(x.square().sum(), (s, t), create_graph=True)
        return [*first, *torch.autograd.grad(first[1], (s, t))]

    for got, wanted in zip(derivatives(x[active]), derivatives(closed(s, t)), strict=True):
        assert abs(got - wanted) < 1e-8 * abs(wanted)


def test_the_hyper_gradient_decreases_the_held_out_loss():
    before, after = bilevel.tune_ridge(steps=4)
    assert after < 0.8 * before
    x, y = bilevel.blobs(30, torch.Generator().manual_seed(0))
    t = torch.tensor(-3.0, requires_grad=True)
    ones, zero = torch.ones(30), torch.zeros(5, 3)

    def held_out(t):
        w = bilevel.logistic(t, ones[:15], x[:15], y[:15], 3, zero)
        return cross_entropy(x[15:] @ w, y[15:])

    (g,) = torch.autograd.grad(held_out(t), t)
    h = 1e-4
    numeric = (held_out(t.detach() + h) - held_out(t.detach() - h)) / (2 * h)
    assert abs(g - numeric) < 1e-6 * abs(numeric)
