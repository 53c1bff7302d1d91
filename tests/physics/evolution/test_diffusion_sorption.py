"""Diffusion and sorption in a column, against SciPy, naive transcriptions and conservation."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from sciml.errors import ConvergenceError, InvalidArgument, InvalidType
from sciml.physics.evolution import DiffusionSorption, HeterogeneousDiffusionSorption
from sciml.solvers import Status

KINDS = [(-1, "cell"), (1, "cell"), (-1, "face"), (1, "face")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def transcribed(y, n, d=5e-4, phi=0.29, sign=-1, wall="cell"):
    """Return du/dt of one column, written cell by cell as the equations stand."""
    d, phi = np.broadcast_to(d, n), np.broadcast_to(phi, n)
    h, out = 1 / n, np.zeros(n)
    right = sign * d[-1] * (y[-1] - y[-2]) / h
    ghosts = (1.0, right) if wall == "cell" else (2 * 1.0 - y[0], 2 * right - y[-1])
    for i in range(n):
        before = ghosts[0] if i == 0 else y[i - 1]
        after = ghosts[1] if i == n - 1 else y[i + 1]
        d_before = d[0] if i == 0 else 2 * d[i] * d[i - 1] / (d[i] + d[i - 1])
        d_after = d[-1] if i == n - 1 else 2 * d[i] * d[i + 1] / (d[i] + d[i + 1])
        retardation = 1 + (1 - phi[i]) / phi[i] * 2880 * 3.5e-4 * 0.874 * (
            max(y[i], 0.0) + 1e-6
        ) ** (0.874 - 1)
        out[i] = (d_after * (after - y[i]) - d_before * (y[i] - before)) / h**2 / retardation
    return out


@pytest.mark.parametrize("kind", [DiffusionSorption, HeterogeneousDiffusionSorption])
@pytest.mark.parametrize(("sign", "wall"), KINDS)
def test_rates_are_the_equations_cell_by_cell(kind, sign, wall):
    problem = kind(8, right_sign=sign, wall=wall, time_count=3)
    inputs = problem.sample(2, seeded())
    u = torch.rand(2, 8, generator=seeded(1), dtype=torch.float64) - 0.1
    found = problem.rate(u, inputs)
    d, phi = (value.expand(2, 8).numpy() for value in problem.coefficients(inputs))
    for i in range(2):
        wanted = transcribed(u[i].numpy(), 8, d[i], phi[i], sign, wall)
        np.testing.assert_allclose(found[i].numpy(), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [DiffusionSorption, HeterogeneousDiffusionSorption])
@pytest.mark.parametrize(("sign", "wall"), KINDS)
def test_the_jacobian_is_the_derivative_of_the_rate(kind, sign, wall):
    problem = kind(6, right_sign=sign, wall=wall, time_count=3)
    inputs = problem.sample(1, seeded())
    u = torch.rand(1, 6, generator=seeded(1), dtype=torch.float64) + 0.05
    lower, diagonal, upper = (band[0] for band in problem.jacobian(u, inputs))
    wanted = torch.autograd.functional.jacobian(lambda v: problem.rate(v[None], inputs)[0], u[0])
    found = torch.diag(diagonal) + torch.diag(lower[1:], -1) + torch.diag(upper[:-1], 1)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


def test_trajectories_are_those_of_scipy():
    problem = DiffusionSorption(24, time_count=6, rtol=1e-8, atol=1e-10)
    inputs = problem.sample(2, seeded())
    found = problem.solve(inputs)
    for i in range(2):
        wanted = solve_ivp(
            lambda t, y: transcribed(y, 24), (0, 500), inputs[i, 0].numpy(), method="LSODA",
            t_eval=problem.times.numpy(), rtol=1e-10, atol=1e-12, lband=1, uband=1,
        ).y.T  # fmt: skip
        np.testing.assert_allclose(found.value[i].numpy(), wanted, rtol=0, atol=1e-8)
    assert found.converged.all() and float(found.residual.max()) <= 1


def test_ghost_relations_agree_with_the_rate():
    for sign, wall in KINDS:
        problem = DiffusionSorption(8, right_sign=sign, wall=wall, time_count=3)
        u = torch.rand(1, 8, generator=seeded(), dtype=torch.float64)
        (constant, edge), (none, last, before) = problem.wall_values()
        left = constant + edge * u[0, 0]
        right = none + last * u[0, -1] + before * u[0, -2]
        wide = torch.cat([left[None], u[0], right[None]])
        wanted = problem.dispersion * wide.diff().diff() * 64 / problem.retardation(u[0])
        torch.testing.assert_close(problem.rate(u, u[:, None])[0], wanted, rtol=1e-12, atol=1e-15)


def test_slopes_of_the_retardation():
    problem = DiffusionSorption(8)
    u = torch.tensor([1e-3, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(problem.retardation(u).sum(), u)
    torch.testing.assert_close(problem.retardation_slope(u.detach()), wanted, rtol=1e-12, atol=0)
    assert float(problem.retardation_slope(torch.tensor(-0.1).double())) == 0


@pytest.mark.parametrize("wall", ["cell", "face"])
def test_the_stationary_state_is_a_straight_line(wall):
    # far in the future u'' = 0: the line through both ghost relations
    problem = DiffusionSorption(32, horizon=1e6, time_count=2, wall=wall, rtol=1e-5)
    u = problem.solve(problem.sample(1, seeded())).value[0, -1]
    wide = u.diff()
    torch.testing.assert_close(wide, wide[:1].expand(31), rtol=1e-6, atol=1e-9)
    x = problem.grids[0]
    at_wall = u[0] - wide[0] / 2 if wall == "face" else u[0] - wide[0]
    assert abs(float(at_wall) - 1) < 1e-6 and x[0] == 1 / 64


def test_faces_converge_with_order_two_and_cells_with_order_one():
    # smooth start without a jump, away from the singularity of R
    def at_end(cells, wall):
        problem = DiffusionSorption(cells, wall=wall, horizon=50.0, time_count=2, rtol=1e-6)
        x = problem.grids[0]
        start = (1 - 0.5 * torch.sin(3 * x) ** 2)[None, None]
        return problem.solve(start).value[0, -1].view(16, -1).mean(1)

    for wall, order in (("cell", 1), ("face", 2)):
        coarse, middle, fine = (at_end(n, wall) for n in (32, 64, 128))
        ratio = (coarse - middle).norm() / (middle - fine).norm()
        assert abs(float(torch.log2(ratio)) - order) < 0.35


def test_samples_do_not_know_their_neighbours_and_floats_are_taken():
    problem = HeterogeneousDiffusionSorption(32, time_count=4, rtol=1e-5)
    inputs = problem.sample(3, seeded())
    together = problem.solve(inputs).value
    assert torch.equal(together[1], problem.solve(inputs[1:2]).value[0])
    single = problem.solve(inputs.float()).value
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, together, rtol=1e-4, atol=1e-6)


def test_a_column_that_cannot_be_solved_is_named():
    problem = DiffusionSorption(32, time_count=4, rtol=1e-4, atol=1e-6)
    inputs = problem.sample(2, seeded())
    inputs[1, 0, 3] = torch.nan
    with pytest.raises(ConvergenceError, match="1 of 2"):
        problem.solve(inputs)
    found = problem.solve(inputs, on_failure="mask")
    assert found.status.tolist() == [Status.CONVERGED, Status.NONFINITE]
    assert torch.equal(found.value[0], problem.solve(inputs[:1]).value[0])


def test_inputs_of_families():
    easy = DiffusionSorption(16, time_count=3).sample(500, seeded())
    assert easy.shape == (500, 1, 16) and bool((easy == easy[..., :1]).all())
    assert 0 <= float(easy.min()) < 0.01 and 0.19 < float(easy.max()) <= 0.2
    problem = HeterogeneousDiffusionSorption(16, time_count=3)
    hard = problem.sample(500, seeded())
    start, dispersion, porosity = hard.unbind(1)
    assert bool(((start > 0) & (start < 0.2)).all())
    spread = (dispersion / 5e-4).log()
    assert abs(float(spread.std()) - 0.5) < 0.05 and abs(float(spread.mean())) < 0.05
    assert bool(((porosity > 0) & (porosity < 1)).all())
    # a grid three times as fine shows the same functions at the same centres
    fine = HeterogeneousDiffusionSorption(48, time_count=3).sample(500, seeded())[..., 1::3]
    torch.testing.assert_close(fine, hard, rtol=1e-12, atol=0)


def test_wrong_inputs_and_settings_are_refused():
    problem = DiffusionSorption(16, time_count=3)
    with pytest.raises(InvalidArgument, match="samples, 1, 16"):
        problem.solve(torch.ones(2, 16))
    with pytest.raises(InvalidType, match="list"):
        problem.solve([0.1])
    for bad in (
        {"cells": 2}, {"cells": 16.0}, {"time_count": 1}, {"horizon": 0.0}, {"porosity": 1.0},
        {"right_sign": 0}, {"wall": "edge"}, {"dispersion": -1.0}, {"highest": float("nan")},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match=next(iter(bad))):
            DiffusionSorption(**{"cells": 16, **bad})
