"""Forward solvers on problems with known answers, and what they report when there is none."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType, NumericalWarning
from sciml.solvers import (
    LBFGS,
    Anderson,
    BiCGStab,
    Broyden,
    Dense,
    FixedPointIteration,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    Outcome,
    Rows,
    Segments,
    Status,
    fixed_point,
    least_squares,
    minimise,
    root,
)

FIXED_POINT = [
    FixedPointIteration(max_iter=5000),
    FixedPointIteration(max_iter=5000, damping=0.7),
    Anderson(),
    Anderson(window=2, mixing=0.8),
    Broyden(memory=100),
    Broyden(memory=8),
    Newton(),
    Newton(refresh=4),
    NewtonKrylov(),
    NewtonKrylov(linear=BiCGStab()),
]


def tanh_map(size: float, n: int = 16) -> torch.Tensor:
    w = torch.randn(n, n)
    return size * w / torch.linalg.matrix_norm(w, 2)


@pytest.mark.parametrize("size", [0.5, 0.9, 0.99])
def test_all_solvers_find_the_same_equilibrium(size):
    w, x = tanh_map(size), 0.3 * torch.randn(5, 16)
    z = torch.zeros(5, 16)
    for _ in range(10000):
        z = torch.tanh(z @ w.t() + x)
    counts = {}
    for solver in FIXED_POINT:
        out = fixed_point(
            lambda z, x: torch.tanh(z @ w.t() + x),
            torch.zeros(5, 16),
            (x,),
            solver=solver,
            on_failure="raise",
        )
        assert (out.value - z).abs().max() < 1e-9 * max(1, 0.1 / (1 - size)), solver
        counts[repr(solver)] = out.iterations
        true = (out.value - torch.tanh(out.value @ w.t() + x)).norm(dim=1)
        assert torch.allclose(out.residual, true, atol=1e-14, rtol=1e-12)
    plain = counts[repr(FIXED_POINT[0])]
    assert (counts[repr(Anderson())] <= plain + 2).all()


def test_a_problem_does_not_see_the_others():
    w, x = tanh_map(0.95), torch.randn(6, 16)
    x[3] *= 1e-3  # the slow one

    def layer(x, solver):
        return fixed_point(
            lambda z, x: torch.tanh(z @ w.t() + x),
            torch.zeros_like(x),
            (x,),
            solver=solver,
            on_failure="raise",
        )

    for solver in FIXED_POINT:
        together, alone = layer(x, solver), layer(x[:1], solver)
        assert (together.value[0] - alone.value[0]).abs().max() < 1e-12
        assert together.iterations[0] == alone.iterations[0]


@pytest.mark.parametrize("solver", FIXED_POINT[2:5] + FIXED_POINT[6:7] + FIXED_POINT[8:9])
def test_graphs_solve_like_separate_graphs(solver):
    index = torch.tensor([0, 2, 0, 2, 2, 1, 0])
    a = torch.rand(7, 7) * (index[:, None] == index)
    a = 0.9 * a / a.sum(1, keepdim=True)
    b = torch.randn(7, 2)

    def solve(keep, layout):
        inside = a[keep][:, keep]
        return fixed_point(
            lambda h, b: torch.sin(inside @ h) + b,
            torch.zeros(len(inside), 2),
            (b[keep],),
            solver=solver,
            layout=layout,
            on_failure="raise",
        )

    every = torch.arange(7)
    joined = solve(every, Segments(index, 4))  # graph 3 has no nodes
    assert joined.status.shape == (4,) and joined.iterations[3] == 0
    for g in range(3):
        keep = every[index == g]
        alone = solve(keep, Rows(0))
        assert (joined.value[keep] - alone.value).abs().max() < 1e-12
        assert joined.iterations[g] == alone.iterations


@pytest.mark.parametrize("solver", FIXED_POINT)
def test_failures_are_flagged_and_the_rest_is_untouched(solver):
    w = tanh_map(0.8)
    x = torch.randn(5, 16)
    x[1] = torch.nan

    def f(z, x):
        return torch.tanh(z @ w.t() + x)

    z0 = torch.full((5, 16), 0.1)
    out = fixed_point(f, z0, (x,), solver=solver, on_failure="best")
    good = [0, 2, 3, 4]
    assert out.status.tolist() == [0, Status.NONFINITE, 0, 0, 0]
    assert out.value[1].isnan().all()  # no iterate had a finite residual
    alone = fixed_point(f, z0[good], (x[good],), solver=solver, on_failure="raise")
    assert (out.value[good] - alone.value).abs().max() < 1e-12


def test_growth_stagnation_and_exhaustion_have_names():
    slope = torch.tensor([0.5, 3.0, 0.999, 1.0])[:, None]
    shift = torch.tensor([1.0, 1.0, 1.0, 1e-3])[:, None]
    out = fixed_point(
        lambda z, s, t: s * z + t,
        torch.ones(4, 1),
        (slope, shift),
        solver=FixedPointIteration(max_iter=300, rtol=1e-12),
        on_failure="best",
    )
    assert out.status[:3].tolist() == [Status.CONVERGED, Status.DIVERGED, Status.MAX_ITER]
    assert out.status[3] != Status.CONVERGED  # z = z + 1e-3 has no solution
    assert torch.equal(out.value[1], torch.ones(1))
    out = fixed_point(
        lambda z, t: 0.5 * z + t,
        torch.ones(1, 1),
        (torch.ones(1, 1) / 3,),
        solver=FixedPointIteration(rtol=3e-16),
        on_failure="best",
    )
    assert out.status.tolist() == [Status.CONVERGED] and out.residual.tolist() == [0.0]


def test_policies():
    def f(z, t):
        return t * z + 1

    t = torch.tensor([[0.5], [2.0]])
    solver = FixedPointIteration(max_iter=7)
    args = (f, torch.zeros(2, 1), (t,))
    with pytest.raises(ConvergenceError, match="2 of 2 problems after up to 7 iterations"):
        fixed_point(*args, solver=solver, on_failure="raise")
    with pytest.warns(NumericalWarning, match="left problems unsolved"):
        fixed_point(*args, solver=solver, on_failure="warn")
    with pytest.raises(InvalidArgument, match="one of raise, warn, mask, best"):
        fixed_point(*args, on_failure="ignore")
    with pytest.raises(TypeError, match="on_failure"):
        fixed_point(*args)


def test_roots_of_systems():
    def f(x, c):  # intersection of a circle and a hyperbola
        return torch.stack([x[:, 0] ** 2 + x[:, 1] ** 2 - 4, x[:, 0] * x[:, 1] - c], -1)

    c = torch.tensor([1.0, 0.5, 0.1])
    # (x + y)^2 = 4 + 2c, (x - y)^2 = 4 - 2c
    plus, minus = (4 + 2 * c).sqrt(), (4 - 2 * c).sqrt()
    wanted = torch.stack([(plus + minus) / 2, (plus - minus) / 2], -1)
    start = torch.tensor([2.0, 0.3]).expand(3, 2)
    for solver in (Newton(), NewtonKrylov(), Newton(linear=Dense("min_norm"), refresh=2)):
        out = root(f, start, (c,), solver=solver, on_failure="raise")
        assert (out.value - wanted).abs().max() < 1e-9
    out = root(f, start, (c,), solver=Broyden(inverse=0.25, rtol=1e-12), on_failure="raise")
    assert (out.value - wanted).abs().max() < 1e-9


def test_newton_started_at_the_answer_knows_it():
    """Round-off of F at the start must not be taken for the scale of F."""
    out = root(lambda x: x**2 - 2, torch.full((1, 1), math.sqrt(2.0)), on_failure="raise")
    assert abs(out.value.item() - math.sqrt(2)) < 1e-15
    assert out.iterations.item() <= 1


def test_newton_needs_its_line_search():
    out = root(torch.atan, torch.tensor([[3.0], [-10.0], [0.5]]), on_failure="raise")
    assert out.value.abs().max() < 1e-9


def test_no_root_is_reported():
    out = root(lambda x: x**2 + 1, torch.tensor([[2.0], [0.0]]), on_failure="best")
    assert not out.converged.any()
    assert out.status[1] == Status.SINGULAR  # dF/dx = 0 at the start


def test_scalars_elements_empty_batches_and_trees():
    assert abs(root(torch.cos, torch.tensor(1.0), on_failure="raise").value - math.pi / 2) < 1e-12
    one = fixed_point(torch.cos, torch.ones(1, 1), on_failure="raise")
    assert abs(one.value.item() - 0.739085133215) < 1e-10
    for solver in FIXED_POINT:
        out = fixed_point(torch.cos, torch.ones(0, 3), solver=solver, on_failure="raise")
        assert out.value.shape == (0, 3) and out.status.shape == (0,)
    tree = root(
        lambda x, t: {"a": x["a"] ** 2 - t, "b": [x["b"][0] - x["a"].sum(1)[:, None, None]]},
        {"a": torch.ones(2, 3), "b": [torch.zeros(2, 1, 1)]},
        (torch.tensor([[4.0], [9.0]]),),
        on_failure="raise",
    )
    assert torch.allclose(
        tree.value["a"], torch.tensor([[2.0], [3.0]]).expand(2, 3), rtol=1e-12, atol=1e-11
    )
    assert torch.allclose(
        tree.value["b"][0].flatten(), torch.tensor([6.0, 9.0]), rtol=1e-12, atol=1e-11
    )


def test_clear_refusals():
    with pytest.raises(InvalidArgument, match="layout=Rows"):
        root(torch.sin, torch.zeros(3), on_failure="raise")
    with pytest.raises(InvalidArgument, match="least_squares for more residuals"):
        root(lambda x: x[:, :1], torch.zeros(2, 3), on_failure="raise")
    with pytest.raises(InvalidArgument, match=r"one number per problem, \(2,\)"):
        minimise(lambda x: x.square().sum(), torch.zeros(2, 3), on_failure="raise")
    with pytest.raises(InvalidArgument, match=r"residuals of shape \(6,\)"):
        least_squares(lambda x: x.flatten(), torch.zeros(2, 3), on_failure="raise")
    with pytest.raises(InvalidType, match="real floating-point"):
        root(torch.sin, torch.zeros(2, 2, dtype=torch.complex128), on_failure="raise")
    with pytest.raises(InvalidType, match="theta=\\(a,\\)"):
        root(torch.sin, torch.zeros(2, 2), torch.ones(2), on_failure="raise")
    with pytest.raises(InvalidArgument, match="minimise or least_squares"):
        root(torch.sin, torch.zeros(2, 2), solver=LBFGS(), on_failure="raise")
    with pytest.raises(InvalidArgument, match="least_squares with Rows"):
        root(torch.sin, torch.zeros(2, 2), solver=LevenbergMarquardt(), on_failure="raise")
    with torch.inference_mode(), pytest.raises(InvalidArgument, match="inference_mode=False"):
        root(torch.sin, torch.ones(2, 2), on_failure="raise")


def test_any_callable_is_a_solver():
    def scipy_root(task, x):
        def f(v):
            return task.residual(torch.from_numpy(v).reshape(x.shape)).numpy().ravel()

        return torch.from_numpy(scipy.optimize.root(f, x.numpy().ravel()).x).reshape(x.shape)

    c = torch.tensor([[2.0], [3.0]])
    out = root(lambda x, c: x**2 - c, torch.ones(2, 1), (c,), solver=scipy_root, on_failure="raise")
    assert torch.allclose(out.value, c.sqrt(), rtol=1e-12, atol=1e-11)
    bad = root(
        lambda x, c: x**2 - c, torch.ones(2, 1), (c,), solver=lambda t, x: x, on_failure="best"
    )
    assert bad.status.tolist() == [Status.STALLED, Status.STALLED]

    def reports(task, x):
        ones = torch.ones(2, dtype=torch.long)
        return Outcome(x, ones, ones, x[:, 0], x[:, 0])

    out = root(lambda x, c: x**2 - c, torch.ones(2, 1), (c,), solver=reports, on_failure="best")
    assert (out.status == Status.MAX_ITER).all()


# --- least squares and minimisation --------------------------------------------------------------
def rosenbrock(x):
    return torch.stack([10 * (x[:, 1] - x[:, 0] ** 2), 1 - x[:, 0]], -1)


def test_levenberg_marquardt_on_rosenbrock():
    start = torch.tensor([[-1.2, 1.0], [3.0, -2.0], [1.0, 1.0]])
    out = least_squares(rosenbrock, start, on_failure="raise")
    assert (out.value - 1).abs().max() < 1e-9
    assert out.iterations[0] <= 30 and out.iterations[2] == 0


MEYER_T = 45 + 5 * torch.arange(1, 17, dtype=torch.float64)
MEYER_Y = torch.tensor(
    [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744]
    + [8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872],
    dtype=torch.float64,
)


def test_levenberg_marquardt_on_meyer():
    """Badly scaled: |J| columns differ by 1e5; the answer of Moré, Garbow & Hillstrom 1981."""

    def f(x):
        return x[:, :1] * torch.exp(x[:, 1:2] / (MEYER_T + x[:, 2:])) - MEYER_Y

    out = least_squares(
        f,
        torch.tensor([[0.02, 4000.0, 250.0]]),
        on_failure="raise",
        solver=LevenbergMarquardt(max_iter=500, rtol=1e-7),
    )
    assert abs(f(out.value).square().sum().item() - 87.9458) < 1e-3
    assert np.allclose(out.value[0], [5.60964e-3, 6181.35, 345.224], rtol=1e-4)


def test_least_squares_agrees_with_scipy_and_other_solvers():
    t = torch.linspace(0, 3, 30)
    y = 2 * torch.exp(-1.3 * t) + 0.1 * torch.randn(4, 30)

    def f(x, y):
        return x[:, :1] * torch.exp(-x[:, 1:] * t) - y

    start = torch.ones(4, 2)
    out = least_squares(f, start, (y,), on_failure="raise")
    for k in range(4):
        wanted = scipy.optimize.least_squares(
            lambda p, k=k: f(torch.tensor(p)[None], y[k : k + 1])[0].numpy(),
            [1.0, 1.0],
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
        ).x
        assert np.allclose(out.value[k], wanted, atol=1e-7, rtol=1e-8)
    for solver in (LBFGS(rtol=1e-9), Newton()):
        other = least_squares(f, out.value + 0.05, (y,), solver=solver, on_failure="raise")
        assert (other.value - out.value).abs().max() < 1e-8


def test_underdetermined_least_squares():
    out = least_squares(lambda x: x.sum(1, keepdim=True) - 3, torch.zeros(2, 4), on_failure="raise")
    assert torch.allclose(out.value, torch.full((2, 4), 0.75), rtol=1e-11, atol=1e-11)


def test_lbfgs_on_rosenbrock_and_a_quadratic():
    def banana(x):
        return rosenbrock(x).square().sum(1)

    start = torch.tensor([[-1.2, 1.0], [2.0, -1.0]])
    out = minimise(banana, start, solver=LBFGS(rtol=1e-13), on_failure="raise")
    assert (out.value - 1).abs().max() < 1e-9
    q = torch.linalg.qr(torch.randn(3, 20, 20))[0]
    a = q @ torch.diag(torch.logspace(0, 3, 20)) @ q.mT
    b = torch.randn(3, 20)

    def quadratic(x, b):
        return 0.5 * (x * (a @ x[..., None])[..., 0]).sum(1) - (x * b).sum(1)

    exact = torch.linalg.solve(a, b)
    for solver in (
        LBFGS(),
        LBFGS(memory=3, max_iter=2000),
        Newton(linear=Dense("positive_definite")),
    ):
        out = minimise(quadratic, torch.zeros(3, 20), (b,), solver=solver, on_failure="raise")
        assert (out.value - exact).abs().max() < 1e-8


def test_lbfgs_does_not_stop_at_a_lucky_problem():
    """One problem starts at its minimum, one has none; the third must not care."""
    shift = torch.tensor([[0.0], [1.0], [2.0]])

    def f(x, c):
        return torch.where(c[:, 0] == 1, -x[:, 0], (x[:, 0] - c[:, 0]).cosh())

    out = minimise(f, torch.zeros(3, 1), (shift,), solver=LBFGS(max_iter=60), on_failure="best")
    assert out.converged.tolist() == [True, False, True]
    assert abs(out.value[2].item() - 2) < 1e-9


def test_float32_reaches_its_tolerance():
    torch.set_default_dtype(torch.float32)
    w, x = tanh_map(0.97), torch.randn(64, 16)
    for solver in (FixedPointIteration(), Anderson(), Broyden(), Newton(), NewtonKrylov()):
        out = fixed_point(
            lambda z, x: torch.tanh(z @ w.t() + x),
            torch.zeros(64, 16),
            (x,),
            solver=solver,
            on_failure="raise",
        )
        assert out.value.dtype == torch.float32 and (out.stats["relative"] < 1e-5).all()
