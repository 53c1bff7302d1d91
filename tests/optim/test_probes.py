"""Curvature probes: exact where they must be, unbiased by enumeration or within their variance."""

import itertools

import pytest
import torch
from torch import nn

from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.diagonal.probes import (
    gauss_newton_bartlett,
    hessian_vector,
    hutchinson,
    rademacher,
    squared_probe,
)
from sciml.optim.flat import real

torch.set_num_threads(1)
F64 = torch.float64


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def dense_hessian(terms, parameters):
    """Return the Hessian of the total loss, a reverse pass per row."""
    grads = torch.autograd.grad(total_loss(terms), parameters, create_graph=True)
    rows = []
    for g in flat([real(g) for g in grads]):
        found = torch.autograd.grad(g, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        rows.append(flat([real(torch.zeros_like(p) if f is None else f) for f, p in pairs]))
    return torch.stack(rows)


def gauss_newton(terms, parameters):
    """Return `sum_j scale_j sum_n J^T Lambda J`, row by row."""
    total = 0
    for term in terms:
        for column in term.roots():
            for n in range(len(column)):
                s = (term.outputs[n] * column[n]).sum()
                g = torch.autograd.grad(s, parameters, retain_graph=True, allow_unused=True)
                pairs = zip(g, parameters, strict=True)
                g = flat([torch.zeros_like(p) if x is None else x for x, p in pairs])
                total = total + term.scale * torch.outer(g, g)
    return total


def mixture(seed=0):
    """Return a network and two weighted residual terms, one of them with two components."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x, q = torch.randn(5, 2, dtype=F64), torch.randn(3, 2, dtype=F64)

    def terms():
        return [
            LossTerm("both", net(x) - torch.sin(x), 0.7, 5),
            LossTerm("first", net(q)[:, 0], 3.0, 4),
        ]

    return net, terms


# --- Hutchinson ---------------------------------------------------------------------------------
def test_one_probe_is_exact_on_a_diagonal_hessian():
    scale = torch.tensor([1.0, 1e-3, 7.0, 1e4], dtype=F64)
    x = torch.randn(4, dtype=F64, requires_grad=True)
    terms = [LossTerm("r", scale.sqrt() * x, 2.0, 4), LossTerm("q", x[:1] ** 2, 1.0, 1)]
    (found,) = hutchinson(Objective(lambda: terms), [x])
    wanted = scale + torch.tensor([12 * x[0].item() ** 2, 0, 0, 0], dtype=F64)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


def test_mean_of_probes_lies_within_their_variance():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(6, 6, generator=g, dtype=F64)
    x = torch.randn(6, generator=g, dtype=F64, requires_grad=True)
    terms = [LossTerm("r", a @ x, 3.0, 6)]
    hessian = a.t() @ a
    probes = 4000
    found = torch.stack([hutchinson(Objective(lambda: [], step=i, given=terms), [x])[0]
                         for i in range(probes)])  # fmt: skip
    variance = hessian.square().sum(1) - hessian.diagonal().square()
    error = found.mean(0) - hessian.diagonal()
    assert (error.abs() <= 4 * (variance / probes).sqrt()).all()
    assert torch.allclose(found.var(0), variance, rtol=0.15)


def test_hessian_vector_equals_the_dense_hessian_and_leaves_no_trace():
    net, make = mixture()
    parameters, terms = list(net.parameters()), make()
    v = [torch.randn_like(p) for p in parameters]
    found = flat(hessian_vector(terms, parameters, v))
    wanted = dense_hessian(terms, parameters) @ flat(v)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-13)
    assert all(p.grad is None for p in parameters)
    assert not found.requires_grad
    total_loss(terms).backward()  # the graph is still there


def test_complex_parameters_are_pairs_of_real_ones():
    torch.manual_seed(0)
    z = torch.randn(3, dtype=torch.complex128, requires_grad=True)
    a = torch.randn(7, 3, dtype=torch.complex128)
    y = torch.view_as_real(z.detach()).clone().requires_grad_()

    def terms(z):
        r = a @ (z * z)
        return [LossTerm("r", torch.view_as_real(r), 0.3, 7)]

    signs = rademacher([z], torch.Generator().manual_seed(1))
    assert set(torch.view_as_real(signs[0]).flatten().tolist()) == {-1.0, 1.0}
    hessian = dense_hessian(terms(torch.view_as_complex(y)), [y])
    found = torch.view_as_real(hessian_vector(terms(z), [z], signs)[0]).flatten()
    wanted = hessian @ torch.view_as_real(signs[0]).flatten()
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    draws = [torch.ones(7, 2, dtype=F64)]
    one = squared_probe(terms(z), draws, [z])[0]
    two = squared_probe(terms(torch.view_as_complex(y)), draws, [y])[0]
    torch.testing.assert_close(one, two, rtol=1e-12, atol=0)


def test_what_a_loss_does_not_contain_has_no_curvature():
    x = torch.ones(3, dtype=F64, requires_grad=True)
    idle = torch.ones(2, dtype=F64, requires_grad=True)
    constant = LossTerm("constant", torch.ones(2, dtype=F64), 1.0, 2)
    objective = Objective(lambda: [LossTerm("linear", x, 1.0, 3), constant])
    for probe in (hutchinson, gauss_newton_bartlett):
        found = probe(objective, [x, idle])
        torch.testing.assert_close(found[0], torch.full_like(x, 2 / 3), rtol=1e-12, atol=1e-12)
        assert found[1].shape == (2,) and not found[1].any()
        assert not probe(Objective(lambda: [constant]), [x])[0].any()


# --- Gauss-Newton-Bartlett ----------------------------------------------------------------------
def test_all_signs_of_all_residuals_give_the_gauss_newton_diagonal():
    net, make = mixture()
    parameters, terms = list(net.parameters()), make()
    total, number = 0, 0
    for signs in itertools.product([-1.0, 1.0], repeat=13):
        if signs[0] < 0:  # the square does not see a common sign
            continue
        e = torch.tensor(signs, dtype=F64)
        draws = [e[:10].view(5, 2), e[10:].view(3, 1)]
        total, number = total + flat(squared_probe(terms, draws, parameters)), number + 1
    wanted = gauss_newton(terms, parameters).diagonal()
    torch.testing.assert_close(total / number, wanted, rtol=1e-11, atol=1e-13)


def test_all_labels_of_a_classifier_give_the_gauss_newton_diagonal():
    torch.manual_seed(2)
    net = nn.Linear(2, 3).double()
    x, labels = torch.randn(4, 2, dtype=F64), torch.tensor([0, 2, 1, 1])
    terms = [LossTerm("classes", net(x), 1.3, 4, "categorical", labels)]
    parameters, p = list(net.parameters()), net(x).detach().softmax(1)
    total = 0
    for drawn in itertools.product(range(3), repeat=4):
        drawn = torch.tensor(drawn)
        chance = p[torch.arange(4), drawn].prod()
        draws = [p - nn.functional.one_hot(drawn, 3)]
        total = total + chance * flat(squared_probe(terms, draws, parameters))
    wanted = gauss_newton(terms, parameters).diagonal()
    torch.testing.assert_close(total, wanted, rtol=1e-11, atol=1e-13)
    hessian = dense_hessian(terms, parameters).diagonal()  # of a linear model: the same
    torch.testing.assert_close(wanted, hessian, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", ["residuals", "classes"])
def test_mean_of_draws_lies_within_four_standard_errors(kind):
    net, make = mixture(1)
    parameters, terms = list(net.parameters()), make()
    if kind == "classes":
        x = torch.randn(6, 2, dtype=F64)
        labels = torch.tensor([0, 1, 1, 0, 0, 1])
        terms = [*terms, LossTerm("classes", net(x), 2.0, 6, "categorical", labels)]
    draws = 4000
    found = torch.stack(
        [
            flat(gauss_newton_bartlett(Objective(lambda: [], step=i, given=terms), parameters))
            for i in range(draws)
        ]
    )
    wanted = gauss_newton(terms, parameters).diagonal()
    assert ((found.mean(0) - wanted).abs() <= 4 * (found.var(0) / draws).sqrt() + 1e-14).all()
    assert (found >= 0).all()


def test_sum_over_ranks_of_squares_is_unbiased():
    """Two ranks with 3 and 2 of the samples, each with all its signs, the global count in both."""
    torch.manual_seed(3)
    net = nn.Linear(2, 1).double()
    x = torch.randn(5, 2, dtype=F64)
    parameters = list(net.parameters())
    shares = []
    for rows in (x[:3], x[3:]):
        terms = [LossTerm("r", net(rows)[:, 0], 1.0, 5)]
        squares = [
            flat(squared_probe(terms, [torch.tensor(e, dtype=F64)[:, None]], parameters))
            for e in itertools.product([-1.0, 1.0], repeat=len(rows))
        ]
        shares.append(torch.stack(squares).mean(0))
    whole = [LossTerm("r", net(x)[:, 0], 1.0, 5)]
    wanted = gauss_newton(whole, parameters).diagonal()
    torch.testing.assert_close(sum(shares), wanted, rtol=1e-12, atol=0)


def test_probes_are_named_by_seed_and_step():
    net, make = mixture()
    parameters = list(net.parameters())

    def probe(function, **name):
        return flat(function(Objective(make, **name), parameters))

    for function in (hutchinson, gauss_newton_bartlett):
        first = probe(function, seed=1, step=2)
        assert torch.equal(first, probe(function, seed=1, step=2))
        assert not torch.equal(first, probe(function, seed=1, step=3))
        assert not torch.equal(first, probe(function, seed=2, step=2))
