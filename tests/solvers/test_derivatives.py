"""Implicit derivatives against explicit twins, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from problems import KINDS, TIGHT, D, P, cubic, equilibrium, fit, fit_unrolled, theta

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.solvers import (
    CG,
    GMRES,
    MINRES,
    Anderson,
    BiCGStab,
    Dense,
    FixedPointIteration,
    Implicit,
    JacobianFree,
    Neumann,
    Newton,
    NormalCG,
    Segments,
    Status,
    WarmStart,
    fixed_point,
    implicit_derivative,
    least_squares,
    minimise,
    root,
)

GENERAL = [
    Dense(),
    Dense("min_norm"),
    GMRES(rtol=TIGHT),
    BiCGStab(rtol=1e-13),
    NormalCG(rtol=1e-13),
]
SYMMETRIC = [CG(rtol=TIGHT), MINRES(rtol=1e-13)]
PAIRS = [
    (kind, solver)
    for kind in KINDS
    for solver in GENERAL + (SYMMETRIC if kind in ("minimise", "least_squares") else [])
]
IDS = [f"{kind}-{type(solver).__name__}" for kind, solver in PAIRS]


def hessian_product(function, w, b, seed=1):
    """Return gradient and a Hessian-vector product of a nonlinear functional of the solution."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.randn(P, D, generator=generator)
    loss = (function(w, b) * c).sin().sum()
    grads = torch.autograd.grad(loss, (w, b), create_graph=True)
    v = [torch.randn(g.shape, generator=generator) for g in grads]
    inner = sum((g * u).sum() for g, u in zip(grads, v, strict=True))
    return grads, torch.autograd.grad(inner, (w, b))


@pytest.mark.parametrize("kind, solver", PAIRS, ids=IDS)
def test_first_and_second_derivatives_equal_the_explicit_twin(kind, solver):
    implicit, explicit = KINDS[kind]
    w, b = (t.requires_grad_() for t in theta())
    rule = Implicit(solver, order=2)
    grads, products = hessian_product(lambda w, b: implicit(w, b, rule), w, b)
    wanted, wanted_products = hessian_product(explicit, w, b)
    for got, want in zip(grads, wanted, strict=True):
        assert (got - want).abs().max() < 1e-9
    for got, want in zip(products, wanted_products, strict=True):
        assert (got - want).abs().max() < 1e-7


