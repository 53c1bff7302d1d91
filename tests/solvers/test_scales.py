"""Convergence means the same at every scale: true residuals in float64 from rescaled systems."""

import math

import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument, NumericalWarning
from sciml.solvers import (
    CG,
    GMRES,
    LBFGS,
    MINRES,
    Anderson,
    BiCGStab,
    Broyden,
    Contraction,
    Dense,
    FixedPointIteration,
    Halpern,
    LevenbergMarquardt,
    Newton,
    NewtonKrylov,
    NormalCG,
    ResidualFlow,
    ReversibleIteration,
    Rows,
    Segments,
    Status,
    fixed_point,
    least_squares,
    linear_solve,
    minimise,
    root,
)
from sciml.solvers.norms import unit_of

EXPONENTS = (-30, -20, -8, 0, 8, 20, 30)
WIDE = {torch.float32: (*EXPONENTS, -36, 36), torch.float64: (*EXPONENTS, -200, -280, 200, 280)}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def scaled(values, exponents, dtype):
    """Return rows of float64 values times 10^exponent in a dtype, and powers of two near them."""
    unit = torch.tensor([2.0 ** round(e * math.log2(10)) for e in exponents])
    return (values * unit[:, None]).to(dtype), unit


def systems(n, seed, *, symmetric=False):
    """Return a random matrix of condition about 3."""
    torch.manual_seed(seed)
    a = torch.eye(n) + 0.4 * torch.randn(n, n) / n**0.5
    return (a + a.T) / 2 if symmetric else a


LINEAR = [CG(), MINRES(), GMRES(), BiCGStab(), NormalCG(), Dense(), Dense("positive_definite")]
LINEAR += [Contraction(), Dense("min_norm")]
SYMMETRIC = (CG, MINRES, Dense)


@DTYPES
@pytest.mark.parametrize("solver", LINEAR, ids=str)
@pytest.mark.parametrize("ordinary", ["rhs", "solution", "start"])
def test_linear_systems_of_all_scales(solver, ordinary, dtype):
    exponents, n = WIDE[dtype], 6
    symmetric = isinstance(solver, SYMMETRIC)
    a = systems(n, 3, symmetric=symmetric).to(dtype)
    b, unit = scaled(torch.randn(len(exponents), n), exponents, dtype)
    factor = torch.ones_like(unit)
    if ordinary == "solution" and not isinstance(solver, Contraction):
        factor = unit  # of the matrix: the solution is of order 1
    size = factor.to(dtype)[:, None]
    out = linear_solve(
        lambda x, s: s * (x @ a.T),
        b,
        (size,),
        linear=solver,
        on_failure="best",
        symmetric=symmetric,
        positive_definite=symmetric,
        x0=0.5 * b / size if ordinary == "start" else None,
    )
    x = out.value.double() * factor[:, None] / unit[:, None]
    given = b.double() / unit[:, None]
    true = (given - x @ a.double().T).norm(dim=1) / given.norm(dim=1)
    bound = TOLERANCE[dtype] ** (0.5 if isinstance(solver, Dense) else 1)
    assert out.converged.all(), out.status
    assert float(true.max()) < 3 * bound
    if not isinstance(solver, Contraction):  # which measures in the max-norm
        assert torch.allclose(out.stats["relative"].double(), true, rtol=0.1, atol=3e-7)


@DTYPES
@pytest.mark.parametrize("solver", LINEAR[:6], ids=str)
def test_solutions_beyond_the_dtype_are_no_convergence(solver, dtype):
    most = 10.0 ** (30 if dtype == torch.float32 else 300)
    symmetric = isinstance(solver, SYMMETRIC)
    size = torch.tensor([most, 1 / most, 1.0], dtype=dtype)[:, None]
    b = torch.tensor([1 / most, most, 1.0], dtype=dtype)[:, None] * torch.ones(3, 4, dtype=dtype)
    out = linear_solve(
        lambda x, s: s * x,
        b,
        (size,),
        linear=solver,
        on_failure="best",
        symmetric=symmetric,
        positive_definite=symmetric,
    )
    assert out.converged.tolist() == [False, False, True]  # 1e-60 and 1e60 in float32


FIXED = [
    FixedPointIteration(),
    Anderson(),
    Broyden(),
    Newton(),
    NewtonKrylov(),
    ReversibleIteration(max_iter=200),
    ResidualFlow(horizon=100.0),
]


