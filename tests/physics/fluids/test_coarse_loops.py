"""Solvers in loops and their references: forces, transport, transfer and units."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.fluids import DiskWake, ForcedBurgers

F64 = torch.float64


def test_forces_are_waves_of_the_lengths_that_are_said():
    problem = ForcedBurgers(cells=16, ratio=2, warm_up=0)
    force = problem._force(3, torch.Generator().manual_seed(0))
    f = force(0.7)
    assert f.shape == (3, 2, 32, 32) and f.dtype == F64
    spectrum = torch.fft.fft2(f) / 32**2
    unit = 2 * math.pi / 32.0
    k = torch.fft.fftfreq(32, 1 / 32, dtype=F64) * unit
    length = (k[:, None] ** 2 + k**2).sqrt()
    there = spectrum.abs().amax((0, 1)) > 1e-12
    assert float(length[there].min()) >= 0.8 - 1e-9 and float(length[there].max()) <= 1.6 + 1e-9
    assert int(there.sum()) > 40
    # 20 waves a_j sin(...), a_j uniform in +-0.15: variance 20 0.15^2 / 3 / 2
    many = problem._force(200, torch.Generator().manual_seed(1))(0.0)
    assert float(many.square().mean()) == pytest.approx(20 * 0.15**2 / 6, rel=0.1)
    assert float(many.abs().max()) < 20 * 0.15

    # each turns with at most 0.4 a unit of time, one way or the other
    class One(ForcedBurgers):
        waves = 1

    turning, step = One(cells=16, ratio=2)._force(400, torch.Generator().manual_seed(2)), 1e-4
    first, later = (torch.fft.fft2(turning(t)).flatten(2).transpose(1, 2) for t in (0.0, step))
    at = first.abs().amax(2).argmax(1)  # the wave vector, or its opposite
    rows = torch.arange(400)
    rate = ((later[rows, at] / first[rows, at]).angle() / step).mean(1)
    size = rate.abs()
    assert float(size.max()) <= 0.4 + 1e-6
    assert float(size.mean()) == pytest.approx(0.2, abs=0.02)


def test_a_step_carries_spreads_and_pushes():
    problem = ForcedBurgers(cells=32, ratio=1, size=32.0, viscosity=0.2, dt=0.1)
    n, none = 32, torch.zeros(1, 2, 32, 32, dtype=F64)
    x = (torch.arange(n, dtype=F64) + 0.5)[:, None].expand(n, n)
    push = torch.stack([torch.full((n, n), 3.0, dtype=F64), torch.full((n, n), -1.0, dtype=F64)])
    rest = problem.step(none, push[None])
    torch.testing.assert_close(rest, 0.1 * push[None], rtol=1e-12, atol=0)
    # a wave across a constant stream: carried by u dt, damped by the discrete diffusion
    k = 2 * math.pi / 32
    state = torch.stack([torch.full((n, n), 2.0, dtype=F64), torch.cos(k * x)])[None]
    found = problem.step(state, none)
    damped = 1 - 0.2 * 0.1 * (2 - 2 * math.cos(k))
    wanted = damped * torch.cos(k * (x - 0.2))
    torch.testing.assert_close(found[0, 1], wanted, rtol=0, atol=5e-3)
    torch.testing.assert_close(found[0, 0], state[0, 0], rtol=1e-12, atol=0)
    # the same on a finer grid, which has the same side
    fine = torch.cos(2 * math.pi / 64 * (torch.arange(64, dtype=F64) + 0.5))[:, None].expand(64, 64)
    state = torch.stack([torch.full((64, 64), 2.0, dtype=F64), fine])[None]
    shift = torch.cos(k * ((torch.arange(64, dtype=F64) + 0.5) / 2 - 0.2))[:, None].expand(64, 64)
    found = problem.step(state, torch.zeros(1, 2, 64, 64, dtype=F64))
    torch.testing.assert_close(found[0, 1], damped * shift, rtol=0, atol=2e-3)


def test_the_reference_is_the_fine_solution_seen_on_the_coarse_grid():
    problem = ForcedBurgers(cells=8, ratio=2, warm_up=2, size=16.0)
    found = problem.reference(2, 3, seed=5)
    assert found["states"].shape == (2, 4, 2, 8, 8)
    assert found["external"].shape == (2, 3, 2, 8, 8)
    force = problem._force(2, torch.Generator().manual_seed(5))
    u, states, forces = torch.zeros(2, 2, 16, 16, dtype=F64), [], []
    for step in range(5):  # from rest; the first two steps are the warm-up
        f = force((step - 1) * 0.1)
        if step >= 2:
            states.append(u)
            forces.append(f)
        u = problem.step(u, f)
    states.append(u)

    def seen(fine):  # means of blocks of two by two
        return fine.reshape(2, 2, 8, 2, 8, 2).mean((3, 5))

    for name, fines in (("states", states), ("external", forces)):
        wanted = torch.stack([seen(f) for f in fines], 1)
        torch.testing.assert_close(found[name], wanted, rtol=1e-12, atol=1e-14)
    assert float(found["states"][:, 0].abs().max()) > 0


def test_settings_of_burgers_are_checked():
    with pytest.raises(InvalidArgument, match=r"viscosity dt / h\^2 = 0.256"):
        ForcedBurgers(cells=32, ratio=1, viscosity=2.56, dt=0.1)
    ForcedBurgers(cells=32, ratio=1, viscosity=2.5, dt=0.1)  # a quarter, the limit
    for bad in ({"cells": 7}, {"ratio": 0}, {"warm_up": -1}, {"dt": 0.0}):
        with pytest.raises(InvalidArgument):
            ForcedBurgers(**bad)
    ForcedBurgers(cells=8, ratio=1, warm_up=0)


def wake(**more):
    return DiskWake(cells=8, ratio=2, warm_up=1, **more)


def test_velocities_are_packed_without_loss_and_seen_by_means_of_faces():
    problem = wake()
    u, v = torch.randn(2, 17, 8, dtype=F64), torch.randn(2, 16, 9, dtype=F64)
    state = problem.packed((u, v))
    assert state.shape == (2, 2, 17, 9)
    assert float(state[:, 0, :, -1].abs().max()) == float(state[:, 1, -1].abs().max()) == 0.0
    for a, b in zip(problem.unpacked(state), (u, v), strict=True):
        assert torch.equal(a, b)
    fine = torch.randn(2, 33, 16, dtype=F64), torch.randn(2, 32, 17, dtype=F64)
    coarse = problem.down(fine)
    torch.testing.assert_close(
        coarse[0], fine[0][:, ::2].reshape(2, 17, 8, 2).mean(3), rtol=1e-13, atol=1e-15
    )
    torch.testing.assert_close(
        coarse[1], fine[1][:, :, ::2].reshape(2, 16, 2, 9).mean(2), rtol=1e-13, atol=1e-15
    )


def test_corrections_leave_inflow_sides_and_padding_alone():
    placed = wake().placed(torch.ones(1, 2, 17, 9, dtype=F64))[0]
    u, v = placed
    assert bool((u[0] == 0).all()) and bool((u[1:, :-1] == 1).all()) and bool((u[:, -1] == 0).all())
    assert bool((v[:, 0] == 0).all()) and bool((v[:, -1] == 0).all())
    assert bool((v[:-1, 1:-1] == 1).all()) and bool((v[-1] == 0).all())


def test_the_wake_has_reynolds_numbers_in_their_range_and_enters_with_speed_one():
    problem = wake(reynolds=(100.0, 600.0))
    found = problem.reference(6, 1, seed=0)
    states, nu = found["states"], found["external"]
    assert states.shape == (6, 2, 2, 17, 9) and nu.shape == (6, 1, 1, 17, 9)
    number = 0.2 / nu[:, 0, 0, 0, 0]
    assert bool(((number >= 100) & (number <= 600)).all()) and len(number.unique()) == 6
    share = torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=F64)
    torch.testing.assert_close(number, 100 * 6**share, rtol=1e-12, atol=0)  # log-uniform
    torch.testing.assert_close(
        states[:, :, 0, 0, :8], torch.ones(6, 2, 8, dtype=F64), rtol=1e-12, atol=0
    )
    # mass: through every section beside the disk what came in
    through = states[:, :, 0, [0, 1, 2, 6, 7, 8, 12, 16], :8].mean(-1)
    torch.testing.assert_close(through, torch.ones_like(through), rtol=0, atol=1e-6)
    side = states[:, 0, 1].sum((1, 2)).sign()
    assert len(side.unique()) == 2  # kicked up or down
    step = problem.step(states[:, 0], nu[:, 0])
    assert step.shape == states[:, 0].shape and bool(step.isfinite().all())
    assert float((step - states[:, 0]).abs().max()) > 1e-3


def test_settings_of_the_wake_are_checked():
    for bad in (
        {"cells": 7}, {"ratio": 0}, {"substeps": 0}, {"warm_up": -1}, {"rtol": 1.0}, {"rtol": 0.0},
        {"reynolds": (0.0, 1.0)}, {"reynolds": (2.0, 1.0)}, {"dt": 0.0},
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            DiskWake(**bad)
    assert DiskWake(reynolds=(5.0, 5.0)).least == DiskWake(reynolds=(5.0, 5.0)).largest == 5.0