@pytest.mark.parametrize(
    "kind, solver",
    [
        pytest.param(*pair, id=name, marks=() if pair[1] == Dense() else pytest.mark.slow)
        for pair, name in zip(PAIRS, IDS, strict=True)
    ],
)
def test_gradcheck_forward_and_backward(kind, solver):
    """All solvers, half a minute: pytest -m "slow or not slow" tests/solvers -k gradcheck."""
    implicit = KINDS[kind][0]
    w, b = (t.requires_grad_() for t in theta())
    rule = Implicit(solver, order=2)
    given = (w, b)
    assert torch.autograd.gradcheck(
        lambda w, b: implicit(w, b, rule), given, check_forward_ad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        lambda w, b: implicit(w, b, rule), given, check_fwd_over_rev=True, fast_mode=True
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_as_many_derivatives_as_asked_for_then_an_error(order):
    """x = sqrt(t): derivatives of every order are known."""
    t = torch.tensor([[2.0]], requires_grad=True)
    x = root(
        lambda x, t: x**2 - t,
        torch.ones(1, 1),
        (t,),
        solver=Newton(rtol=1e-15),
        adjoint=Implicit(order=order),
        on_failure="raise",
    ).value
    exact = [0.5 * 2**-0.5, -0.25 * 2**-1.5, 0.375 * 2**-2.5]
    for k in range(order):
        (x,) = torch.autograd.grad(x.sum(), t, create_graph=True)
        assert abs(x.item() - exact[k]) < 1e-13
    with pytest.raises(InvalidArgument, match=r"order=2\)|order"):
        torch.autograd.grad(x.sum(), t)


@pytest.mark.parametrize("captured", [False, True])
def test_first_order_mode_raises_even_where_no_graph_would_show_it(captured):
    """A linear functional of a solution linear in t: the wrong second derivative would be 0."""
    t = torch.tensor([[2.0]], requires_grad=True)

    def solve(s):
        if captured:
            return root(lambda x: x * s - 1, torch.ones(1, 1), on_failure="raise").value
        return root(lambda x, s: x * s - 1, torch.ones(1, 1), (s,), on_failure="raise").value

    (g,) = torch.autograd.grad(solve(t).sum(), t, create_graph=True)
    assert abs(g.item() + 0.25) < 1e-12
    with pytest.raises(InvalidArgument, match="higher order"):
        torch.autograd.grad(g.sum(), t)
    if not captured:
        for outer in (torch.func.jacfwd, torch.func.jacrev):
            for inner in (torch.func.jacfwd, torch.func.jacrev):
                with pytest.raises(InvalidArgument, match="higher order"):
                    outer(inner(lambda s: solve(s).sum()))(t.detach())


def test_gauss_newton_is_an_approximation_and_named_so():
    w, b = (t.requires_grad_() for t in theta())
    (exact,) = torch.autograd.grad(fit_unrolled(w, b).sum(), b)
    (close,) = torch.autograd.grad(fit(w, b, Implicit(hessian="gauss_newton")).sum(), b)
    assert 1e-3 < (close - exact).norm() / exact.norm() < 1  # residuals do not vanish
    with pytest.raises(InvalidArgument, match="order=1"):
        Implicit(hessian="gauss_newton", order=2)
    with pytest.raises(InvalidArgument, match="order=1"):
        Implicit(Neumann(), order=2)
    with pytest.raises(InvalidArgument, match="least_squares"):
        cubic(w, b, Implicit(hessian="gauss_newton"))


DOSE = [0.038, 0.194, 0.425, 0.626, 1.253, 2.5, 3.74]
RATE = [0.05, 0.127, 0.094, 0.2122, 0.2729, 0.2665, 0.3317]


def test_enzyme_data():
    """Michaelis-Menten rates: parameters and their derivatives in the data."""
    dose = torch.tensor(DOSE)

    def fit_to(y, rule):
        return least_squares(
            lambda p, y: p[:, :1] * dose / (p[:, 1:] + dose) - y,
            torch.tensor([[0.3, 0.5]]),
            (y,),
            adjoint=rule,
            on_failure="raise",
        ).value

    y = torch.tensor(RATE)[None].requires_grad_()
    p = fit_to(y, Implicit())
    assert np.allclose(p[0].detach(), [0.36184, 0.55627], atol=1e-5, rtol=1e-5)
    exact = torch.autograd.functional.jacobian(lambda y: fit_to(y, Implicit())[0], y)[:, 0]
    rough = torch.autograd.functional.jacobian(
        lambda y: fit_to(y, Implicit(hessian="gauss_newton"))[0], y
    )[:, 0]
    numeric, h = torch.zeros_like(exact), 1e-5
    for k in range(y.shape[1]):
        step = h * torch.eye(y.shape[1])[k : k + 1]
        ends = [fit_to(y.detach() + s * step, Implicit())[0] for s in (1, -1)]
        numeric[:, k] = (ends[0] - ends[1]) / (2 * h)
    assert (exact - numeric).abs().max() < 1e-6 * numeric.abs().max()
    assert (rough - numeric).abs().max() > 1e-3 * numeric.abs().max()


# --- a boundary value problem with a turning point -----------------------------------------------
def bratu(theta, order=1, on_failure="raise", n=31):
    """Return the solution of u'' + theta exp(u) = 0, u(0) = u(1) = 0, by central differences."""
    h = 1 / (n + 1)

    def residual(u, theta):
        wide = torch.nn.functional.pad(u, (1, 1))
        return (wide[:, 2:] - 2 * u + wide[:, :-2]) / h**2 + theta[:, None] * u.exp()

    return root(
        residual,
        torch.zeros(len(theta), n),
        (theta,),
        solver=Newton(rtol=1e-12),
        adjoint=Implicit(Dense(), order=order),
        on_failure=on_failure,
        symmetric=True,
    )


def test_bratu_to_third_order():
    t = torch.tensor([1.0, 2.5], requires_grad=True)
    grid = np.polynomial.chebyshev.chebpts1(15)
    for k, centre in enumerate(t.tolist()):
        points = torch.tensor(centre + 0.3 * grid)
        values = bratu(points).value.mean(1)
        series = np.polynomial.Chebyshev.fit(points.numpy(), values.numpy(), 14)
        derivative = bratu(t, order=3).value.mean(1)
        for order, tolerance in ((1, 1e-9), (2, 1e-7), (3, 1e-4)):
            (derivative,) = torch.autograd.grad(derivative.sum(), t, create_graph=order < 3)
            wanted = series.deriv(order)(centre)
            assert abs(derivative[k].item() - wanted) < tolerance * max(1, abs(wanted)), order


def test_beyond_the_turning_point_only_the_unsolvable_fail():
    t = torch.tensor([1.0, 3.4, 3.6, 3.0, 8.0], requires_grad=True)
    out = bratu(t, on_failure="mask")
    assert out.converged.tolist() == [True, True, False, True, False]
    assert out.value.isfinite().all()
    keep = out.converged
    alone = bratu(t.detach()[keep].requires_grad_())
    assert (out.value[keep] - alone.value).abs().max() < 1e-12
    (g,) = torch.autograd.grad(out.value.mean(1).sum(), t)
    assert (g[~keep] == 0).all()
    s = t.detach()[keep].requires_grad_()
    (wanted,) = torch.autograd.grad(bratu(s).value.mean(1).sum(), s)
    assert (g[keep] - wanted).abs().max() < 1e-12 * wanted.abs().max()
    assert out.log("bratu")["implicit/bratu/fail_frac"] == 0.4


# --- policies, singular systems, reports ---------------------------------------------------------
def test_singular_adjoint():
    """F = (x_1 + x_2 - t, 2 x_1 + 2 x_2 - 2 t): a line of solutions."""

    def solve(t, weights, policy, linear):
        x = implicit_derivative(
            lambda x, t: torch.stack([x.sum(1) - t, 2 * (x.sum(1) - t)], -1),
            torch.tensor([[0.5, 0.5]]),
            (t,),
            adjoint=Implicit(linear, on_failure=policy),
        )
        return torch.autograd.grad((x * weights).sum(), t)[0]

    t = torch.tensor([1.0], requires_grad=True)
    for linear in (Dense(), Dense("min_norm"), GMRES()):
        even, odd = torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0])
        # along the row space the minimum-norm solution moves by 1/2 per entry
        assert abs(solve(t, even, "raise", linear).item() - 1) < 1e-10
        with pytest.raises(ConvergenceError, match="linear solve of the derivative"):
            solve(t, odd, "raise", linear)
        assert solve(t, odd, "mask", linear).item() == 0


