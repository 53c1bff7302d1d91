"""Two-dimensional flow: exact decay, conservation laws, order in time, refusals."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import ConvergenceError, InvalidArgument
from sciml.physics.evolution import VorticityNavierStokes
from sciml.physics.evolution.profiles import periodic_kernel_fields
from sciml.physics.steady.periodic import Periodic
from sciml.solvers import Status


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mean(values):
    return values.mean((-2, -1))


def test_taylor_green_vortices_decay_exactly():
    problem = VorticityNavierStokes(16, time_count=4, horizon=2.0, viscosity=0.01, step=0.1)
    x, y = problem.square.points(problem.times)
    start = torch.stack([torch.sin(2 * math.pi * k * x) * torch.sin(2 * math.pi * k * y)
                         for k in (1, 2)])  # fmt: skip
    found = problem.solve(start[:, None]).value
    rates = 0.01 * 8 * math.pi**2 * torch.tensor([1.0, 4.0]).double()
    wanted = start[:, None] * torch.exp(-rates[:, None] * problem.times)[..., None, None]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_a_vortex_carried_by_a_shear_flow():
    # w = a sin 2 pi y is a steady shear u(y); on top of it a passive wave in y decays by itself:
    # any w(y, t) alone has u . grad w = 0 and follows the heat equation
    problem = VorticityNavierStokes(32, time_count=3, horizon=1.0, viscosity=0.02, step=0.05)
    _, y = problem.square.points(problem.times)
    start = torch.sin(2 * math.pi * y) + 0.5 * torch.cos(6 * math.pi * y)
    found = problem.solve(start[None, None]).value[0, -1]
    decay = [math.exp(-0.02 * (2 * math.pi * k) ** 2) for k in (1, 3)]
    wanted = decay[0] * torch.sin(2 * math.pi * y) + 0.5 * decay[1] * torch.cos(6 * math.pi * y)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_order_four_in_time():
    start = VorticityNavierStokes(32).sample(1, seeded()) * 2

    def at_end(step):
        problem = VorticityNavierStokes(
            32, time_count=2, horizon=0.8, viscosity=1e-3, forcing=0.5, step=step
        )
        return problem.solve(start).value[0, -1]

    values = [at_end(0.8 / n) for n in (16, 32, 64, 128)]
    gaps = np.array([float((a - b).norm()) for a, b in zip(values[:-1], values[1:], strict=True)])
    rates = np.log2(gaps[:-1] / gaps[1:])
    assert (rates > 3.5).all() and (rates < 4.6).all()


@pytest.mark.parametrize("forcing", [0.0, 1.0])
def test_energy_and_enstrophy_obey_their_laws(forcing):
    problem = VorticityNavierStokes(
        32, time_count=201, horizon=1.0, viscosity=2e-3, forcing=forcing, step=0.005
    )
    w = problem.solve(problem.sample(2, seeded()) * 2).value
    u = problem.velocity(w)
    waves = Periodic(32)
    kx, ky = waves.slopes(w)
    spectrum = torch.fft.rfft2(w)
    slopes = torch.fft.irfft2(torch.stack([kx * spectrum, ky * spectrum], -3), s=(32, 32))
    square = waves.squares(w).clone()
    square[0, 0] = 1
    g = problem.force(w)
    psi = torch.fft.irfft2(spectrum / square, s=(32, 32))
    energy, enstrophy = mean(u.square()).sum(-1) / 2, mean(w.square()) / 2
    # d/dt <|u|^2>/2 = -nu <w^2> + <psi g>,  d/dt <w^2>/2 = -nu <|grad w|^2> + <w g>
    rates = (
        (energy, -2e-3 * mean(w.square()) + mean(psi * g)),
        (enstrophy, -2e-3 * mean(slopes.square()).sum(-1) + mean(w * g)),
    )
    for quantity, rate in rates:
        # Simpson's rule in time
        weights = torch.ones(201, dtype=torch.float64)
        weights[1:-1:2], weights[2:-1:2] = 4, 2
        change = (rate * weights).sum(1) * (problem.times[1] / 3)
        torch.testing.assert_close(quantity[:, -1] - quantity[:, 0], change, rtol=1e-6, atol=1e-9)
    if not forcing:
        assert bool((enstrophy.diff(dim=1) < 0).all())
    assert float(mean(w).abs().max()) < 1e-14


def test_a_finer_grid_agrees():
    settings = {"time_count": 3, "horizon": 0.5, "viscosity": 2e-2, "step": 0.01}
    coarse, fine = (VorticityNavierStokes(n, **settings) for n in (32, 64))
    low = coarse.solve(coarse.sample(2, seeded())).value
    high = fine.solve(fine.sample(2, seeded())).value[..., ::2, ::2]
    torch.testing.assert_close(low, high, rtol=0, atol=1e-6)


def test_initial_states_have_the_periodic_kernel():
    n = 64
    drawn = periodic_kernel_fields(4000, n, seeded(), dimension=1, length_scale=0.5, std=2.0)
    r = torch.arange(n, dtype=torch.float64) / n
    kernel = torch.exp(-2 * torch.sin(math.pi * r) ** 2 / 0.5**2)
    kernel = kernel - kernel.mean()
    wanted = 4 * kernel / kernel[0]
    products = torch.stack([(drawn * drawn.roll(j, 1)).mean() for j in range(n)])
    torch.testing.assert_close(products, wanted, rtol=0, atol=0.15)
    w = VorticityNavierStokes(32).sample(3, seeded())
    assert w.shape == (3, 1, 32, 32) and float(mean(w).abs().max()) < 1e-15
    torch.testing.assert_close(
        VorticityNavierStokes(64).sample(3, seeded())[..., ::2, ::2], w, rtol=0, atol=1e-13
    )


def test_samples_do_not_know_their_neighbours():
    problem = VorticityNavierStokes(32, time_count=3, horizon=0.2)
    inputs = problem.sample(3, seeded())
    alone = problem.solve(inputs[1:2]).value[0]
    torch.testing.assert_close(problem.solve(inputs).value[1], alone, rtol=0, atol=1e-14)


def test_steps_that_are_too_long_are_reported():
    problem = VorticityNavierStokes(32, time_count=3, horizon=2.0, step=1.0)
    inputs = problem.sample(2, seeded())
    inputs[0] *= 100
    inputs[1] *= 1e-3
    with pytest.raises(ConvergenceError, match="problem.step"):
        problem.solve(inputs)
    found = problem.solve(inputs, on_failure="mask")
    assert found.status[0] in (Status.DIVERGED, Status.NONFINITE)
    assert found.status[1] == Status.CONVERGED and float(found.stats["tail"][1]) < 0.05


def test_what_the_grid_or_the_equation_cannot_carry_is_refused():
    problem = VorticityNavierStokes(16, time_count=2)
    noise = torch.randn(1, 1, 16, 16, generator=seeded(), dtype=torch.float64)
    with pytest.raises(InvalidArgument, match="mean"):
        problem.solve(noise + 1)
    with pytest.raises(InvalidArgument, match="problem.points=32"):
        problem.solve(noise - noise.mean())
    with pytest.raises(InvalidArgument, match="even"):
        VorticityNavierStokes(15)
    with pytest.raises(InvalidArgument, match="length_scale"):
        VorticityNavierStokes(16, length_scale=0.1).sample(1, seeded())
