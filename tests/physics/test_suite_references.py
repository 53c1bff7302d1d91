"""References of the PINN suite against something that was not used to make them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dstn, idstn
from scipy.integrate import solve_ivp
from scipy.sparse.linalg import splu

from sciml.autodiff.multi_indices import lattice_of
from sciml.autodiff.multijet import variables
from sciml.physics.suite import (
    Burgers2D,
    Cavity,
    HeatND,
    KuramotoSivashinsky,
    Poisson2DBlocks,
    PoissonBoltzmann2D,
    PoissonND,
    burgers_plane,
    channel,
    heat_holes,
    heat_square,
    patterns,
    poisson3d_holes,
    poisson_blocks,
    poisson_boltzmann,
    stationary_flows,
)
from sciml.physics.suite.reference_elements import GradedGrid, flow, graded
from sciml.physics.suite.simple import Kovasznay
from sciml.physics.systems import System
from sciml.physics.systems.named_arguments import call


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


# --- elements ---------------------------------------------------------------------------------
def test_quadratic_elements_are_exact_for_squares_with_robin_sides() -> None:
    x, y = graded((0, 1, 3, 2), (1, 3, 2, 1)), graded((0, 1, 4, 1 / 3))
    grid = GradedGrid(x, y)
    u = 1 + grid.nodes[:, 0] ** 2 + 2 * grid.nodes[:, 1] ** 2  # Lap u = 6
    matrix, right = grid.stiffness(), grid.value.T @ (-6 * grid.weight)
    for axis, length in ((0, 3.0), (1, 1.0)):
        for end, slope in ((0, 0.0), (-1, 2 * (1 + axis) * length)):
            value, weight, along = grid.edge(axis, end)
            matrix = matrix + value.T @ value.multiply(weight[:, None])
            here = 0.0 if end == 0 else length
            both = (here, along) if axis == 0 else (along, here)
            right = right + value.T @ (weight * (slope + 1 + both[0] ** 2 + 2 * both[1] ** 2))
    np.testing.assert_allclose(splu(matrix.tocsc()).solve(right), u, rtol=1e-10)
    points = np.random.default_rng(0).uniform((0, 0), (3, 1), (20, 2))
    wanted = 1 + points[:, 0] ** 2 + 2 * points[:, 1] ** 2
    np.testing.assert_allclose(grid.at_points(points) @ u, wanted, rtol=1e-12)


def test_flow_elements_find_kovasznays_flow() -> None:
    x, y = np.linspace(-0.5, 1, 13), np.linspace(-0.5, 1.5, 17)
    velocity, pressure = GradedGrid(x, y), GradedGrid(x, y, order=1)
    a, b = velocity.nodes.T
    edge = np.flatnonzero((a == x[0]) | (a == x[-1]) | (b == y[0]) | (b == y[-1]))
    exact = Kovasznay().exact(*torch.from_numpy(velocity.nodes).unbind(1))
    given = [exact[k].numpy()[edge] for k in "uv"]
    u, v, p = flow(velocity, pressure, 0.05, edge, given, pinned=[0])
    wanted = Kovasznay().exact(*torch.from_numpy(pressure.nodes).unbind(1))["p"].numpy()
    assert relative(u, exact["u"].numpy()) < 1e-3
    assert relative(v, exact["v"].numpy()) < 3e-3
    assert relative(p - p.mean(), wanted - wanted.mean()) < 2e-2


def test_a_step_passes_on_what_enters_and_cells_left_out_have_no_nodes() -> None:
    velocity, _, (u, _, _) = stationary_flows.step(0.01, 6)
    x, y = velocity.nodes.T
    assert not ((x < 2) & (y > 1)).any()
    value, weight, _ = velocity.edge(0, -1)
    assert float(weight @ (value @ u)) == pytest.approx(2 / 3, rel=1e-6)


def test_the_cavity_is_symmetric_in_the_limit_of_no_inertia_and_pins_its_pressure() -> None:
    velocity, pressure, (u, _, p) = stationary_flows.cavity(1e3, 6)
    x = np.random.default_rng(0).uniform(size=(50, 2))
    mirrored = x * (-1, 1) + (1, 0)
    np.testing.assert_allclose(
        velocity.at_points(x) @ u, velocity.at_points(mirrored) @ u, rtol=1e-4, atol=1e-6
    )
    assert p[(pressure.nodes == 0).all(1)] == 0
    points, found = Cavity().reference(generator())
    assert min(float((points - points.new_tensor([c, 1.0])).norm(dim=1).min()) for c in (0, 1)) > (
        stationary_flows.NEAR
    )
    assert set(found) == {"u", "v", "p"}


def test_the_channel_carries_what_is_pushed_in() -> None:
    grid, _, (u, _, _) = channel.channel(6, 200)
    y = np.linspace(0, 1, 201)
    for k, t in ((7, 1.0), (20, 2.625)):
        profile = grid.at_points(np.stack([0 * y + 1, y], 1)) @ u[k]
        swing = sum(math.sin(n * math.pi * t) for n in (1, 3, 5))
        assert np.trapezoid(profile, y) == pytest.approx(2 / math.pi * swing, abs=1e-2)


# --- series -----------------------------------------------------------------------------------
def test_poisson_boltzmann_solves_its_equation_and_meets_its_data() -> None:
    assert poisson_boltzmann.series()[1] < 1e-7
    problem = PoissonBoltzmann2D()
    x, y = problem.sample(50, generator()).x.unbind(1)
    keep = (1 - x.abs() > 0.02) & (1 - y.abs() > 0.02)
    x, y, h = x[keep], y[keep], 1e-3
    middle = problem.exact(x, y)
    around = sum(problem.exact(x + h * a, y + h * b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    found = -(around - 4 * middle) / h**2 + 64 * middle
    wanted = poisson_boltzmann.source(x, y)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=3e-2)
    for name, value in (("outside", 0.2), ("disks", 1.0)):
        at = problem.every_condition[name].sample(problem, 40, generator()).x
        torch.testing.assert_close(
            problem.exact(*at.unbind(1)), torch.full((len(at),), value).double(), rtol=0, atol=1e-5
        )


def test_heat_with_holes_solves_its_equation_and_meets_its_data() -> None:
    assert heat_holes.misfit(complex(2, 3)) < 1e-4
    x = np.array([[1.0, 1.0], [4.0, 4.5], [2.0, 0.3], [-3.2, 0.6]])
    h, times = 4e-2, np.array([0.98, 1.0, 1.02])
    u = heat_holes.solution(x, times)
    steps = h * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    around = sum(heat_holes.solution(x + d, times[1:2])[:, 0] for d in steps)
    laplacian = (around - 4 * u[:, 1]) / h**2
    np.testing.assert_allclose((u[:, 2] - u[:, 0]) / 0.04, laplacian, rtol=2e-2)
    edge = np.array([[3.0, 3.0]])  # a large hole, whose normal out of the domain is +x
    u = [heat_holes.solution(edge - (k * h, 0), times[1:2])[0, 0] for k in range(3)]
    assert (3 * u[0] - 4 * u[1] + u[2]) / (2 * h) == pytest.approx(5 - u[0], rel=3e-3)


def test_chaos_agrees_with_another_integrator() -> None:
    n, cls = 192, KuramotoSivashinsky
    k = np.arange(n // 2 + 1)
    x = 2 * np.pi * np.arange(n) / n

    def rate(t, u):
        v = np.fft.rfft(u)
        linear = np.fft.irfft((cls.b * k**2 - cls.c * k**4) * v, n)
        return linear - cls.a * u * np.fft.irfft(1j * k * v, n)

    found = solve_ivp(rate, (0, 0.1), np.cos(x) * (1 + np.sin(x)), "BDF", rtol=1e-8, atol=1e-9)
    ours = patterns.chaos(0.1, 256, 4)[-1][: n // 2 + 1] * n / 256
    assert relative(np.fft.irfft(ours, n), found.y[:, -1]) < 1e-5


def test_burgers_equations_in_the_plane_agree_with_another_integrator() -> None:
    n, nu, final = 64, 0.02, 0.1
    waves = 2 * np.pi * np.fft.fftfreq(n, 1 / n)
    k = np.stack(np.meshgrid(waves, waves, indexing="ij"))
    places = np.arange(n) / n
    x, y = (torch.from_numpy(v.reshape(-1, 1)) for v in np.meshgrid(places, places, indexing="ij"))
    problem = Burgers2D(seed=2, viscosity=nu)
    start = problem.start(x, y)
    start = np.stack([start[name].numpy().reshape(n, n) for name in "uv"])

    def rate(t, w):
        w = w.reshape(2, n, n)
        spectrum = np.fft.fft2(w)
        slopes = np.fft.ifft2(1j * k[:, None] * spectrum).real  # axis, component
        diffusion = np.fft.ifft2(-(k**2).sum(0) * spectrum).real
        return (nu * diffusion - np.einsum("a...,ac...->c...", w, slopes)).ravel()

    found = solve_ivp(rate, (0, final), start.ravel(), "DOP853", rtol=1e-9, atol=1e-9)
    wanted = found.y[:, -1].reshape(2, n, n)
    assert relative(start, wanted) > 0.3  # there is something to find
    chosen = np.arange(3, n, 16)
    ours = burgers_plane.velocity(2, final, places[chosen], nu, 128)
    assert relative(ours, wanted[:, chosen[:, None], chosen]) < 1e-6


def test_burgers_equations_keep_their_mean_and_sums_are_exact_at_the_viscosity_said() -> None:
    drift = burgers_plane.start_waves(0)[3]
    places = (np.arange(64) + 0.25) / 64
    early = burgers_plane.velocity(0, 0.1, places, 0.01, 192)
    np.testing.assert_allclose(early.mean((1, 2)), drift, rtol=0, atol=1e-3)
    few, many = (burgers_plane.velocity(0, 0.1, places[::16], 1e-3, n) for n in (384, 500))
    np.testing.assert_allclose(few, many, rtol=0, atol=1e-10)


@pytest.mark.parametrize("system", [PoissonND(), HeatND()], ids=lambda s: type(s).__name__)
def test_exact_solutions_in_five_dimensions_leave_nothing(system: System) -> None:
    p = system.sample(40, generator())
    x = variables(p.x, lattice_of(system.needs["equations"]))
    columns = {v: x[:, k : k + 1] for k, v in enumerate(system.region.variables)}
    jet = call("exact", system.exact, columns)
    (value,) = system.equations(p, system.fields(p, jet)).values()
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-10)


# --- grids ------------------------------------------------------------------------------------
def test_what_flows_out_of_the_blocks_is_what_their_sources_make(tmp_path) -> None:
    problem = Poisson2DBlocks(seed=3)
    grid, u = problem.solved(4)
    out = 0.0
    for axis in (0, 1):
        for end in (0, -1):
            value, weight, _ = grid.edge(axis, end)
            out += float(weight @ (value @ u))
    c, d = problem.coefficients.sum((1, 2)).tolist()
    assert out == pytest.approx(16 * (c + d * 4 / math.pi**2), rel=1e-4)
    a, f = np.arange(1, 26).reshape(5, 5), np.arange(100.0)
    np.savetxt(tmp_path / "poisson_a_coef.dat", a)
    np.savetxt(tmp_path / "poisson_f_coef.dat", f)
    read = Poisson2DBlocks(tables=str(tmp_path))
    here = read.source(torch.tensor([-10 + 4.0 * 2 + 2]), torch.tensor([-10 + 4.0 * 3 + 2]))
    assert float(here) == pytest.approx((f[4 * 13] + f[4 * 13 + 3]) / a[2, 3], rel=1e-6)
    with pytest.raises(poisson_blocks.InvalidArgument, match="a folder with poisson_a_coef"):
        Poisson2DBlocks(tables=str(tmp_path / "none"))


def test_finite_volumes_around_balls_converge_and_balance() -> None:
    coarse, fine = ((10, 40, 20), (20, 80, 40))
    (x, u), (y, v) = (poisson3d_holes.solution(c) for c in (coarse, fine))
    whole = np.full(fine, np.nan)
    whole[tuple((y * fine).astype(int).T)] = v
    mean = whole.reshape(10, 2, 40, 2, 20, 2).mean((1, 3, 5))[tuple((x * coarse).astype(int).T)]
    there = ~np.isnan(mean)
    assert relative(u[there], mean[there]) < 4e-2
    # away from the balls the equation itself, by differences of another order
    i = tuple((y * fine).astype(int).T)
    inner = np.full(fine, np.nan)
    for axis, n in enumerate(fine):
        shifts = [np.roll(whole, s, axis) for s in (-2, -1, 1, 2)]
        second = (16 * (shifts[1] + shifts[2]) - shifts[0] - shifts[3] - 30 * whole) * n**2 / 12
        inner = second if axis == 0 else inner + second
    k2 = np.where(y[:, 2] < 0.5, 64, 100)
    residual = -inner[i] + k2 * v - poisson3d_holes.source(*y.T)
    margin = [
        (3 / n < c) & (c < 1 - 3 / n) & (abs(c - 0.5) > 3 / n)
        for c, n in zip(y.T, fine, strict=True)
    ]
    away = margin[0] & margin[1] & margin[2] & ~np.isnan(residual)
    wanted = poisson3d_holes.source(*y[away].T)
    assert np.linalg.norm(residual[away]) < 0.08 * np.linalg.norm(wanted)


def test_heat_with_a_rough_coefficient_settles_into_its_period() -> None:
    import scipy.sparse as sp

    cells = 32
    u = heat_square.varying(0, cells, 0.0125)[13:15]  # at 3.5 and 3.75
    n, x = cells - 1, np.arange(1, cells) / cells
    line = sp.diags([1.0, -2.0, 1.0], [-1, 0, 1], (n, n)) * cells**2
    laplace = sp.kron(line, sp.eye(n)) + sp.kron(sp.eye(n), line)
    i = np.rint(x * 255).astype(int)
    mass = 1 / heat_square.coefficient(0)[np.ix_(i, i)].ravel()
    source = 200 * mass * np.outer(np.sin(np.pi * x), np.sin(5 * np.pi * x)).ravel()
    wave = splu((1j * np.pi * sp.diags(mass) - laplace).tocsc()).solve(source.astype(complex))
    for value, t in zip(u, (3.5, 3.75), strict=True):
        assert relative(value.ravel(), (wave * np.exp(1j * np.pi * t)).imag) < 1e-3


def test_heat_over_a_long_time_agrees_with_another_integrator() -> None:
    n = 32
    k = np.arange(1, n)
    x, y = np.meshgrid(k / n, k / n, indexing="ij")
    decay = -1e-3 * np.pi**2 * (k[:, None] ** 2 + k**2)

    def rate(t, u):
        u = u.reshape(n - 1, n - 1)
        diffusion = idstn(decay * dstn(u, 1), 1)
        return (diffusion + 5 * np.sin(u * u) * heat_square.swing(x, y, t)).ravel()

    start = (np.sin(4 * np.pi * x) * np.sin(3 * np.pi * y)).ravel()
    found = solve_ivp(rate, (0, 1), start, "RK45", rtol=1e-6, atol=1e-8)
    assert relative(heat_square.long(1.0, n, 0.01)[-1].ravel(), found.y[:, -1]) < 2e-3