def test_a_failed_problem_gives_no_gradient_to_shared_parameters():
    w = torch.tensor(0.5, requires_grad=True)
    slope = torch.tensor([[1.0], [6.0], [0.5]])  # the second map is an expansion

    def solve(slope, policy):
        return fixed_point(
            lambda z, w: w * slope * z + 1,
            torch.zeros(len(slope), 1),
            (w,),
            solver=FixedPointIteration(),
            on_failure=policy,
        )

    (g,) = torch.autograd.grad(solve(slope, "mask").value.sum(), w)
    (wanted,) = torch.autograd.grad(solve(slope[[0, 2]], "raise").value.sum(), w)
    assert abs(g - wanted) < 1e-12 * abs(wanted)


def test_reports_of_the_backward_pass():
    w, b = (t.requires_grad_() for t in theta())
    out = fixed_point(
        lambda z, w, b: torch.tanh(z @ w.mT + b),
        torch.zeros(P, D),
        (w, b),
        adjoint=Implicit(GMRES(rtol=1e-12)),
        on_failure="raise",
    )
    assert "implicit/z/bwd_residual" not in out.log("z")
    out.value.sum().backward()
    log = out.log("z")
    assert 0 < log["implicit/z/bwd_residual"] < 1e-12
    assert 1 <= log["implicit/z/bwd_iters"] <= D
    assert (out.adjoint.outcome.status == Status.CONVERGED).all()


