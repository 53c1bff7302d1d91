"""Figures that pseudo-spectral solvers report: Courant number, steps, tail, what they refuse."""

import math

import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.constraints import BurgersConstraint, SoftConstraint
from sciml.physics.evolution import Burgers, VorticityNavierStokes
from sciml.solvers import Status

TURN = 2 * math.pi


def test_the_courant_number_of_a_flow_is_step_times_wave_number_times_speed():
    """w = a sin 2 pi x moves along y alone, v = -a cos(2 pi x) / (2 pi), and stays as it is."""
    n, a = 24, 3.0
    problem = VorticityNavierStokes(n, time_count=3, horizon=0.4, viscosity=0.0, step=0.05)
    x, y = problem.square.points(problem.times)
    waves = torch.stack([a * torch.sin(TURN * x), 2 * a * torch.sin(TURN * (x + y))])
    found = problem.solve(waves[:, None])
    top = TURN * n / 3  # of the 2/3 rule
    # the second one is a shear along (1, -1): both components are 2 a / (4 pi)
    speeds = torch.tensor([a / TURN, 2 * 2 * a / (2 * TURN)], dtype=torch.float64)
    torch.testing.assert_close(found.stats["courant"], 0.05 * top * speeds, rtol=1e-9, atol=0)
    assert torch.equal(found.residual, found.stats["courant"])
    assert found.iterations.tolist() == [8, 8] and found.stats["evaluations"] == 32
    assert bool((found.status == Status.CONVERGED).all())
    assert float(found.stats["tail"].max()) < 1e-12


@pytest.mark.parametrize("shift", [-0.02, 0.02])
def test_the_limit_is_that_of_runge_kutta_on_the_imaginary_axis(shift):
    n = 24
    problem = VorticityNavierStokes(n, time_count=2, horizon=0.05, viscosity=0.0, step=0.05)
    x, _ = problem.square.points(problem.times)
    speed = (math.sqrt(8) + shift) / (0.05 * TURN * n / 3)
    given = (speed * TURN * torch.sin(TURN * x))[None, None]
    wanted = Status.CONVERGED if shift < 0 else Status.DIVERGED
    assert problem.solve(given, on_failure="best").status[0] == wanted
    if shift > 0:
        with pytest.raises(ConvergenceError, match=r"below 2\.83"):
            problem.solve(given)


def test_the_tail_is_the_share_of_the_upper_half_of_what_is_kept():
    """Waves 2 and 6 of 8 kept, of sizes 1 and 1/10, and a step so short that both stay."""
    n = 24
    problem = VorticityNavierStokes(n, time_count=2, horizon=1e-6, viscosity=0.0, step=1e-6)
    x, _ = problem.square.points(problem.times)
    given = torch.sin(2 * TURN * x) + 0.1 * torch.sin(6 * TURN * x)
    tail = problem.solve(given[None, None]).stats["tail"]
    assert float(tail) == pytest.approx(0.1 / math.sqrt(1.01), rel=1e-6)


def test_figures_of_burgers():
    problem = Burgers(
        48, boundary="periodic", time_count=3, horizon=0.02, viscosity=1e-6, step=0.005
    )
    (x,) = problem.grids
    given = torch.stack([2.0 + 0 * x, 0.5 * torch.sin(TURN * x)])[:, None]
    found = problem.solve(given)
    top = TURN * 48 / 3
    speed = torch.tensor([2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(found.stats["courant"], 0.005 * top * speed, rtol=2e-3, atol=0)
    assert found.iterations.tolist() == [4, 4]
    assert float(found.stats["tail"][0]) == pytest.approx(0.0, abs=1e-14)
    torch.testing.assert_close(found.value[0], torch.full_like(found.value[0], 2.0), rtol=1e-12,
                               atol=0)  # fmt: skip


def test_waves_that_the_rule_would_drop_are_refused_beyond_a_thousandth():
    problem = VorticityNavierStokes(24, time_count=2, horizon=1e-3, step=1e-3)
    x, _ = problem.square.points(problem.times)
    for size, fine in ((0.9e-3, True), (1.1e-3, False)):
        given = (torch.sin(TURN * x) + size * torch.sin(9 * TURN * x))[None, None]
        if fine:
            problem.solve(given)
        else:
            with pytest.raises(InvalidArgument, match=r"0\.11% .*\n?.*Type problem.points=48"):
                problem.solve(given)


def test_the_force_and_the_velocity_are_those_of_the_formulas():
    problem = VorticityNavierStokes(16, forcing=0.3)
    x, y = problem.square.points(problem.times)
    angle = TURN * (x + y)
    torch.testing.assert_close(
        problem.force(x), 0.3 * (angle.sin() + angle.cos()), rtol=1e-12, atol=1e-14
    )
    # psi = sin(2 pi x) cos(4 pi y): w = 20 pi^2 psi, u = (d_y psi, -d_x psi)
    psi = torch.sin(TURN * x) * torch.cos(2 * TURN * y)
    u, v = problem.velocity(20 * math.pi**2 * psi)
    torch.testing.assert_close(
        u, -2 * TURN * torch.sin(TURN * x) * torch.sin(2 * TURN * y), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        v, -TURN * torch.cos(TURN * x) * torch.cos(2 * TURN * y), rtol=0, atol=1e-12
    )


def test_what_a_soft_constraint_reports():
    problem = Burgers(24, boundary="periodic", time_count=5, horizon=0.1, viscosity=0.05, step=1e-2)
    inputs = problem.sample(3, torch.Generator().manual_seed(0))
    layer = SoftConstraint(BurgersConstraint(problem))
    basis = torch.randn(3, 1, 5, 24, dtype=torch.float64)
    found = layer(basis, inputs)
    rows = layer.residual(found.value, inputs)
    sizes = torch.stack([r.square().mean().sqrt() for r in rows])
    torch.testing.assert_close(found.residual[:, 0], sizes, rtol=1e-12, atol=0)
    assert found.residual.shape == (3, 1) and len(sizes.unique()) == 3
    assert bool((found.status == Status.CONVERGED).all())
    offset, columns = layer.equation.offset(basis, inputs), layer.equation.columns(basis, inputs)
    torch.testing.assert_close(found.value, offset + columns[:, 0], rtol=1e-12, atol=1e-14)
