"""Random domains against shapes drawn by hand: bodies, rooms, surfaces, walls, their shares."""

import math

import pytest
import torch

from sciml.physics.fluids import RandomDomains
from sciml.physics.fluids.flow_domains import _Bodies, _Draw

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def bodies(most=1, shape=(64, 48), count=40, room=None, seed=1):
    draw = _Draw(count, shape, seeded(seed))
    room = torch.zeros(count, dtype=torch.bool) if room is None else room
    return draw, _Bodies(draw, most, room)


@pytest.mark.parametrize("shape", [(64, 48), (24, 20, 16)])
def test_bodies_are_turned_ellipses_and_boxes(shape):
    draw, made = bodies(shape=shape, count=30)
    (body,) = made.bodies
    side = max(shape)
    axes = [(torch.arange(n, dtype=F64) + 0.5) / side for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    distance = made.centre().reshape(30, -1)
    seen = set()
    for k in range(30):
        if not bool(body["there"].flatten()[k]):
            assert bool((distance[k] == 1e3).all())
            continue
        angle = float(body["turn"].flatten()[k])
        radii = torch.stack([r.flatten()[k] for r in body["radius"]])
        centre = torch.stack([c.flatten()[k] for c in body["centre"]])
        local = grid - centre
        # turned by `angle` in the plane of the first two axes
        turn = torch.tensor([[math.cos(angle), math.sin(angle)],
                             [-math.sin(angle), math.cos(angle)]], dtype=F64)  # fmt: skip
        local = torch.cat([local[:, :2] @ turn.T, local[:, 2:]], 1)
        box = bool(body["box"].flatten()[k])
        level = (local.abs() - radii).amax(1) if box else (local / radii).norm(dim=1) - 1
        sure = level.abs() > 1e-9
        assert torch.equal((distance[k] < 0)[sure], (level < 0)[sure])
        if box:  # inside, and along a face, the distance to it in cells
            inner = level < 0
            torch.testing.assert_close(
                distance[k][inner], side * level[inner], rtol=1e-9, atol=1e-9
            )
        seen.add(box)
        assert bool(((radii >= 0.04) & (radii <= 0.16)).all()) and 0 <= angle <= math.pi
        extent = torch.tensor([n / side for n in shape], dtype=F64)
        assert bool(((centre >= 0.05 * extent) & (centre <= 0.95 * extent)).all())
    assert seen == {True, False}


def test_faces_lie_between_the_centres():
    draw, made = bodies(shape=(16, 12), count=4)
    for axis in (0, 1):
        x = draw.axis(axis, axis).flatten()
        assert len(x) == (17, 13)[axis] and float(x[0]) == 0.0
        torch.testing.assert_close(
            (x[1:] + x[:-1]) / 2, draw.axis(axis).flatten(), rtol=0, atol=1e-15
        )
        other = 1 - axis
        assert draw.axis(other, axis).numel() == (16, 12)[other]
        assert made.faces(axis).shape == ((4, 17, 12), (4, 16, 13))[axis]


def test_a_room_is_a_shell_of_three_cells():
    count, n = 8, 64
    draw, made = bodies(0, (n, n), count, torch.ones(count, dtype=torch.bool))
    solid = made.centre() < 0
    for k in range(count):
        half = float(made.room["half"].flatten()[k]) * n
        assert 0.12 * n <= half <= 0.2 * n
        row = solid[k].any(1).nonzero().flatten()
        assert float(row[-1] - row[0] + 1) == pytest.approx(2 * half + 3, abs=1.01)
        through = solid[k][int(row.float().mean())]
        walls = through.int().diff().abs().sum()
        assert int(walls) == 4  # in, out, in, out: two walls and a room between them
        assert int(through.sum()) in (5, 6, 7)
    _, none = bodies(0, (n, n), count)
    assert not bool((none.centre() < 0).any())


def test_surfaces_are_wavy_and_wet_below():
    family = RandomDomains(bodies=0, surface=1.0)
    draw = _Draw(20, (48, 48), seeded(2))
    level = family._surface(draw, torch.zeros(20, dtype=torch.bool))
    height = (level < 0).double().mean(2)  # share of every column that is liquid
    assert bool((level.diff(dim=2) > 0).all())  # upwards along axis 1
    torch.testing.assert_close(level.diff(dim=2), torch.ones(20, 48, 47, dtype=F64), rtol=1e-9,
                               atol=0)  # fmt: skip
    mean = height.mean(1)
    assert float(mean.min()) > 0.33 and float(mean.max()) < 0.82 and float(mean.std()) > 0.05
    ripple = (height - mean[:, None]).abs().amax(1)
    assert 0.01 < float(ripple.mean()) < 0.2
    sealed = family._surface(_Draw(20, (8, 8), seeded(2)), torch.ones(20, dtype=torch.bool))
    assert bool((sealed < 0).all())  # no surface where there is no air


def test_ends_are_open_in_their_share_and_the_top_always():
    family = RandomDomains(open_sides=0.3)
    count = 4000
    draw = _Draw(count, (4, 4), seeded(3))
    sealed = draw.coin(0.25)
    assert float(sealed.double().mean()) == pytest.approx(0.25, abs=0.03)
    ends = family._walls(draw, sealed)
    from sciml.physics.fluids import Cell

    opened = [[(end == int(Cell.AIR)).double() for end in pair] for pair in ends]
    assert all(float(end[sealed].max()) == 0 for pair in opened for end in pair)
    assert float(opened[1][1][~sealed].min()) == 1
    for a, b in ((0, 0), (0, 1), (1, 0)):
        assert float(opened[a][b][~sealed].mean()) == pytest.approx(0.3, abs=0.03)


def test_gaussian_fields_have_unit_variance_and_their_length():
    draw = _Draw(200, (64, 64), seeded(4))
    length = torch.full((200, 1, 1), 0.1, dtype=F64)
    field = draw.gaussian_field(length)
    torch.testing.assert_close(
        field.square().mean((1, 2)), torch.ones(200, dtype=F64), rtol=1e-9, atol=0
    )
    assert float(field.mean((1, 2)).abs().max()) < 1e-12
    # white noise damped by exp(-(2 pi k l)^2 / 8): correlation exp(-(r / l)^2) at distance r
    for cells in (2, 4, 6):
        r = cells / 64
        found = float((field * field.roll(cells, 1)).mean())
        assert found == pytest.approx(math.exp(-((r / 0.1) ** 2)), abs=0.08)


def test_whole_cells_and_cut_ones():
    whole = RandomDomains(cut=0.0, surface=0.0).draw(6, (24, 24), seeded(5)).stencil
    cut = RandomDomains(cut=1.0, surface=0.0).draw(6, (24, 24), seeded(5)).stencil
    for faces, broken in ((whole.faces, False), (cut.faces, True)):
        parts = torch.cat([w.flatten() for w in faces])
        between = (parts > 1e-9) & (parts < 1 - 1e-9)
        assert bool(between.any()) == broken