def test_warm_start_of_the_adjoint():
    w, b = (t.requires_grad_() for t in theta())
    rule = Implicit(GMRES(), warm_start=WarmStart())
    counts = []
    for _ in range(2):
        out = fixed_point(
            lambda z, w, b: torch.tanh(z @ w.mT + b),
            torch.zeros(P, D),
            (w, b),
            adjoint=rule,
            on_failure="raise",
        )
        out.value.sum().backward()
        counts.append(int(out.adjoint.outcome.iterations.max()))
    assert counts[0] > counts[1] <= 1


def test_factor_is_made_once_for_value_and_all_passes(monkeypatch):
    made = []
    original = Dense._factor
    monkeypatch.setattr(Dense, "_factor", lambda self, a: made.append(1) or original(self, a))
    w, b = (t.requires_grad_() for t in theta())
    x = cubic(w, b, Implicit(Dense()))
    made.clear()
    for _ in range(3):
        torch.autograd.grad(x.sum(), b, retain_graph=True)
    assert len(made) == 1


def test_truncated_gradients():
    """Phantom gradients equal autograd through unrolled damped steps; one step is JFB."""
    w, b = (t.requires_grad_() for t in theta())

    def step(z):
        return torch.tanh(z @ w.mT + b)

    star = equilibrium(w, b, Implicit()).detach()
    for linear, steps, tau in ((Neumann(5, 0.5), 5, 0.5), (JacobianFree(), 1, 1.0)):
        z = star
        for _ in range(steps):
            z = (1 - tau) * z + tau * step(z)
        wanted = torch.autograd.grad(z.sum(), (w, b), retain_graph=True)
        got = torch.autograd.grad(equilibrium(w, b, Implicit(linear)).sum(), (w, b))
        for g, v in zip(got, wanted, strict=True):
            assert (g - v).abs().max() < 1e-10


def test_graph_batch_gradient_equals_dense_autograd():
    index = torch.tensor([0, 1, 0, 1, 1, 3])  # graph 2 is empty, node 5 is alone
    row = torch.tensor([0, 2, 1, 3, 4, 4, 1])
    col = torch.tensor([2, 0, 3, 4, 1, 1, 1])  # a parallel edge and a loop
    weight = (0.4 * torch.rand(7, 2)).requires_grad_()
    b = torch.randn(6, 2, requires_grad=True)

    def step(h, weight, b):
        return torch.tanh(torch.zeros_like(h).index_add(0, row, weight * h[col]) + b)

    layout = Segments(index, 4, per_column=True)
    z = torch.zeros(6, 2)
    for _ in range(200):
        z = step(z, weight, b)
    wanted = torch.autograd.grad(z.sin().sum(), (weight, b))
    for linear in (None, BiCGStab(rtol=1e-13), GMRES(rtol=1e-13)):
        out = fixed_point(
            step,
            torch.zeros(6, 2),
            (weight, b),
            layout=layout,
            on_failure="raise",
            solver=Anderson(rtol=1e-13),
            adjoint=Implicit(linear),
        )
        assert out.status.shape == (4, 2)
        got = torch.autograd.grad(out.value.sin().sum(), (weight, b))
        for g, v in zip(got, wanted, strict=True):
            assert (g - v).abs().max() < 1e-9


def test_captured_parameters_get_their_gradient():
    """Closing over a module is the natural way to write a layer; nothing may be lost."""
    layer = torch.nn.Linear(D, D)
    with torch.no_grad():
        layer.weight *= 0.3
    x = torch.randn(P, D)
    out = fixed_point(lambda z: torch.tanh(layer(z) + x), torch.zeros(P, D), on_failure="raise")
    assert out.value.requires_grad
    got = torch.autograd.grad(out.value.square().sum(), list(layer.parameters()))
    z = torch.zeros(P, D)
    for _ in range(100):
        z = torch.tanh(layer(z) + x)
    wanted = torch.autograd.grad(z.square().sum(), list(layer.parameters()))
    for g, v in zip(got, wanted, strict=True):
        assert (g - v).abs().max() < 1e-9


@pytest.mark.parametrize("solver", [FixedPointIteration(), Anderson(max_iter=0), Newton()])
def test_output_requires_grad_on_every_exit(solver):
    b = torch.randn(P, D, requires_grad=True)
    for policy in ("best", "mask"):
        out = fixed_point(
            lambda z, b: 0.1 * z + b, torch.zeros(P, D), (b,), solver=solver, on_failure=policy
        )
        assert out.value.requires_grad
    with torch.no_grad():
        out = fixed_point(lambda z, b: 0.1 * z + b, torch.zeros(P, D), (b,), on_failure="raise")
    assert not out.value.requires_grad