@DTYPES
@pytest.mark.parametrize("solver", FIXED, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("segments", [False, True])
def test_fixed_points_of_all_scales(solver, segments, dtype):
    exponents, n = WIDE[dtype], 5
    if isinstance(solver, ResidualFlow):  # squares of states in the integrator
        exponents = EXPONENTS
    torch.manual_seed(1)
    w = 0.5 * torch.randn(n, n) / n**0.5
    shift, unit = scaled(torch.randn(len(exponents), n), exponents, dtype)
    scale = unit.to(dtype)[:, None]
    narrow = w.to(dtype)

    def image(z, s, t):
        return s * torch.tanh((z / s) @ narrow.T) + t

    layout = Segments(torch.arange(len(exponents)), len(exponents)) if segments else None
    start = 0.1 * shift
    out = fixed_point(image, start, (scale, shift), solver=solver, on_failure="best", layout=layout)
    z = out.value.double() / unit[:, None]
    t = torch.tanh(z @ w.to(dtype).double().T) + shift.double() / unit[:, None]
    true = (z - t).norm(dim=1) / t.norm(dim=1)
    assert out.converged.all(), out.status
    assert float(true.max()) < 2 * TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize("solver", [Newton(), NewtonKrylov()], ids=lambda s: type(s).__name__)
def test_roots_of_all_scales(solver, dtype):
    exponents = WIDE[dtype]
    c, unit = scaled(torch.rand(len(exponents), 3) + 1, exponents, dtype)
    scale = unit.to(dtype)[:, None]
    # equations of any size, and unknowns of any size
    for units in (scale, torch.ones_like(scale)):
        target = c / scale

        def f(x, s, u, target=target):
            y = x / u
            return s * (y**3 + y - target)

        out = root(f, units.expand_as(c), (scale, units), solver=solver, on_failure="best")
        y = out.value.double() / units.double()
        true = (y**3 + y - target.double()).norm(dim=1)
        assert out.converged.all(), out.status
        assert float(true.max()) < 10 * TOLERANCE[dtype]


@DTYPES
def test_least_squares_of_all_scales(dtype):
    exponents = WIDE[dtype]
    torch.manual_seed(2)
    j = torch.randn(7, 3).to(dtype)
    y, unit = scaled(torch.randn(len(exponents), 7), exponents, dtype)
    for factor in (torch.ones_like(unit), unit):
        size = factor.to(dtype)[:, None]
        out = least_squares(
            lambda x, s, y: s * (x @ j.T) - y,
            torch.zeros(len(exponents), 3, dtype=dtype),
            (size, y),
            solver=LevenbergMarquardt(),
            on_failure="best",
        )
        wanted = torch.linalg.lstsq(j.double(), (y.double() / unit[:, None]).T).solution.T
        found = out.value.double() * (factor / unit)[:, None]
        assert out.converged.all(), out.status
        assert torch.allclose(found, wanted, rtol=0, atol=100 * TOLERANCE[dtype])


@DTYPES
def test_objectives_of_all_scales(dtype):
    exponents = WIDE[dtype]
    torch.manual_seed(2)
    a = torch.rand(len(exponents), 3) + 0.5
    unit = torch.tensor([2.0 ** round(e * math.log2(10)) for e in exponents])[:, None]
    for start in (torch.zeros_like(a), 2 * torch.ones_like(a)):
        out = minimise(
            lambda x, s, a: (s * (torch.cosh(x - a) - 1)).sum(-1),
            start.to(dtype),
            (unit.to(dtype), a.to(dtype)),
            solver=LBFGS(),
            on_failure="best",
        )
        assert out.converged.all(), out.status
        assert torch.allclose(out.value.double(), a, rtol=0, atol=30 * TOLERANCE[dtype])


def test_divergence_is_never_convergence():
    one = torch.ones(1, 1)
    for solver in FIXED:
        for policy in ("raise", "warn", "mask", "best"):
            kind = {
                "raise": pytest.raises(ConvergenceError),
                "warn": pytest.warns(NumericalWarning),
            }
            if policy in kind:
                with kind[policy]:
                    fixed_point(lambda z: z * z + 2, one, solver=solver, on_failure=policy)
                continue
            out = fixed_point(lambda z: z * z + 2, one, solver=solver, on_failure=policy)
            assert not out.converged.any(), solver
            # the best iterate beside its own scale, not beside that of the last one
            assert float(out.stats["relative"]) > 1e-3
            assert bool(out.value.isfinite().all())


@pytest.mark.parametrize("solver", [Newton(), NewtonKrylov()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("gap", [1e-6, 1e-9, 1e-12, 1e-14, 4e-16])
def test_a_short_step_beside_a_pole_is_no_root(solver, gap):
    near = 1 + gap * torch.tensor([[1.0], [-1.0]])
    for power in (1, 3):
        out = root(lambda x, p=power: 1 / (x - 1) ** p + 5, near, solver=solver, on_failure="best")
        true = (1 / (out.value - 1) ** power + 5).abs()[:, 0]
        assert bool((~out.converged | (true < 1e-6)).all()), (out.status, true)
    out = least_squares(lambda x: 1 / (x - 1) + 5, near, on_failure="best")
    true = (1 / (out.value - 1) + 5).abs()[:, 0]
    assert bool((~out.converged | (true < 1e-6)).all()), (out.status, true)


BLIND = [
    Broyden(max_iter=20),
    FixedPointIteration(max_iter=20),
    Anderson(max_iter=20),
    ResidualFlow(horizon=5.0),
]


@pytest.mark.parametrize("solver", BLIND, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("gap", [1e-12, 4e-16])
def test_solvers_without_a_jacobian_take_no_leap_from_a_pole_for_a_root(solver, gap):
    x0 = torch.tensor([[1 + gap], [3.0]], dtype=torch.float64)
    shift = torch.tensor([[5.0], [0.0]], dtype=torch.float64)

    def residual(x, shift):  # the second problem is solved by the first step
        return torch.where(shift > 0, 1 / (x - 1) + shift, x - 0.1)

    out = root(residual, x0, (shift,), solver=solver, on_failure="best")
    assert out.status[0] != Status.CONVERGED
    assert out.status[1] == Status.CONVERGED or isinstance(solver, ResidualFlow)


def test_a_minimum_is_not_found_by_one_step_from_a_pole():
    x0 = torch.tensor([[1 + 1e-12]], dtype=torch.float64)

    def square(x):
        return (1 / (x - 1) + 5).square().sum(-1)

    out = minimise(square, x0, solver=LBFGS(max_iter=20), on_failure="best")
    assert out.status.item() != Status.CONVERGED


@DTYPES
@pytest.mark.parametrize("solver", BLIND[:3], ids=lambda s: type(s).__name__)
def test_one_step_to_round_off_is_convergence(solver, dtype):
    torch.manual_seed(3)
    near = torch.eye(30, dtype=dtype) + 1e-14 * torch.randn(30, 30, dtype=dtype)
    b, x0 = torch.randn(40, 30, dtype=dtype), torch.randn(40, 30, dtype=dtype)
    x0 = x0 * torch.logspace(-8, 8, 40, dtype=dtype)[:, None]
    out = root(lambda x: x @ near - b, x0, solver=solver, on_failure="best")
    assert (out.status == Status.CONVERGED).all()


def test_a_start_at_the_root_needs_no_fall_of_the_residual():
    exact = torch.tensor([[2.0**0.5], [3.0**0.5]])
    near = exact * (1 + torch.tensor([[0.0], [2e-16]]))
    out = root(lambda x: x**2 - exact**2 * (1 + 1e-16), near, on_failure="raise")
    assert torch.allclose(out.value, exact, rtol=1e-15, atol=0)


BROKEN = [
    lambda x, a: a * x - 1,
    lambda x, a: (a * x).sum(-1, keepdim=True).expand_as(x) + x - 1,
]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_matrices_that_are_not_finite_have_a_status(bad):
    a = torch.ones(3, 2)
    a[1] = bad
    x0 = torch.zeros(3, 2)
    for f in BROKEN:
        for solver in (Newton(), Newton(linear=Dense("min_norm")), NewtonKrylov(), Anderson()):
            status = root(f, x0, (a,), solver=solver, on_failure="best").status
            assert status[1] == Status.NONFINITE, (solver, status)
            assert (status[[0, 2]] != Status.NONFINITE).all()
    out = least_squares(lambda x, a: a * x - 1, x0, (a,), on_failure="best")
    assert out.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    out = minimise(lambda x, a: (a * x - 1).square().sum(-1), x0, (a,), on_failure="best")
    assert out.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED]
    for solver in (*LINEAR, Dense("lower"), Dense("diagonal"), Dense("symmetric")):
        kind = {"symmetric": True, "positive_definite": True}
        if isinstance(solver, Contraction):
            continue  # not for this matrix
        out = linear_solve(
            lambda x, a: a * x, torch.ones(3, 2), (a,), linear=solver, on_failure="best", **kind
        )
        assert out.converged.tolist() == [True, False, True], solver
        # x = 1 / inf = 0 leaves inf * 0 = NaN
        assert out.status[1] == Status.NONFINITE, (solver, out.status)


SOLVERS = [
    *(type(s) for s in FIXED if not isinstance(s, ResidualFlow)),
    *(CG, MINRES, GMRES, BiCGStab, NormalCG, Contraction, LevenbergMarquardt, LBFGS, ResidualFlow),
]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "numbers",
    [
        {"rtol": -1e-3},
        {"rtol": math.nan},
        {"rtol": 1.0},
        {"rtol": math.inf},
        {"rtol": 1e-17},
        {"atol": -1.0},
        {"atol": math.nan},
        {"atol": math.inf},
        {"rtol": 0.0, "atol": 0.0},
    ],
    ids=str,
)
def test_tolerances_are_checked_when_a_solver_is_made(solver, numbers):
    with pytest.raises(InvalidArgument, match="one of them positive|atol=nan"):
        solver(**numbers)


def test_tolerances_below_the_precision_of_the_unknown_are_refused():
    x = torch.ones(2, 2, dtype=torch.float32)
    for solver in (Anderson(rtol=1e-9), Newton(rtol=1e-9), Broyden(rtol=1e-9)):
        with pytest.raises(InvalidArgument, match=r"torch.float32.*at least 6.0e-08"):
            fixed_point(lambda z: 0.5 * z + 1, x, solver=solver, on_failure="raise")
    with pytest.raises(InvalidArgument, match=r"torch.float32"):
        linear_solve(lambda v: 2 * v, x, linear=GMRES(rtol=1e-9), on_failure="raise")
    found = fixed_point(
        lambda z: 0.5 * z + 1, x, solver=Anderson(rtol=1e-9, atol=1e-5), on_failure="raise"
    )
    assert torch.allclose(found.value, 2 * x, rtol=0, atol=1e-4)


def test_tensors_of_foreign_solvers_are_judged_by_the_same_rule():
    x0 = torch.zeros(4, 1)

    def solver(task, x):
        return torch.tensor([[2.0], [2.1], [math.inf], [math.nan]])

    out = root(lambda x: x - 2, x0, solver=solver, on_failure="best")
    stalled, broken = Status.STALLED, Status.NONFINITE
    assert out.status.tolist() == [Status.CONVERGED, stalled, broken, broken]
    # beside a pole everything is small against the residual of the start
    near = torch.tensor([[1 + 1e-12], [1 - 1e-12], [3.0]], dtype=torch.float64)

    def pole(x):
        return 1 / (x - 1) + 5

    found = torch.tensor([[2e11], [0.8], [0.8]], dtype=torch.float64)
    out = root(pole, near, solver=lambda task, x: found, on_failure="best")
    assert out.status.tolist() == [stalled, Status.CONVERGED, Status.CONVERGED]
    # infinite at the start: no scale, so nothing is small beside it
    out = root(lambda x: 1 / x - 5, x0[:1], solver=lambda task, x: x + 1, on_failure="best")
    assert not out.converged.any()


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-20, 1.0, 1e160, 1e300])
def test_norms_of_all_sizes(size):
    v = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]]) * size
    v = torch.cat([v, torch.tensor([[math.nan, 1.0], [-math.inf, 1.0]])])
    index = Segments(torch.arange(5), 5)
    for found in (Rows(1).norm(v), index.norm(v)):
        assert torch.allclose(found[:3], size * torch.tensor([5, 0, 1e-3]), rtol=1e-15, atol=0)
        assert bool(found[3].isnan()) and float(found[4]) == math.inf


