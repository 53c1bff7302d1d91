"""Walk on stars in boxes of any dimension: closed forms, walk on spheres, the polygon's code."""

import math

import pytest
import torch
from scipy.integrate import quad

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.physics.geometry import Box, MixedBox, MixedPolygon, Polygon
from sciml.physics.walks.green import directions
from sciml.physics.walks.loop import Walks
from sciml.physics.walks.spheres import Dirichlet, WalkOnSpheres
from sciml.physics.walks.stars import Mixed, Stars, WalkOnStars, greens_function


def stream(step=0):
    return Streams(0, step).generator("walks")


def box(dim, walls=1):
    """A box whose last coordinates are narrower; its first `walls` faces of 2 d reflect."""
    low = -1.0 + 0.2 * torch.arange(dim, dtype=torch.float64)
    reflect = [face < walls for face in range(2 * dim)]
    return MixedBox(Box(low, torch.ones(dim, dtype=torch.float64)), reflect)


def bowl(x, i):
    return x.square().sum(0) + x[0] * x[-1] + x[1]


def bowl_flux(x, i, n):
    slope = 2 * x
    slope[0] += x[-1]
    slope[-1] += x[0]
    slope[1] += 1
    return (slope * n).sum(0)


def bowl_problem(dim):
    return Mixed(bowl, bowl_flux, lambda x, i: torch.full_like(x[0], -2.0 * dim))


def values(field, points):
    i = torch.arange(len(points)).repeat_interleave(points.shape[1])
    return field(points.double().permute(2, 0, 1).flatten(1), i).view(points.shape[:2])


@pytest.mark.parametrize(("dim", "walls"), [(2, 1), (2, 3), (3, 1), (3, 5), (4, 3)])
def test_mixed_problems_with_flux_and_source(dim, walls):
    domain = box(dim, walls)
    points = domain.sample_interior(6, stream(1), torch.float64)
    points[0, 0] = domain.box.low[0]  # a corner of reflecting faces, or a point of one
    points[0, 0, 1:] = 0.3
    estimate = WalkOnStars(4000, max_steps=3000)(domain, bowl_problem(dim), points, stream())
    error = (estimate.mean - values(bowl, points)).abs()
    assert (error < 4 * estimate.standard_error + 4e-3).all(), error / estimate.standard_error
    assert (estimate.truncated == 0).all()


@pytest.mark.parametrize(("dim", "walls"), [(2, 3), (3, 5), (5, 4)])
def test_no_step_changes_the_mean(dim, walls):
    domain, n = box(dim, walls), 20_000
    rule = Stars(domain, 1e-3 * domain.scale(), bowl_problem(dim))
    x, i = domain.columns(domain.sample_interior(n, stream(), torch.float64))
    walks, generator = Walks.start(x, i, 1), stream(1)
    rule.begin(walks)
    found = {False: [], True: []}
    for _ in range(8):
        r, moving = rule.reach(walks)
        keep = moving.nonzero()[:, 0]
        walks, r = walks.take(keep), r[keep]
        walks.total.zero_()
        before, wall = bowl(walks.x, walks.i), (walks.normal != 0).any(0)
        rule.step(walks, r, directions(len(keep), dim, generator, torch.float64), generator, None)
        change = walks.total + bowl(walks.x, walks.i) - before
        for kind in found:
            found[kind].append(change[wall == kind])
    for parts in found.values():
        change = torch.cat(parts)
        z = change.mean() / change.std() * math.sqrt(len(change))
        assert len(change) > 1000 and z.abs() < 4


