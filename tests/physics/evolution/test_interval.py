"""Heat and Burgers equations on the interval, against series, SciPy and the Cole-Hopf formula."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.evolution import Burgers, Heat
from sciml.solvers import Status

BOUNDARIES = ("periodic", "dirichlet")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- heat -----------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_waves_decay_at_their_rates(boundary):
    problem = Heat(16, boundary=boundary, time_count=3, diffusivity=0.1)
    x, unit = problem.grids[0], 2 * math.pi if boundary == "periodic" else math.pi
    start = torch.sin(unit * x) - 0.3 * torch.sin(3 * unit * x)
    start[[0] if boundary == "periodic" else [0, -1]] = 0
    found = problem.solve(start[None, None]).value[0]
    t = problem.times[:, None]
    wanted = torch.exp(-0.1 * unit**2 * t) * torch.sin(unit * x)
    wanted = wanted - 0.3 * torch.exp(-0.9 * unit**2 * t) * torch.sin(3 * unit * x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_heat_as_finite_differences_spread_it(boundary):
    problem = Heat(64, boundary=boundary, time_count=3, horizon=0.5)
    inputs = problem.sample(2, seeded())
    found = problem.solve(inputs).value

    def rate(t, y):
        if boundary == "periodic":
            return 0.01 * 64**2 * (np.roll(y, 1) - 2 * y + np.roll(y, -1))
        out = np.zeros_like(y)
        out[1:-1] = 0.01 * 64**2 * np.diff(y, 2)
        return out

    for i in range(2):
        wanted = solve_ivp(
            rate, (0, 0.5), inputs[i, 0].numpy(), t_eval=problem.times.numpy(), rtol=1e-8
        ).y.T
        np.testing.assert_allclose(found[i].numpy(), wanted, rtol=0, atol=5e-3)


def test_a_start_that_is_not_finite_is_named():
    problem = Heat(32, time_count=3)
    inputs = problem.sample(2, seeded())
    inputs[0, 0, 3] = math.nan
    with pytest.raises(ConvergenceError, match="1 of 2"):
        problem.solve(inputs)
    found = problem.solve(inputs, on_failure="mask")
    assert found.status.tolist() == [Status.NONFINITE, Status.CONVERGED]
    assert found.value[1].isfinite().all()


@pytest.mark.parametrize("kind", [Heat, Burgers])
def test_starts_that_do_not_vanish_at_the_ends_are_refused(kind):
    problem = kind(32, boundary="dirichlet", time_count=3)
    inputs = problem.sample(1, seeded())
    with pytest.raises(InvalidArgument, match="at an end"):
        problem.solve(inputs + 0.1)
    with pytest.raises(InvalidArgument, match="boundary"):
        kind(32, boundary="open")


# --- Burgers --------------------------------------------------------------------------------
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_solver_agrees_with_cole_and_hopf(boundary):
    problem = Burgers(128, boundary=boundary, time_count=5, viscosity=0.03)
    inputs = problem.sample(3, seeded())
    if boundary == "periodic":
        inputs[0] += 0.7  # carried along by its mean
    found = problem.solve(inputs)
    torch.testing.assert_close(found.value, problem.exact(inputs), rtol=0, atol=1e-6)
    assert found.converged.all() and float(found.stats["tail"].max()) < 2e-3


def test_the_formula_is_that_of_cole_and_hopf():
    # u = -2 nu phi_x / phi with phi the heat equation's solution, integrated by SciPy
    nu, t = 0.05, 0.4
    problem = Burgers(32, time_count=2, horizon=t, viscosity=nu)
    x = problem.grids[0]
    start = torch.sin(2 * math.pi * x)
    found = problem.exact(start[None, None])[0, 1]

    def phi(y):  # exp(-U / 2 nu) with U' = sin 2 pi y
        return math.exp(math.cos(2 * math.pi * y) / (4 * math.pi * nu))

    for j in (3, 9, 20):
        at = float(x[j])

        def kernel(y, at=at):
            return math.exp(-((at - y) ** 2) / (4 * nu * t)) * phi(y)

        top = quad(lambda y, at=at, k=kernel: (at - y) / t * k(y), at - 3, at + 3, limit=200)[0]
        bottom = quad(kernel, at - 3, at + 3, limit=200)[0]
        assert abs(float(found[j]) - top / bottom) < 1e-8


def test_a_travelling_front():
    # tanh fronts of both signs, too far apart to feel each other: u_t + u u_x = nu u_xx exactly
    nu, n = 0.004, 512
    problem = Burgers(n, boundary="dirichlet", time_count=3, horizon=0.4, viscosity=nu)
    x = problem.grids[0]
    # two humps of a sine steepen into a stationary shock at x = 1/2, symmetric about it
    start = torch.sin(2 * math.pi * x)
    start[[0, n // 2, n]] = 0
    found = problem.solve(start[None, None]).value[0]
    torch.testing.assert_close(found, -found.flip(-1), rtol=0, atol=1e-12)
    # near the shock u = -a tanh(a (x - 1/2) / 2 nu), a the height it has reached
    middle = found[-1, n // 2 - 6 : n // 2 + 7]
    height = found[-1].abs().max()
    front = -height * torch.tanh(height * (x[n // 2 - 6 : n // 2 + 7] - 0.5) / (2 * nu))
    torch.testing.assert_close(middle, front, rtol=0, atol=0.06)


def test_order_four_of_the_steps():
    start = Burgers(64, viscosity=0.05).sample(1, seeded())

    def at_end(step):
        problem = Burgers(64, viscosity=0.05, time_count=2, horizon=0.5, step=step)
        return problem.solve(start).value[0, -1]

    values = [at_end(0.5 / n) for n in (16, 32, 64, 128)]
    gaps = np.array([float((a - b).norm()) for a, b in zip(values[:-1], values[1:], strict=True)])
    rates = np.log2(gaps[:-1] / gaps[1:])
    assert (rates > 3.5).all() and (rates < 4.6).all()


def test_the_mean_is_kept_and_samples_are_apart():
    problem = Burgers(64, viscosity=0.05, time_count=4)
    inputs = problem.sample(3, seeded()) + 0.2
    found = problem.solve(inputs).value
    torch.testing.assert_close(
        found.mean(-1), torch.full((3, 4), 0.2, dtype=torch.float64), rtol=0, atol=1e-13
    )
    alone = problem.solve(inputs[1:2]).value[0]
    torch.testing.assert_close(found[1], alone, rtol=0, atol=1e-14)


def test_long_steps_and_rough_starts_are_reported():
    problem = Burgers(64, time_count=3, viscosity=1e-4, step=0.5)
    inputs = problem.sample(2, seeded())
    inputs[1] *= 1e-3
    with pytest.raises(ConvergenceError, match="problem.step"):
        problem.solve(inputs * 10)
    found = problem.solve(inputs * 10, on_failure="mask")
    assert found.status[0] in (Status.DIVERGED, Status.NONFINITE)
    assert found.status[1] == Status.CONVERGED
    rough = torch.randn(1, 1, 64, generator=seeded(), dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="problem.points=128"):
        problem.solve(rough)
