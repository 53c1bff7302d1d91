"""Batched tridiagonal systems and the stiff integrator built on them."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sciml.errors import ConvergenceError, InvalidArgument, NumericalWarning
from sciml.solvers import Status, Tridiagonal, rosenbrock

METHODS = ("lapack", "cyclic")


def bands(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    lower, upper = torch.randn(2, *shape, generator=g, dtype=torch.float64)
    return lower, 3 + torch.rand(*shape, generator=g, dtype=torch.float64), upper


def dense(lower, diagonal, upper):
    a = torch.diag_embed(diagonal)
    if diagonal.shape[-1] > 1:
        a = a + torch.diag_embed(lower[..., 1:], -1) + torch.diag_embed(upper[..., :-1], 1)
    return a


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 21])
def test_systems_of_all_sizes_are_those_of_the_dense_matrix(n, method):
    given = bands(2, 3, n)
    b = torch.randn(2, 3, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = Tridiagonal(*given, method=method).solve(b)
    wanted = torch.linalg.solve(dense(*given), b[..., None])[..., 0]
    torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_bands_and_right_hand_sides_stay_as_they_were(method):
    given = bands(2, 7)
    b = torch.ones(2, 7, dtype=torch.float64)
    before = [value.clone() for value in (*given, b)]
    Tridiagonal(*given, method=method).solve(b)
    for old, new in zip(before, (*given, b), strict=True):
        assert torch.equal(old, new)


def test_elimination_pivots():
    # a zero on the diagonal of a regular matrix
    lower = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    diagonal = torch.tensor([[0.0, 2.0, 3.0]], dtype=torch.float64)
    upper = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    wanted = torch.linalg.solve(dense(lower, diagonal, upper), b[..., None])[..., 0]
    found = Tridiagonal(lower, diagonal, upper, method="lapack").solve(b)
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", ["singular", "nan", "infinite", "right"])
def test_a_bad_system_spares_its_neighbours(method, fault):
    lower, diagonal, upper = bands(3, 6)
    b = torch.ones(3, 6, dtype=torch.float64)
    wanted = Tridiagonal(lower, diagonal, upper, method=method).solve(b)
    if fault == "singular":
        lower[1], diagonal[1], upper[1] = 0.0, 0.0, 0.0
    elif fault == "right":
        b[1, 2] = math.nan
    else:
        diagonal[1, 3] = math.nan if fault == "nan" else math.inf
    x = Tridiagonal(lower, diagonal, upper, method=method).solve(b)
    if fault != "infinite":  # cyclic reduction lets 1 / infinity pass as 0
        assert not x[1].isfinite().all()
    torch.testing.assert_close(x[::2], wanted[::2], rtol=1e-15, atol=0.0)


def test_what_is_no_set_of_bands_is_refused():
    one = torch.ones(2, 5)
    with pytest.raises(InvalidArgument, match=r"\(2, 4\)"):
        Tridiagonal(one, one, one[:, 1:])
    with pytest.raises(InvalidArgument, match="right-hand side"):
        Tridiagonal(one, one, one).solve(torch.ones(5))
    with pytest.raises(InvalidArgument, match="thomas"):
        Tridiagonal(one, one, one, method="thomas")


# --- the integrator -------------------------------------------------------------------------
def pair(stiffness):
    """Return field and Jacobian of u_1' = -s (u_1 - u_2^2), u_2' = -u_2: exact by hand."""

    def field(u):
        return torch.stack([-stiffness * (u[:, 0] - u[:, 1] ** 2), -u[:, 1]], 1)

    def jacobian(u):
        zero, one = torch.zeros_like(u), torch.ones_like(u)
        diagonal = torch.stack([-stiffness * one[:, 0], -one[:, 1]], 1)
        upper = torch.stack([2 * stiffness * u[:, 1], zero[:, 1]], 1)
        return zero, diagonal, upper

    return field, jacobian


def exact(t, stiffness):
    # u_2 = exp(-t); u_1 = q exp(-2 t) + (1 - q) exp(-s t), q = s / (s - 2), from u_1(0) = 1
    q = stiffness / (stiffness - 2)
    return torch.stack([q * (-2 * t).exp() + (1 - q) * (-stiffness * t).exp(), (-t).exp()], -1)


def test_order_four():
    start, times = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0.0, 1.0]).double()
    errors = []
    for count in (10, 20, 40):  # tolerances that accept every step
        grid = torch.linspace(0, 1, count + 1, dtype=torch.float64)
        found = rosenbrock(*pair(5.0), start, grid, on_failure="raise", rtol=1e3, first_step=9.0)
        assert found.iterations.tolist() == [count]
        errors.append(float((found.value[0, -1] - exact(times[-1], 5.0)).abs().max()))
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (rates > 3.7).all() and (rates < 4.5).all()


def test_a_stiff_system_takes_few_steps():
    start = torch.ones(1, 2, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    found = rosenbrock(*pair(1e6), start, times, on_failure="raise", rtol=1e-6, atol=1e-8)
    assert int(found.iterations) < 80
    torch.testing.assert_close(found.value[0], exact(times, 1e6), rtol=1e-6, atol=1e-7)


def test_van_der_pol_as_scipy_integrates_it():
    mu = 8.0

    def field(u):
        x, v = u.unbind(1)
        return torch.stack([v, mu * (1 - x**2) * v - x], 1)

    def jacobian(u):
        x, v = u.unbind(1)
        zero = torch.zeros_like(x)
        diagonal = torch.stack([zero, mu * (1 - x**2)], 1)
        return (
            torch.stack([zero, -2 * mu * x * v - 1], 1),
            diagonal,
            torch.stack([torch.ones_like(x), zero], 1),
        )

    times = torch.linspace(0, 10, 4, dtype=torch.float64)
    start = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    found = rosenbrock(field, jacobian, start, times, on_failure="raise", rtol=1e-7, atol=1e-8)
    wanted = solve_ivp(
        lambda t, y: [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]],
        (0, 10), [2.0, 0.0], method="Radau", t_eval=times.numpy(), rtol=1e-10, atol=1e-12,
    ).y.T  # fmt: skip
    torch.testing.assert_close(found.value[0], torch.from_numpy(wanted), rtol=1e-6, atol=1e-6)


def blow_up(u):
    return u**2


def blow_up_jacobian(u):
    return torch.zeros_like(u), 2 * u, torch.zeros_like(u)


def test_failures_are_reported_and_spare_the_others():
    # u' = u^2 from 1 has no value at t = 1; from NaN it has none at all
    times = torch.linspace(0, 2, 5, dtype=torch.float64)
    start = torch.tensor([[0.1], [1.0], [math.nan]], dtype=torch.float64)
    rough = {"rtol": 1e-2, "atol": 1e-4}
    with pytest.raises(ConvergenceError, match="failed for 2 of 3 problems"):
        rosenbrock(blow_up, blow_up_jacobian, start, times, on_failure="raise", **rough)
    with pytest.warns(NumericalWarning):
        rosenbrock(blow_up, blow_up_jacobian, start, times, on_failure="warn", **rough)
    found = rosenbrock(blow_up, blow_up_jacobian, start, times, on_failure="mask", **rough)
    assert found.status[0] == Status.CONVERGED and found.status[2] == Status.NONFINITE
    assert found.status[1] == Status.STALLED
    assert found.value[1, :2].isfinite().all() and found.value[1, 2:].isnan().all()
    alone = rosenbrock(blow_up, blow_up_jacobian, start[:1], times, on_failure="raise", **rough)
    assert torch.equal(found.value[0], alone.value[0])
    torch.testing.assert_close(found.value[0, :, 0], 0.1 / (1 - 0.1 * times), rtol=1e-3, atol=1e-4)


def test_a_problem_that_runs_out_of_steps_says_so():
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    start = torch.tensor([[0.5]], dtype=torch.float64)
    found = rosenbrock(blow_up, blow_up_jacobian, start, times, on_failure="mask", max_steps=3)
    assert found.status.tolist() == [Status.MAX_ITER] and found.residual.isnan().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"times": torch.tensor([1.0, 0.0])}, "increasing"),
        ({"times": torch.tensor([0.0])}, "at least two"),
        ({"start": torch.ones(3)}, "shape"),
        ({"rtol": 0.0, "atol": 0.0}, "one of them positive"),
        ({"rtol": math.nan}, "rtol=nan"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"first_step": -1.0}, "first_step"),
        ({"on_failure": "ignore"}, "on_failure"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, said):
    settings = {
        "start": torch.ones(1, 1, dtype=torch.float64),
        "times": torch.tensor([0.0, 0.5]),
        "on_failure": "raise",
    } | change
    with pytest.raises(InvalidArgument, match=said):
        rosenbrock(blow_up, blow_up_jacobian, **settings)
