"""The derivative's linear solve: the forward factor used again, the default choice, the cures."""

import pytest
import torch
from problems import D, P, cubic, cubic_unrolled, fit, fit_unrolled, theta

from sciml.errors import ConvergenceError
from sciml.solvers import (
    CG,
    GMRES,
    Anderson,
    Broyden,
    Cascade,
    Dense,
    Implicit,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    Operator,
    Refinement,
    Rows,
    Status,
    fixed_point,
    least_squares,
    linear_solve,
    minimise,
    root,
)
from sciml.solvers.derivatives import adjoint_choice


def bratu(u, theta):
    """Return u'' + theta exp(u), u = 0 at both ends, by central differences."""
    h = 1 / (u.shape[-1] + 1)
    wide = torch.nn.functional.pad(u, (1, 1))
    return (wide[:, 2:] - 2 * u + wide[:, :-2]) / h**2 + theta[:, None] * u.exp()


def dense_gradient(u, theta, weights):
    """Return the derivative of `sum weights u` in theta, by LU of the matrix written out."""
    n = u.shape[-1]
    off = torch.ones(n - 1) * (n + 1) ** 2
    a = torch.diag_embed(theta[:, None] * u.exp() - 2 * (n + 1) ** 2)
    a = a + torch.diag(off, 1) + torch.diag(off, -1)
    adjoint = torch.linalg.solve(a.mT, -weights.expand_as(u)[..., None])[..., 0]
    return (adjoint * u.exp()).sum(-1)


@pytest.fixture
def made(monkeypatch):
    """Count the factors made."""
    count, original = [], Dense._factor
    monkeypatch.setattr(Dense, "_factor", lambda self, a: count.append(1) or original(self, a))
    return count


@pytest.mark.parametrize("n", [8, 32, 100, 400])
@pytest.mark.parametrize("order", [1, 2])
def test_a_boundary_value_problem_by_default(n, order, made):
    t = torch.tensor([1.0, 3.0], requires_grad=True)
    out = root(bratu, torch.zeros(2, n), (t,), adjoint=Implicit(order=order), on_failure="raise")
    forward, weights = len(made), torch.linspace(-1, 2, n)
    (got,) = torch.autograd.grad((out.value * weights).sum(), t, create_graph=order > 1)
    wanted = dense_gradient(out.value.detach(), t.detach(), weights)
    assert (got - wanted).abs().max() < 1e-10 * wanted.abs().max()
    if order == 2:
        (second,) = torch.autograd.grad(got.sum(), t)
        step = 1e-4
        ends = []
        for s in (step, -step):
            u = root(bratu, torch.zeros(2, n), (t.detach() + s,), on_failure="raise").value
            ends.append(dense_gradient(u, t.detach() + s, weights))
        numeric = (ends[0] - ends[1]) / (2 * step)
        assert (second - numeric).abs().max() < 1e-5 * numeric.abs().max()
    else:
        assert len(made) == forward  # nothing is factored again


@pytest.mark.slow
def test_a_thousand_unknowns_by_default():
    t = torch.tensor([1.0], requires_grad=True)
    u = root(bratu, torch.zeros(1, 1000), (t,), on_failure="raise").value
    (got,) = torch.autograd.grad(u.sum(), t)
    wanted = dense_gradient(u.detach(), t.detach(), torch.ones(1000))
    assert (got - wanted).abs().max() < 1e-9 * wanted.abs().max()


@pytest.mark.parametrize(
    "solver",
    [NewtonKrylov(linear=GMRES(max_iter=2000)), lambda task, x: Newton()(task, x).value],
    ids=["NewtonKrylov", "a tensor"],
)
def test_forward_solves_that_leave_nothing(solver):
    t = torch.tensor([1.0, 3.0], requires_grad=True)
    u = root(bratu, torch.zeros(2, 60), (t,), solver=solver, on_failure="raise").value
    (got,) = torch.autograd.grad(u.sum(), t)
    wanted = dense_gradient(u.detach(), t.detach(), torch.ones(60))
    assert (got - wanted).abs().max() < 1e-7 * wanted.abs().max()


def test_the_preconditioner_of_the_forward_solve_serves_the_derivative(made):
    n, calls = 600, []
    off = torch.ones(n - 1) * (n + 1) ** 2
    laplacian = torch.diag(off, 1) + torch.diag(off, -1) - 2 * (n + 1) ** 2 * torch.eye(n)
    inverse = torch.linalg.inv(laplacian)

    def precondition(operator):
        return lambda v: calls.append(operator.transposed) or v @ inverse

    t = torch.tensor([1.0], requires_grad=True)
    solver = NewtonKrylov(linear=GMRES(preconditioner=precondition))
    out = root(bratu, torch.zeros(1, n), (t,), solver=solver, on_failure="raise")
    assert not any(calls)
    (got,) = torch.autograd.grad(out.value.sum(), t)
    wanted = dense_gradient(out.value.detach(), t.detach(), torch.ones(n))
    assert abs(got - wanted) < 1e-7 * abs(wanted)
    assert sum(calls) < 20 and not made


