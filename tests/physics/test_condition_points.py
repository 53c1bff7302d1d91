"""Where conditions of a system are looked at, and what they compare there."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain import accepted
from sciml.physics.systems import Initial, Interval, On, Rectangle, Same, System, Time
from sciml.physics.systems.named_arguments import known_values

PI = math.pi


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Ring(System):
    """A function on a strip whose ends meet."""

    domain = Rectangle((-1, 0), (3, 1)) * Time(0, 2)
    conditions = {
        "ends": Same("x", u=1, weight=3.0, points=7),
        "start": Initial(u=lambda x: torch.sin(PI * x / 2), u_t=2.0),
        "floor": On(domain.bottom, u_y=1.5, points=9),
    }

    def residual(self, u):
        """Return something."""
        return u.t - u.xx


def fields(system, p, function):
    """Return what conditions read of a function of the coordinates."""
    x = p.x.clone().requires_grad_()

    def read(output):
        def derivative(index):
            found = function(*x.unbind(1))
            for column, count in enumerate(index):
                for _ in range(count):
                    (every,) = torch.autograd.grad(found.sum(), x, create_graph=True)
                    found = every[:, column]
            return found

        return derivative

    return known_values(system, p, read)


def test_pairs_are_opposite_points_and_differ_by_what_the_function_does():
    system = Ring()
    ends = system.terms["ends"]
    assert (ends.weight, ends.points) == (3.0, 7)
    p = ends.sample(system, 7, generator())
    low, high = p.x.chunk(2)
    assert p.x.shape == (14, 3)
    assert bool((low[:, 0] == -1).all()) and bool((high[:, 0] == 3).all())
    assert torch.equal(low[:, 1:], high[:, 1:]) and len(low[:, 1].unique()) == 7
    found = ends.residuals(system, "ends", p, fields(system, p, lambda x, y, t: x**2 * (1 + y) + t))
    assert set(found) == {"u", "u_x"}
    torch.testing.assert_close(found["u"], 8 * (1 + low[:, 1]), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["u_x"], 8 * (1 + low[:, 1]), rtol=1e-12, atol=0)
    wave = fields(system, p, lambda x, y, t: torch.sin(PI * (x + y) / 2) * t)
    for value in ends.residuals(system, "ends", p, wave).values():
        torch.testing.assert_close(value, 0 * value, rtol=0, atol=1e-14)


def test_the_start_and_a_side_compare_values_and_slopes():
    system = Ring()
    start = system.terms["start"]
    p = start.sample(system, 11, generator())
    assert p.x.shape == (11, 3) and bool((p.x[:, 2] == 0).all())
    known = fields(system, p, lambda x, y, t: x * y + 5 * t)
    found = start.residuals(system, "start", p, known)
    x, y = p.x[:, 0], p.x[:, 1]
    torch.testing.assert_close(found["u"], x * y - torch.sin(PI * x / 2), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found["u_t"], torch.full_like(x, 3.0), rtol=1e-12, atol=0)
    floor = system.terms["floor"]
    p = floor.sample(system, 9, generator())
    assert bool((p.x[:, 1] == 0).all()) and bool(((p.x[:, 2] >= 0) & (p.x[:, 2] <= 2)).all())
    assert torch.equal(p.normals, torch.tensor([[0.0, -1.0]]).double().expand(9, 2))
    found = floor.residuals(system, "floor", p, fields(system, p, lambda x, y, t: x * y + 5 * t))
    torch.testing.assert_close(found["u_y"], p.x[:, 0] - 1.5, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weight", [-1.0, math.inf, "2", math.nan])
def test_weights_that_cannot_be_are_refused(weight):
    with pytest.raises(InvalidArgument, match="a condition with weight"):
        Same("x", u=0, weight=weight)
    assert Same("x", u=0, weight=0.0).weight == 0.0


@pytest.mark.parametrize("points", [0, -3, 1.5])
def test_numbers_of_points_that_cannot_be_are_refused(points):
    with pytest.raises(InvalidArgument, match="a condition with points"):
        On(Interval(0, 1).left, u=0, points=points)
    assert On(Interval(0, 1).left, u=0, points=1).points == 1


def test_accepted_rows_are_the_first_of_each_domain():
    """Candidates 0, 1, 2, ...: the first domain takes every third, the other one all."""
    drawn = []

    def draw(m):
        first = sum(drawn)
        drawn.append(m)
        rows = torch.arange(first, first + m).double().expand(2, m)[..., None]
        return rows, torch.stack([rows[0, :, 0] % 3 == 0, rows[1, :, 0] >= 0])

    rows, share = accepted(20, draw)
    assert rows[0, :, 0].tolist() == list(range(0, 60, 3))
    assert rows[1, :, 0].tolist() == list(range(20))
    assert share[1] == 1.0 and float(share[0]) == pytest.approx(1 / 3, abs=0.01)
    assert drawn[0] == 56 and sum(drawn) >= 60

    def hardly(m):
        ok = torch.zeros(2, m, dtype=torch.bool)
        ok[0] = True
        ok[1, 0] = m < 40  # one of the very first
        return torch.zeros(2, m, 1), ok

    with pytest.raises(InvalidArgument, match="of the candidates are accepted") as caught:
        accepted(8, hardly)
    assert float(str(caught.value).split()[3]) < 0.05  # of the second domain, the thin one
