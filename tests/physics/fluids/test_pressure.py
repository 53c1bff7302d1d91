"""Pressure systems against the formulas, exact solutions and what a projection must do."""

import math

import numpy as np
import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.fluids import Cell, RandomDomains, pressure_system
from sciml.solvers.linear import FlexibleCG

TIGHT = FlexibleCG(rtol=1e-12, max_iter=5000)
SEALED = (Cell.SOLID, Cell.SOLID)
OPEN = (Cell.AIR, Cell.AIR)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def velocity(*shape: int, batch: int = 2) -> list[torch.Tensor]:
    faces = [[n + (i == a) for i, n in enumerate(shape)] for a in range(len(shape))]
    return [torch.randn(batch, *f, dtype=torch.float64) for f in faces]


def rows(cells, **settings):
    """Naive transcription of the stencil of section 7, one cell after the other; one problem."""
    d, shape = cells.dim(), cells.shape
    rho = settings.get("density", torch.ones(shape))
    phi, walls = settings.get("level_set"), settings.get("walls", [SEALED] * d)
    opening = settings.get("opening")
    h = settings.get("spacing", (1.0,) * d)
    n = cells.numel()
    a, b = np.zeros((n, n)), np.zeros(n)
    number = np.arange(n).reshape(shape)
    for c in np.ndindex(*shape):
        if cells[c] != Cell.FLUID:
            continue
        for axis in range(d):
            for side in (0, 1):
                nb = list(c)
                nb[axis] += 2 * side - 1
                face = list(c)
                face[axis] += side
                inside = 0 <= nb[axis] < shape[axis]
                kind = cells[tuple(nb)] if inside else walls[axis][side]
                share = 1.0 if opening is None else float(opening[axis][tuple(face)])
                w = share * (min(h) / h[axis]) ** 2
                if kind == Cell.SOLID:
                    continue
                if kind == Cell.FLUID:
                    w /= (rho[c] + rho[tuple(nb)]) / 2
                    a[number[c], number[tuple(nb)]] -= w
                    a[number[c], number[c]] += w
                else:
                    theta = 1.0
                    if phi is not None and inside:
                        theta = max(0.01, float(phi[c] / (phi[c] - phi[tuple(nb)])))
                    w = w / rho[c] / theta
                    a[number[c], number[c]] += w
                    if inside and "surface" in settings:
                        b[number[c]] += w * settings["surface"][tuple(nb)]
    return a, b


@pytest.mark.parametrize("shape", [(7, 6), (5, 4, 6)])
def test_matrices_equal_a_naive_transcription(shape):
    cells = torch.randint(0, 3, (1, *shape))
    cells = torch.where(torch.rand(1, *shape) < 0.6, 0, cells)
    phi = torch.where(cells == Cell.AIR, 1.0, -1.0) * (torch.rand(1, *shape) + 1e-3)
    faces = [[n + (i == a) for i, n in enumerate(shape)] for a in range(len(shape))]
    opening = [torch.rand(1, *f) for f in faces]
    settings = {
        "density": torch.rand(1, *shape).double() + 0.1,
        "level_set": phi.double(),
        "surface": torch.randn(1, *shape).double(),
        "opening": [o.double() for o in opening],
    }
    walls = [(Cell.AIR, Cell.SOLID), (Cell.SOLID, Cell.AIR), (Cell.AIR, Cell.AIR)][: len(shape)]
    h = (1.0, 0.5, 0.25)[: len(shape)]
    made = pressure_system(cells, walls=walls, spacing=h, **settings)
    one = {k: [x[0] for x in v] if isinstance(v, list) else v[0] for k, v in settings.items()}
    want, known = rows(cells[0], walls=walls, spacing=h, **one)
    kept = made.stencil.unknown[0].flatten().numpy()
    got = made.stencil.check().to_csr().toarray()
    assert np.abs(got - want[np.ix_(kept, kept)]).max() < 1e-12 * np.abs(want).max()
    assert np.abs(want[~kept]).max() == 0  # cells that were dropped were joined to nothing
    assert np.abs(made.known[0].flatten().numpy() - known).max() < 1e-12 * np.abs(known).max()