@pytest.mark.parametrize("refresh", [1, 100])
def test_a_chord_method_leaves_an_old_factor(refresh, made):
    w, b = (t.requires_grad_() for t in theta())
    x = root(
        lambda x, w, b: x + x**3 / 3 + x @ w.mT - b,
        torch.zeros(P, D),
        (w, b),
        solver=Newton(rtol=1e-13, refresh=refresh, max_iter=400),
        on_failure="raise",
    ).value
    got = torch.autograd.grad(x.sin().sum(), (w, b))
    wanted = torch.autograd.grad(cubic_unrolled(w, b).sin().sum(), (w, b))
    for g, v in zip(got, wanted, strict=True):
        assert (g - v).abs().max() < 1e-10


def test_levenberg_marquardt_leaves_its_triangle(made):
    """Exact where residuals vanish or their curvature is dropped, else a start or a failure."""
    w, b = (t.requires_grad_() for t in theta())

    def rows(x, w, b):  # as many equations as unknowns: no residual stays
        return x + x**3 / 3 + x @ w.mT - b

    x = least_squares(
        rows, torch.zeros(P, D), (w, b), solver=LevenbergMarquardt(rtol=1e-14), on_failure="raise"
    ).value
    got = torch.autograd.grad(x.sin().sum(), (w, b))
    wanted = torch.autograd.grad(cubic_unrolled(w, b).sin().sum(), (w, b))
    for g, v in zip(got, wanted, strict=True):
        assert (g - v).abs().max() < 1e-9
    assert not made
    got = torch.autograd.grad(fit(w, b, Implicit()).sum(), (w, b))
    wanted = torch.autograd.grad(fit_unrolled(w, b).sum(), (w, b))
    for g, v in zip(got, wanted, strict=True):
        assert (g - v).abs().max() < 1e-9
    assert made  # the curvature of the residuals is not small here
    made.clear()
    given = torch.autograd.grad(fit(w, b, Implicit(hessian="gauss_newton")).sum(), (w, b))
    explicit = Implicit(Dense(), hessian="gauss_newton")
    for g, v in zip(given, torch.autograd.grad(fit(w, b, explicit).sum(), (w, b)), strict=True):
        assert (g - v).abs().max() < 1e-11
    assert len(made) == 1  # by the explicit one


def test_a_linear_system_is_factored_once(made):
    w, b = (t.requires_grad_() for t in theta())
    x = linear_solve(lambda x, w: x + x @ w.mT, b, (w,), linear=Dense(), on_failure="raise").value
    got = torch.autograd.grad(x.sin().sum(), (w, b))
    explicit = b @ torch.linalg.inv(torch.eye(D) + w).mT
    for g, v in zip(got, torch.autograd.grad(explicit.sin().sum(), (w, b)), strict=True):
        assert (g - v).abs().max() < 1e-13
    assert len(made) == 1


def test_transforms_carry_the_factor():
    w, b = theta()

    def loss(b):
        return cubic(w, b, Implicit()).sin().sum()

    def explicit(b):
        return cubic_unrolled(w, b).sin().sum()

    many = torch.stack([b, 0.5 * b])
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        got = torch.vmap(transform(loss))(many)
        assert (got - torch.stack([transform(explicit)(t) for t in many])).abs().max() < 1e-10
    got = torch.func.jacrev(lambda b: cubic(w, b, Implicit()))(b)
    wanted = torch.func.jacrev(lambda b: cubic_unrolled(w, b))(b)
    assert (got - wanted).abs().max() < 1e-10


def test_failed_problems_beside_good_ones():
    t = torch.tensor([1.0, 8.0, 3.0], requires_grad=True)  # no solution above 3.51
    out = root(bratu, torch.zeros(3, 40), (t,), on_failure="mask")
    assert out.converged.tolist() == [True, False, True]
    (got,) = torch.autograd.grad(out.value.sum(), t)
    keep = [0, 2]
    wanted = dense_gradient(out.value.detach()[keep], t.detach()[keep], torch.ones(40))
    assert (got[keep] - wanted).abs().max() < 1e-10 * wanted.abs().max() and got[1] == 0


# --- the default choice --------------------------------------------------------------------------
def operator(n, batch=1, dtype=torch.float64, **tags):
    like = torch.zeros(batch, 1, dtype=dtype).expand(batch, n)
    return Operator(lambda v: v, None if tags else lambda v: v, like, Rows(1), **tags)


def names(linear):
    parts = linear.solvers if isinstance(linear, Cascade) else (linear,)
    return [type(part).__name__ for part in parts]


