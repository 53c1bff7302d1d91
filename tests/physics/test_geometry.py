"""Domains against brute force: distance, projection, sampling, and that instances stay apart."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.geometry import (
    Annulus,
    Ball,
    Box,
    Ellipse,
    Polygon,
    SDFGrid,
    Star,
    Tabulated,
    difference,
    intersection,
    l_shape,
    mask_domain,
    star_family,
    union,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def triangle():
    corners = torch.tensor([[[0.0, 0.0], [2.0, 0.3], [0.5, 1.5]], [[0, 0], [0, 1.0], [-2, 0]]])
    return Polygon(corners)


STARS = Star([[0.2, -0.15], [-0.1, 0.2]], sine=[[0.0, 0.1], [0.05, 0.0]], center=(0.3, -0.2))
# B = 2 of each: the domain, and whether its level is the exact signed distance
DOMAINS = {
    "ball": (Ball([1.0, 0.5], [[0.0, 0.0], [1.0, 2.0]]), True),
    "ball3": (Ball([1.0, 2.0], (0.1, 0.2, 0.3)), True),
    "ball5": (Ball([1.0, 2.0], (0.0,) * 5), True),
    "box": (Box([[-1.0, -2.0], [0.0, 0.0]], [[1.0, 0.5], [3.0, 1.0]]), True),
    "box3": (Box([[-1.0, -2.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 0.5, 0.7], [3.0, 1.0, 2.0]]), True),
    "annulus": (Annulus([0.5, 0.2], [1.0, 1.5], (0.4, 0.0)), True),
    "shell": (Annulus([0.5, 0.2], 1.0, (0.0, 0.0, 1.0)), True),
    "ellipse": (Ellipse([[1.0, 0.4], [0.5, 1.5]], (0.2, 0.1), [0.3, -1.0]), False),
    "star": (STARS, False),
    "triangle": (triangle(), True),
    "l_shape": (l_shape([1.0, 2.0], [0.5, 0.3]), True),
    "union": (union(Ball([1.0, 0.5]), Ball([0.7, 0.9], (0.8, 0.0))), False),
    "intersection": (intersection(Ball([1.0, 0.8]), Box((-0.5, -0.6), (1.2, 0.9))), False),
    "difference": (difference(Box(*[[[s, s]] * 2 for s in (-1.0, 1.0)]), Ball([0.5, 0.3])), False),
    "grid": (SDFGrid.of(STARS, 65), False),
    "grid3": (SDFGrid.of(Ball([1.0, 0.8], (0.0, 0.0, 0.2)), 25), False),
    "tabulated": (Tabulated(STARS, 129), False),
}
GRIDS = ("grid", "grid3")


@pytest.fixture(params=DOMAINS)
def named(request):
    return request.param, *DOMAINS[request.param]


def around(domain, n=400, seed=1):
    """Return points in and around each domain, (2, n, d)."""
    low, high = domain.bounds()
    u = torch.rand(2, n, domain.dim, generator=generator(seed), dtype=torch.float64)
    return low[:, None] + (1.4 * u - 0.2) * (high - low)[:, None]


def brute_force(domain, points, n=20_000):
    """Return distances to the closest of n boundary samples, and how far these may be apart."""
    on = domain.sample_boundary(n, generator(2), torch.float64)
    area = on.weight.sum(1)
    spacing = (20 * area / n) ** (1 / (domain.dim - 1))
    if domain.dim == 2:
        spacing = 8 * area / n
    return torch.cdist(points, on.points).amin(2), spacing[:, None]


def test_signed_distance_matches_brute_force(named):
    name, domain, exact = named
    if domain.dim > 3:
        pytest.skip("samples are too far apart")
    points = around(domain)
    level = domain.level(*domain.columns(points)).view(2, -1)
    distance, spacing = brute_force(domain, points)
    # a sample lies within `spacing` of the closest point: distance - slack <= true <= distance
    slack = torch.hypot(distance, spacing) - distance + spacing**2 + 1e-9
    assert (level.abs() <= distance + 1e-6).all()
    if name in ("union", "intersection", "difference", "grid3", "grid"):
        return
    signed = domain.signed_distance(points)
    assert (signed.abs() <= distance + 1e-6).all()
    assert (signed.abs() >= distance - torch.maximum(slack, spacing)).all()
    assert torch.equal(signed < 0, level < 0)
    if exact:
        assert torch.allclose(signed, level, atol=1e-12, rtol=1e-12)


def test_the_ball_of_a_walk_stays_inside(named):
    _, domain, _ = named
    points = domain.sample_interior(300, generator(3), torch.float64)
    x, i = domain.columns(points)
    r = domain.gap(x, i)
    for seed in range(8):
        out = torch.randn(x.shape, generator=generator(seed), dtype=torch.float64)
        out /= out.norm(dim=0)
        edge = x + 0.999 * r.clamp_min(0) * out
        assert (domain.level(edge, i) < 1e-9).all()


def test_projection_lands_on_the_boundary_and_normals_point_outward(named):
    name, domain, _ = named
    on = domain.sample_boundary(300, generator(4), torch.float64)
    h = 1e-3
    assert torch.allclose(
        on.normals.norm(dim=2), torch.ones(2, 300, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    level = domain.level(*domain.columns(on.points))
    assert level.abs().max() < (1e-5 if name in GRIDS else 1e-9)
    # all but those within h of a corner
    assert domain.inside(on.points - h * on.normals).double().mean() > 0.98
    assert domain.inside(on.points + h * on.normals).double().mean() < 0.02
    for step in (-h, h):
        start = on.points + step * on.normals
        back = domain.land(*domain.columns(start))
        back = back.view(domain.dim, 2, -1).permute(1, 2, 0)
        far = (back - on.points).norm(dim=2) > (h / 10 if name in GRIDS else 1e-5)
        assert far.double().mean() < 0.02
        assert ((back - start).norm(dim=2) < 2 * h).all()


def test_boundary_weights_obey_the_divergence_theorem(named):
    name, domain, _ = named
    n = 20_000
    on = domain.sample_boundary(n, generator(5), torch.float64)
    low, high = domain.bounds()
    center = ((low + high) / 2)[:, None]
    u = torch.rand(2, n, domain.dim, generator=generator(6), dtype=torch.float64)
    share = domain.inside(low[:, None] + u * (high - low)[:, None]).double().mean(1)
    box = (high - low).prod(1)
    volume, error = share * box, box * (share * (1 - share) / n).sqrt()
    flux = on.weight * ((on.points - center) * on.normals).sum(2) / domain.dim
    total, spread = flux.sum(1), flux.std(1) * math.sqrt(n)
    # grids and combinations estimate the area itself, with about the error of a coin
    area = 2 * total / math.sqrt(n) if name not in ("ball", "box") else 0
    assert ((total - volume).abs() < 4 * (error + spread + area)).all()
    balance = (on.weight[..., None] * on.normals).sum(1)
    assert (balance.abs() < 4 * (on.weight.sum(1) / math.sqrt(n))[:, None]).all()


AREAS = {
    "ball": [2 * math.pi, math.pi],
    "ball3": [4 * math.pi, 16 * math.pi],
    "ball5": [8 * math.pi**2 / 3, 16 * 8 * math.pi**2 / 3],
    "box": [9.0, 8.0],
    "box3": [2 * (5.0 + 1.4 + 1.75), 2 * (3.0 + 6.0 + 2.0)],
    "annulus": [3 * math.pi, 3.4 * math.pi],
    "shell": [5 * math.pi, 4.16 * math.pi],
    "l_shape": [8.0, 16.0],
}


@pytest.mark.parametrize("name", AREAS)
def test_areas_of_boundaries(name):
    on = DOMAINS[name][0].sample_boundary(10, generator(), torch.float64)
    assert torch.allclose(
        on.weight.sum(1), torch.tensor(AREAS[name], dtype=torch.float64), rtol=1e-12, atol=1e-9
    )


def test_area_of_a_grid_and_length_of_an_ellipse():
    on = DOMAINS["grid3"][0].sample_boundary(20_000, generator(), torch.float64)
    ratio = on.weight.sum(1) / (4 * math.pi * torch.tensor([1.0, 0.64]))
    assert ((ratio - 1).abs() < 0.02).all()
    # the ellipse with half axes 1, 0.4 has the perimeter 4 E(m), m = 1 - 0.16
    from scipy.special import ellipe

    on = DOMAINS["ellipse"][0].sample_boundary(10, generator(), torch.float64)
    assert abs(float(on.weight[0].sum()) / (4 * ellipe(1 - 0.16)) - 1) < 1e-6


def test_boundary_samples_are_uniform_in_arc_length():
    ellipse = Ellipse((1.0, 0.25))
    n = 40_000
    on = ellipse.sample_boundary(n, generator(), torch.float64).points[0]
    t = torch.atan2(on[:, 1] / 0.25, on[:, 0])
    # the share with |y| > 0.2, in arc length by fine quadrature
    fine = torch.linspace(-math.pi, math.pi, 200_001, dtype=torch.float64)
    speed = torch.hypot(fine.sin(), 0.25 * fine.cos())
    expected = float(speed[fine.sin().abs() > 0.8].sum() / speed.sum())
    share = float((t.sin().abs() > 0.8).double().mean())
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def test_interior_samples_are_uniform(named):
    _, domain, _ = named
    n = 20_000
    points = domain.sample_interior(n, generator(7), torch.float64)
    assert domain.inside(points).all()
    # against rejection by hand from a wider box: mean of every coordinate and of its square
    wide = around(domain, 3 * n, seed=8) if domain.dim < 5 else around(domain, 30 * n, seed=8)
    inside = domain.inside(wide)
    for b in range(2):
        for power in (1, 2):
            mine, other = points[b] ** power, wide[b][inside[b]] ** power
            error = (mine.var(0) / n + other.var(0) / len(other)).sqrt()
            assert ((mine.mean(0) - other.mean(0)).abs() < 4.5 * error).all()


def test_instances_stay_apart(named):
    _, domain, _ = named
    points = around(domain)
    both = domain.level(*domain.columns(points)).view(2, -1)
    landed = domain.project(points)
    for b in range(2):
        alone = domain.select(torch.tensor([b]))
        assert alone.count == 1
        x, i = alone.columns(points[b : b + 1])
        assert torch.allclose(alone.level(x, i), both[b], atol=1e-12, rtol=1e-12)
        assert torch.allclose(
            alone.project(points[b : b + 1])[0], landed[b], atol=1e-11, rtol=1e-12
        )


def test_sampling_follows_the_generator(named):
    _, domain, _ = named
    state = torch.get_rng_state()
    first, again, other = (domain.sample_interior(20, generator(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    on = domain.sample_boundary(20, generator(0))
    assert on.points.dtype == first.dtype == torch.float32
    assert torch.equal(state, torch.get_rng_state())


def test_ellipse_projection_on_the_axes_and_at_the_centre():
    ellipse = Ellipse((2.0, 1.0))
    points = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.2, 0.0], [0.0, 0.3], [3.0, 0.0]]]).double()
    landed = ellipse.project(points)[0].abs()
    # on the long axis the closest point is x = a^2 p / (a^2 - b^2) until that reaches a
    x = torch.tensor([0.0, 4 / 3, 1.6, 0.0, 2.0]).double()
    expected = torch.stack([x, (1 - x**2 / 4).sqrt()], 1)
    assert torch.allclose(landed, expected, atol=1e-6, rtol=1e-6)


def test_table_brings_the_distance_of_a_star_close_to_exact():
    star = star_family(4, generator())
    table = Tabulated(star, 129)
    points = star.sample_interior(500, generator(1), torch.float64)
    x, i = star.columns(points)
    exact = -star.signed_distance(points).view(-1)
    assert (table.gap(x, i) <= exact + 1e-6).all()
    assert (exact - table.gap(x, i)).max() < 0.05
    assert table.slack.max() < 2e-3
    # the closed form knows a good part of it
    assert 0.3 < float((star.gap(x, i) / exact).mean()) < 0.9


def test_paper_family_convention():
    star = star_family(3, generator())
    assert star.cosine.abs().max() <= 0.2
    on = star.sample_boundary(100, generator(), torch.float64)
    theta = torch.atan2(on.points[..., 1], on.points[..., 0])
    c1, c2 = star.cosine.T[:, :, None]
    r = 1 + c1 * torch.cos(4 * theta) + c2 * torch.cos(8 * theta)
    assert torch.allclose(on.points.norm(dim=2), r, atol=1e-12, rtol=1e-12)


def test_grid_distance_in_three_dimensions_is_a_lower_bound():
    ball = Ball(1.0, (0.0, 0.0, 0.0))
    grid = SDFGrid.of(ball, 33)
    points = ball.sample_interior(2000, generator(), torch.float64)
    gap = grid.gap(*grid.columns(points))
    exact = 1 - points[0].norm(dim=1)
    assert (gap <= exact + 2e-3).all() and (gap / exact).median() > 0.9


def test_orientation_of_polygons_does_not_matter():
    corners = torch.tensor([[0.0, 0.0], [2.0, 0.3], [0.5, 1.5]], dtype=torch.float64)
    points = torch.randn(1, 50, 2, generator=generator(), dtype=torch.float64)
    one, other = Polygon(corners), Polygon(corners.flip(0))
    assert torch.allclose(
        one.signed_distance(points), other.signed_distance(points), rtol=1e-12, atol=1e-11
    )


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Ball(-1.0), "radius"),
        (lambda: Ball([1.0, 2.0, 3.0], [[0.0, 0.0], [1.0, 1.0]]), "numbers of domains"),
        (lambda: Box((0.0, 0.0), (1.0, -1.0)), "high - low"),
        (lambda: Annulus(1.0, 0.5), "outer - inner"),
        (lambda: Ellipse((1.0, 0.0)), "axes"),
        (lambda: Star([1.5, 0.0]), r"r\(theta\)"),
        (lambda: Star([float("nan"), 0.0]), "finite"),
        (lambda: star_family(2, generator(), spread=0.6), "below 0.5"),
        (lambda: Polygon([[0.0, 0.0], [1.0, 1.0]]), "at least 3"),
        (lambda: Polygon([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), "area"),
        (lambda: l_shape(notch=1.5), "notch"),
        (lambda: union(Ball([1.0, 2.0]), Ball([1.0, 2.0, 3.0])), "as many domains"),
        (lambda: SDFGrid(torch.ones(5, 5), (0.0, 0.0), (1.0, 1.0)), "edge of the grid"),
        (lambda: SDFGrid(-torch.ones(5, 5), (0.0, 0.0), (1.0, 1.0)), "edge of the grid"),
        (lambda: Ball().columns(torch.zeros(3, 4, 2)), "B = 1"),
        (lambda: difference(Ball(), Ball(2.0)).sample_interior(5, generator()), "accepted"),
    ],
)
def test_mistakes_are_named(build, words):
    with pytest.raises(InvalidArgument, match=words):
        build()


@pytest.mark.parametrize("dim", [2, 3])
def test_grid_distance_bounds_hold_for_values_that_are_no_distance(dim):
    n = 9
    values = torch.randn(2, *[n] * dim, generator=generator(), dtype=torch.float64) - 1
    edge = torch.ones([n] * dim, dtype=torch.bool)
    edge[(slice(1, -1),) * dim] = False
    values[:, edge] = 3.0
    grid = SDFGrid(values, (0.0,) * dim, [[1.0, *[2.0] * (dim - 1)], [3.0] * dim])
    x, i = grid.columns(grid.sample_interior(500, generator(), torch.float64))
    r = grid.gap(x, i)
    assert (r > 0).all()
    for seed in range(20):
        out = torch.randn(x.shape, generator=generator(seed), dtype=torch.float64)
        assert (grid.interpolate(x + 0.999 * r * out / out.norm(dim=0), i) < 0).all()


@pytest.mark.parametrize("name", ["ellipse", "l_shape", "ball", "no distance"])
def test_closest_points_of_a_grid_anywhere(name):
    """Beyond the grid, at kinks, and of values that are no distances: as of the domain itself."""
    domain = {
        "ellipse": Ellipse((1.2, 0.5)),
        "l_shape": l_shape(),
        "ball": Ball(1.0, (0.0, 0.0, 0.0)),
        "no distance": Ball(1.0, (0.0, 0.0)),
    }[name]
    nodes = 33 if domain.dim == 3 else 65
    grid = SDFGrid.of(domain, nodes)
    if name == "no distance":
        axis = torch.linspace(-1.05, 1.05, 65, dtype=torch.float64)
        square = axis.square() + axis.square()[:, None]
        grid = SDFGrid((square - 1) / 4, [-1.05, -1.05], [1.05, 1.05])
    u = torch.rand(1, 1500, domain.dim, generator=generator(0), dtype=torch.float64)
    points = 4 * u - 2
    spacing = float((grid.high - grid.low).max()) / (nodes - 1)
    # an L-shape's corners are cut off in the cells that hold them
    atol = spacing if name == "l_shape" else 3 * spacing**2
    found, wanted = grid.signed_distance(points), domain.signed_distance(points)
    assert torch.allclose(found, wanted, rtol=0, atol=atol), float((found - wanted).abs().max())


def test_cells_of_a_mask_must_be_squares():
    mask = torch.zeros(4, 8, dtype=torch.bool)
    mask[1:3, 2:6] = True
    mask_domain(mask, (0.0, 0.0), (1.0, 2.0))
    for high in ((1.0, 1.0), (-1.0, -2.0), (1.0, 2.1)):
        with pytest.raises(InvalidArgument, match="squares or cubes"):
            mask_domain(mask, (0.0, 0.0), high)


@pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf"), "x", True, None])
def test_positive_numbers(value):
    with pytest.raises(InvalidArgument, match="eps="):
        check_positive("eps", value)
    assert check_positive("eps", 2) == 2.0