def test_the_square_as_a_polygon():
    """Two pieces of code for one domain."""
    corners = Polygon([[-1.0, -0.8], [1.0, -0.8], [1.0, 1.0], [-1.0, 1.0]])
    one, other = box(2, 3), MixedPolygon(corners, lambda x, i: x[1] < 0.99)
    points = one.sample_interior(5, stream(2), torch.float64)
    a = WalkOnStars(4000)(one, bowl_problem(2), points, stream())
    b = WalkOnStars(4000)(other, bowl_problem(2), points, stream(1))
    assert ((a.mean - b.mean).abs() < 4 * (a.variance + b.variance).sqrt()).all()
    assert torch.allclose(a.steps, b.steps, rtol=0.06)


def test_without_flux_faces_are_planes_of_symmetry():
    domain = MixedBox(Box((0.0, -1.0, -1.0), (1.0, 1.0, 1.0)), lambda x, i: x[0] < 0.01)
    double = Box((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    points = torch.tensor([[[0.0, 0.3, 0.2], [0.6, -0.5, 0.7]]], dtype=torch.float64)

    def even(x, i):
        return torch.cos(2 * x[0]) + x[1] * x[2]

    a = WalkOnStars(10_000)(domain, Mixed(even, None, even), points, stream())
    b = WalkOnSpheres(10_000)(double, Dirichlet(even, even), points, stream(1))
    assert ((a.mean - b.mean).abs() < 4 * (a.variance + b.variance).sqrt() + 2e-3).all()


def test_batches_stay_apart():
    both = MixedBox(
        Box([[-1.0] * 3, [0.0] * 3], [[1.0] * 3, [2.0, 3.0, 2.0]]),
        [[True] + [False] * 5, [False, True, True, False, False, False]],
    )
    points = both.sample_interior(10, stream(), torch.float64)
    own = WalkOnStars(20)(both, Mixed(lambda x, i: i.to(x)), points, stream())
    assert torch.equal(own.mean, torch.tensor([[0.0] * 10, [1.0] * 10]).double())
    estimate = WalkOnStars(2000)(both, bowl_problem(3), points, stream())
    error = (estimate.mean - values(bowl, points)).abs()
    assert (error < 4.5 * estimate.standard_error + 5e-3).all()


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_points_of_walls_integrate(dim):
    """The mean of weight times a function against quadrature over the disk on one face."""
    domain, n = MixedBox(Box([-3.0] * dim, [3.0] * dim), [True] + [False] * (2 * dim - 1)), 100_000
    start, r = torch.zeros(dim, dtype=torch.float64), 1.0
    start[0] = -2.6
    x = start[:, None].expand(dim, n)
    i = torch.zeros(n, dtype=torch.int64)
    z, side, weight = domain.sample_near(x, i, torch.full((n,), r, dtype=torch.float64), stream())
    assert (side == 0).all() and (z[0] == -3).all()
    s = (z - x).norm(dim=0)
    assert s.max() <= r + 1e-12
    green = greens_function(s, torch.full_like(s, r), dim)
    sample = green * weight
    area = {2: 2.0, 3: 2 * math.pi, 4: 4 * math.pi}[dim]
    omega = {3: 4 * math.pi, 4: 2 * math.pi**2}.get(dim)

    def kernel(s):
        if dim == 2:
            return math.log(r / s) / (2 * math.pi)
        return (s ** (2 - dim) - r ** (2 - dim)) / ((dim - 2) * omega)

    exact = quad(
        lambda q: area * q ** (dim - 2) * kernel(math.hypot(q, 0.4)), 0, math.sqrt(1 - 0.16)
    )[0]
    assert abs(float(sample.mean()) - exact) < 4 * float(sample.std()) / math.sqrt(n)


def test_mistakes_are_named():
    with pytest.raises(InvalidArgument, match="up to a constant"):
        box(3, 6)
    with pytest.raises(InvalidArgument, match=r"shape \(4,\)"):
        MixedBox(Box((0.0,) * 3, (1.0,) * 3), [True] * 4)
    with pytest.raises(InvalidArgument, match="WalkOnStars"):
        point = torch.zeros(1, 1, 3)
        WalkOnSpheres(4)(box(3), Dirichlet(bowl), point, stream())