def test_the_choice_goes_by_memory():
    def chosen(*args, near_identity=False, **tags):
        return names(
            adjoint_choice.default_linear(operator(*args, **tags), near_identity=near_identity)
        )

    assert chosen(20) == chosen(20, near_identity=True) == ["Dense"]
    assert chosen(500) == ["Dense"]
    assert chosen(500, near_identity=True) == ["GMRES", "Dense"]
    assert chosen(500, positive_definite=True) == ["CG", "Dense"]
    assert chosen(5000) == ["GMRES", "Dense"] and chosen(6000) == ["GMRES"]
    assert chosen(8000, 1, torch.float32) == ["GMRES", "Dense"]
    assert chosen(500, 200) == ["GMRES"] and chosen(6000, symmetric=True) == ["MINRES"]
    for n, wanted in ((6000, ["GMRES"]), (600, ["GMRES", "Dense"]), (60, ["Dense"])):
        kept = operator(n)
        kept.factors["forward"] = lambda v, transposed: v
        chosen_here = names(adjoint_choice.default_linear(kept, near_identity=False))
        assert chosen_here == ["Refinement", *wanted]


def test_a_cascade_gives_the_next_solver_what_is_left():
    a = torch.stack([torch.eye(60), torch.diag(torch.logspace(0, 6, 60))])
    b = torch.randn(2, 60)

    def product(x, a):
        return (a @ x[..., None])[..., 0]

    few = Cascade((GMRES(max_iter=5), Dense()))
    out = linear_solve(product, b, (a,), linear=few, on_failure="raise")
    assert (product(out.value, a) - b).abs().max() < 1e-10
    assert out.iterations.tolist() == [1, 6]
    with pytest.raises(ConvergenceError, match="GMRES"):
        linear_solve(product, b, (a,), linear=GMRES(max_iter=5), on_failure="raise")


def test_refinement_refuses_an_inverse_that_is_far_off():
    a = torch.tensor([[[2.0]], [[1.001]], [[1.0]], [[2.0]]])
    far = Operator(
        lambda v: (a @ v[..., None])[..., 0],
        lambda v: (a.mT @ v[..., None])[..., 0],
        torch.zeros(4, 1),
        Rows(1),
    )
    far.factors["forward"] = lambda v, transposed: v
    b = torch.tensor([[1.0], [1.0], [torch.nan], [0.0]])
    out = Refinement()(far, b)
    wanted = [Status.STALLED, Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    assert out.status.tolist() == wanted
    assert abs(out.value[1, 0] - 1 / 1.001) < 1e-15 and out.value[3, 0] == 0


def test_a_shared_inverse_of_broyden_is_refined_or_preconditions():
    w, b = (t.requires_grad_() for t in theta())
    x = fixed_point(
        lambda z, w, b: torch.tanh(z @ w.mT + b),
        torch.zeros(P, D),
        (w, b),
        solver=Broyden(share=True),
        on_failure="raise",
    ).value
    got = torch.autograd.grad(x.sum(), b)[0]
    z = torch.zeros(P, D)
    for _ in range(100):
        z = torch.tanh(z @ w.mT + b)
    assert (got - torch.autograd.grad(z.sum(), b)[0]).abs().max() < 1e-9


def test_messages_name_the_cure():
    t = torch.tensor([1.0], requires_grad=True)
    out = root(bratu, torch.zeros(1, 300), (t,), adjoint=Implicit(GMRES()), on_failure="raise")
    with pytest.raises(ConvergenceError, match=r"adjoint=Implicit\(Dense\(\)\), 300 unknowns"):
        out.value.sum().backward()
    out = root(lambda x, t: (x - t) ** 3, torch.ones(1, 1), (t,), on_failure="raise")
    with pytest.raises(ConvergenceError, match="not a function of the parameters"):
        out.value.sum().backward()
    out = root(bratu, torch.zeros(1, 40), (t,), on_failure="raise")
    with pytest.raises(ConvergenceError, match="came from the loss"):
        (out.value.sum() * torch.nan).backward()


def test_many_unknowns_of_a_fixed_point_and_a_minimum():
    """Krylov solvers come first here; where they fail the direct one takes over."""
    n = 64
    w = torch.randn(n, n)
    w, b = 0.5 * w / torch.linalg.matrix_norm(w, 2), torch.randn(2, n, requires_grad=True)
    x = fixed_point(
        lambda z, b: torch.tanh(z @ w.mT + b),
        torch.zeros(2, n),
        (b,),
        solver=Anderson(rtol=1e-12),
        on_failure="raise",
    ).value
    slope = torch.diag_embed(1 - x.detach() ** 2)
    inverse = torch.linalg.inv(torch.eye(n) - slope @ w) @ slope
    (got,) = torch.autograd.grad(x.sum(), b)
    assert (got - inverse.sum(1)).abs().max() < 1e-8
    scale = torch.logspace(0, 12, n)
    x = minimise(
        lambda x, b: 0.5 * (scale * x.square()).sum(-1) - (b * x).sum(-1),
        torch.zeros(2, n),
        (b,),
        solver=lambda task, x: b.detach() / scale,
        on_failure="raise",
        positive_definite=True,
    ).value
    assert names(Implicit(CG()).solver_for(operator(n))) == ["CG"]
    (got,) = torch.autograd.grad(x.sum(), b)
    assert (got * scale - 1).abs().max() < 1e-9