def test_lasso_by_its_proximal_map():
    """A nonsmooth fixed point: derivative of the lasso in log lambda on its active set."""
    a, y = torch.randn(30, 8), torch.randn(30)
    eta = 1 / torch.linalg.matrix_norm(a, 2) ** 2
    log = torch.tensor(1.0, requires_grad=True)

    def prox(x, log):
        u = x - eta * (x @ a.mT - y) @ a
        return u.sign() * (u.abs() - eta * log.exp()).relu()

    x = fixed_point(prox, torch.zeros(1, 8), (log,), on_failure="raise").value[0]
    active = x.detach() != 0
    assert 0 < active.sum() < 8
    (g,) = torch.autograd.grad(x.square().sum(), log)
    a_s = a[:, active]
    gram = a_s.mT @ a_s
    slope = -torch.linalg.solve(gram, log.exp() * x[active].sign())
    assert abs(g - 2 * (x[active] * slope).sum()) < 1e-8


def test_the_backward_pass_follows_the_policy_of_the_forward_one():
    t = torch.tensor([[1.0], [2.0]], requires_grad=True)

    def f(x, t):  # the second problem has a double root, dF/dx = 0
        return torch.stack([x[0] - t[0], (x[1] - 1) ** 2 * t[1]])

    start = torch.tensor([[1.0], [1.0]])
    with pytest.raises(ConvergenceError, match="linear solve of the derivative by Dense"):
        root(f, start, (t,), on_failure="raise").value.sum().backward()
    x = root(f, start, (t,), on_failure="mask").value
    (g,) = torch.autograd.grad(x.sum(), t)
    assert g.flatten().tolist() == [1.0, 0.0]


def test_minima_on_graphs():
    index = torch.tensor([1, 0, 1, 1, 0])
    y = torch.randn(5, 2, requires_grad=True)

    def distances(x, y):
        losses = (x - y).square().sum(1) + (x - y).pow(4).sum(1)
        return torch.zeros(3).index_add(0, index, losses)

    out = minimise(
        distances,
        torch.zeros(5, 2),
        (y,),
        layout=Segments(index, 3),
        positive_definite=True,
        adjoint=Implicit(CG()),
        on_failure="raise",
    )
    assert (out.value - y).abs().max() < 1e-9 and out.status.shape == (3,)
    (g,) = torch.autograd.grad(out.value.square().sum(), y)
    assert (g - 2 * y).abs().max() < 1e-9


def test_image_shaped_unknowns():
    """A convolutional equilibrium in float32, Krylov in both directions."""
    torch.set_default_dtype(torch.float32)
    conv, x = torch.nn.Conv2d(3, 3, 3, padding=1), torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        conv.weight *= 0.5

    def step(z):
        return torch.tanh(conv(z) + x)

    z = torch.zeros_like(x)
    for _ in range(60):
        z = step(z)
    wanted = torch.autograd.grad(z.square().sum(), list(conv.parameters()))
    for solver in (Anderson(rtol=1e-6), Newton(), FixedPointIteration(rtol=1e-6)):
        out = fixed_point(step, torch.zeros_like(x), solver=solver, on_failure="raise")
        got = torch.autograd.grad(out.value.square().sum(), list(conv.parameters()))
        for g, v in zip(got, wanted, strict=True):
            assert (g - v).norm() < 1e-4 * v.norm()


def test_parameters_in_lists_of_one_reach_the_function_as_lists():
    a, b = torch.rand(3, 4) + 1, torch.rand(3, 4)
    b.requires_grad_()

    def residual(x, factors, shifts):  # iterating over a tensor in their place would mix problems
        return sum(f * x - s for f, s in zip(factors, shifts, strict=True))

    x = root(residual, torch.zeros(3, 4), ([a], [b]), on_failure="raise").value
    torch.testing.assert_close(x, b / a, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.autograd.grad(x.sum(), b)[0], 1 / a, rtol=1e-12, atol=1e-14)