@pytest.mark.parametrize("settings", [{"rtol": -1.0}, {"rtol": float("nan")}, {"max_iter": -3}])
def test_halpern_refuses_settings_that_cannot_work(settings):
    with pytest.raises(InvalidArgument, match="tolerances"):
        Halpern(**settings)


def test_an_objective_of_nan_with_a_gradient_of_zero_is_no_minimum():
    x = torch.ones(1, 1, dtype=torch.float64)
    found = minimise(lambda x: (0 * x).sum(-1) + float("nan"), x, on_failure="best")
    assert found.status.tolist() == [Status.NONFINITE]


def test_units_are_found_inside_transforms_without_a_look_at_values():
    """`unit_of`: the same powers of two, one for each size, and for none that is near enough."""
    far = torch.tensor([1e-300, 1.0, 0.0, 1e300, math.inf])
    found = torch.vmap(unit_of)(far)
    assert torch.equal(found, unit_of(far))
    assert found[1:3].tolist() == [1.0, 1.0]
    assert found[4] == 1.0
    for k in (0, 3):
        assert 0.5 <= float(far[k] * found[k]) <= 2.0
        assert math.frexp(float(found[k]))[0] == 0.5  # a power of two
    near = torch.tensor([0.1, 7.0])
    assert unit_of(near) is None
    assert torch.equal(torch.vmap(unit_of)(near), torch.ones(2))