def test_constant_coefficients_give_the_textbook_stencil():
    for shape, diagonal in (((6, 6), 4), ((6, 6, 6), 6)):
        cells = torch.zeros(1, *shape, dtype=torch.long)
        s = pressure_system(cells, walls=[OPEN] * len(shape)).stencil
        assert torch.equal(s.diagonal, torch.full((1, *shape), float(diagonal)).double())
        assert all(torch.equal(w, torch.ones_like(w)) for w in s.faces)


CASES = {
    "2-D": ((12, 9), {}),
    "3-D": ((7, 6, 5), {}),
    "spacing": ((8, 10), {"spacing": (0.3, 0.1)}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_net_flux_after_a_projection_is_the_residual(case):
    shape, more = CASES[case]
    cells = torch.where(torch.rand(2, *shape) < 0.8, 0, torch.randint(1, 3, (2, *shape)))
    faces = [[n + (i == a) for i, n in enumerate(shape)] for a in range(len(shape))]
    made = pressure_system(
        cells,
        walls=[(Cell.SOLID, Cell.AIR)] * len(shape),
        opening=[torch.rand(2, *f) for f in faces],
        density=torch.rand(2, *shape) + 0.1,
        level_set=torch.where(cells == Cell.AIR, 1.0, -1.0) * torch.rand(2, *shape),
        surface=torch.randn(2, *shape),
        **more,
    )
    u, wall, dt = velocity(*shape), velocity(*shape), 0.25
    p = torch.randn(2, *shape, dtype=torch.float64)
    p = torch.where(made.stencil.unknown, p, 0.0)
    residual = made.right_hand_side(u, dt, wall) - made.stencil.times(p)
    new = made.corrected(u, p, dt, wall)
    want = -dt / made.scale * residual
    assert torch.allclose(made.divergence(new, wall), want, rtol=0, atol=1e-12 * want.abs().max())
    # faces of solid cells move with them
    solid = cells == Cell.SOLID
    assert torch.equal(new[0][:, 1:][solid], wall[0][:, 1:][solid])


def test_a_projection_removes_the_divergence_to_the_tolerance():
    family = RandomDomains(sealed=0.3, pockets=0.5, coefficients=("log_normal", "anisotropic"))
    made = family.draw(6, (20, 16), torch.Generator().manual_seed(3))
    u = velocity(20, 16, batch=6)
    new, found = made.project(
        u, 0.1, linear=FlexibleCG(rtol=1e-10, max_iter=5000), on_failure="raise"
    )
    before = made.divergence(u).flatten(1)
    after = made.divergence(new)
    # walls at rest leave nothing of the mean of a closed room; what is free keeps none
    worst = made.stencil.project(before.reshape(after.shape)).flatten(1).norm(dim=1)
    left = made.stencil.project(after).flatten(1).norm(dim=1)
    assert bool((left <= 1e-10 * worst).all()) and bool(made.stencil.singular.any())
    again, _ = made.project(new, 0.1, linear=TIGHT, on_failure="raise")
    moved = max((x - y).abs().max() for x, y in zip(again, new, strict=True))
    assert moved < 1e-8


def test_closed_rooms_have_no_net_flux_and_are_solved_exactly():
    cells = torch.ones(1, 10, 10, dtype=torch.long)
    cells[:, 1:9, 1:9] = 0
    cells[:, 5, 1:9] = 1  # two rooms
    made = pressure_system(cells)
    label = made.stencil._components[0]
    assert sorted(set(label.flatten().tolist())) == [0, 1, 2]
    u = velocity(10, 10, batch=1)
    new, _ = made.project(u, 1.0, linear=TIGHT, on_failure="raise")
    assert made.divergence(new).abs().max() < 1e-11


@pytest.mark.parametrize("shape", [(5, 12), (4, 12, 3)])
@pytest.mark.parametrize("depth", [7.5, 7.2, 7.9])
def test_a_liquid_at_rest_stays_at_rest(shape, depth):
    """Gravity is balanced by p = rho g (surface - y), which ghost fluid reproduces exactly."""
    y = torch.arange(12).double() + 0.5
    y = y.reshape(1, 1, 12, *(1,) * (len(shape) - 2)).expand(1, *shape)
    phi = y - depth
    cells = torch.where(phi < 0, 0, 2)
    made = pressure_system(cells, level_set=phi, density=torch.full((1, *shape), 2.5))
    dt, g = 0.1, 9.81
    u = [torch.zeros_like(v) for v in velocity(*shape, batch=1)]
    u[1] = u[1] - dt * g
    new, found = made.project(u, dt, linear=TIGHT, on_failure="raise")
    want = torch.where(phi < 0, 2.5 * g * (depth - y), 0.0)
    assert torch.allclose(found.value, want, rtol=0, atol=1e-9)
    wet = made.mobility[1] > 0
    assert new[1][wet].abs().max() < 1e-10 and new[0].abs().max() < 1e-10


def test_pressure_converges_with_the_square_of_the_width():
    """-Lap p = f with p = sin sin on a box; fixed values stand at the centres of cells beyond."""
    errors = []
    for n in (7, 15, 31):
        x = torch.arange(1, n + 1).double() / (n + 1)
        exact = torch.sin(math.pi * x)[:, None] * torch.sin(2 * math.pi * x)
        s = pressure_system(torch.zeros(1, n, n, dtype=torch.long), walls=[OPEN] * 2).stencil
        b = 5 * math.pi**2 * exact[None] / (n + 1) ** 2
        got = s.solve(b, linear=TIGHT, on_failure="raise").value
        errors.append(float((got - exact).abs().max()))
    assert 3.7 < errors[0] / errors[1] < 4.3 and 3.8 < errors[1] / errors[2] < 4.2


def test_moving_walls_push_the_fluid():
    """A piston: one wall moves in, the other out; the fluid moves with them as a block."""
    made = pressure_system(torch.zeros(1, 6, 4, dtype=torch.long))
    u, wall = (tuple(torch.zeros_like(v) for v in velocity(6, 4, batch=1)) for _ in range(2))
    wall[0][:, 0], wall[0][:, -1] = 1.5, 1.5
    new, _ = made.project(u, 0.1, linear=TIGHT, on_failure="raise", solid=wall)
    assert torch.allclose(new[0], torch.full_like(new[0], 1.5), rtol=0, atol=1e-11)
    assert new[1].abs().max() < 1e-11


def test_bad_arguments_are_refused():
    cells = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(InvalidType, match="cells is a tensor of float32"):
        pressure_system(cells.float())
    with pytest.raises(InvalidArgument, match="from 0 to 7"):
        pressure_system(cells.index_fill(1, torch.tensor([2]), 7))
    with pytest.raises(InvalidArgument, match="density"):
        pressure_system(cells, density=torch.zeros(1, 4, 4))
    with pytest.raises(InvalidArgument, match=r"opening\[0\]"):
        pressure_system(cells, opening=[torch.ones(1, 4, 4), torch.ones(1, 4, 5)])
    with pytest.raises(InvalidArgument, match="spacing"):
        pressure_system(cells, spacing=(1.0, 0.0))
    made = pressure_system(cells)
    with pytest.raises(InvalidArgument, match="velocity with components"):
        made.right_hand_side([torch.zeros(1, 4, 4)] * 2, 0.1)
    with pytest.raises(InvalidArgument, match="dt=0"):
        made.right_hand_side(velocity(4, 4, batch=1), 0.0)
