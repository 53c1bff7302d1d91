"""Walk on stars against closed forms and brute force; tolerances are 4 standard errors."""

import math

import pytest
import torch

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument, InvalidType, NumericalWarning
from sciml.physics.elliptic.curve_reference import curve_reference
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import (
    Annulus,
    Ball,
    Ellipse,
    MixedPolygon,
    Polygon,
    Star,
    inscribed,
    l_shape,
)
from sciml.physics.walks.green import directions
from sciml.physics.walks.loop import Walks
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.stars import Mixed, StarRule, WalkOnStars

SQUARE = Polygon([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
TRIANGLE = Polygon([[0.0, 0.0], [2.0, 0.3], [0.5, 1.5]])


def stream(step=0, rank=0, seed=0):
    return Streams(seed, step, rank).generator("walks")


def at(*points):
    """Return points (1, P, d) of one domain."""
    return torch.tensor([points], dtype=torch.float64)


def wave(x, i):
    return x[0].exp() * x[1].cos()


def wave_flux(x, i, n):
    return x[0].exp() * (x[1].cos() * n[0] - x[1].sin() * n[1])


def bowl(x, i):
    return x[0] ** 2 + x[1] ** 2 - x[0] * x[1]


def bowl_flux(x, i, n):
    return (2 * x[0] - x[1]) * n[0] + (2 * x[1] - x[0]) * n[1]


def bowl_source(x, i):
    return torch.full_like(x[0], -4.0)


WAVE = (Mixed(wave, wave_flux), wave)
BOWL = (Mixed(bowl, bowl_flux, bowl_source), bowl)


def values(field, points):
    i = torch.arange(len(points)).repeat_interleave(points.shape[1])
    return field(points.double().permute(2, 0, 1).reshape(2, -1), i).view(points.shape[:2])


def assert_close(estimate, exact, bias=0.0):
    error = (estimate.mean - exact).abs()
    assert (error <= 4 * estimate.standard_error + bias).all(), error / estimate.standard_error
    assert (estimate.truncated == 0).all() and estimate.farthest <= 1.001


def right(x, i):
    return x[0] > 0.99


def all_but_left(x, i):
    return x[0] > -0.99


def notch(x, i):
    """The two edges that meet in the re-entrant corner of the L-shape."""
    return (x > -0.01).all(0) & (x.abs() < 0.01).any(0)


IN_SQUARE = at((0.3, 0.2), (-0.5, 0.1), (0.9, 0.9), (0.99, -0.97), (1.0, 0.0))
IN_L = at((-0.5, -0.5), (-0.05, -0.05), (0.5, -0.3), (-0.02, 0.5), (-0.5, 0.9))


@pytest.mark.parametrize("problem", [WAVE, BOWL], ids=["laplace", "source"])
@pytest.mark.parametrize(
    ("domain", "points"),
    [
        (MixedPolygon(SQUARE, right), IN_SQUARE),
        (MixedPolygon(SQUARE, all_but_left), IN_SQUARE),
        (MixedPolygon(TRIANGLE, [True, False, False]), at((0.5, 0.5), (1.0, 0.151), (1.7, 0.3))),
        (MixedPolygon(l_shape(), notch), IN_L),
    ],
    ids=["one wall", "three walls", "triangle", "re-entrant walls"],
)
def test_mixed_problems_with_flux(domain, points, problem):
    """Points in the middle, in corners and on walls; flux of both signs."""
    estimate = WalkOnStars(10_000)(domain, problem[0], points, stream())
    assert_close(estimate, values(problem[1], points), 3e-3)
    assert estimate.standard_error.max() < 0.1


@pytest.mark.parametrize("problem", [WAVE, BOWL], ids=["laplace", "source"])
def test_errors_have_the_spread_they_say(problem):
    """Over 48 points of the L-shape the squared z-scores average to 1: no bias is left."""
    domain = MixedPolygon(l_shape(), notch)
    points = domain.sample_interior(48, stream(7), torch.float64)
    estimate = WalkOnStars(2000, eps=5e-4)(domain, problem[0], points, stream())
    z = (estimate.mean - values(problem[1], points)) / estimate.standard_error
    inner = z[estimate.steps > 3]
    assert abs(float(inner.square().mean()) - 1) < 4 * math.sqrt(2 / len(inner))
    assert abs(float(inner.mean())) < 4 / math.sqrt(len(inner))


def test_singular_gradient_at_a_re_entrant_corner_without_flux():
    def corner(x, i):
        # r^(2/3) cos(2/3 phi): its normal derivative vanishes on both walls of the notch
        phi = torch.remainder(torch.atan2(x[1], x[0]) - math.pi / 2, 2 * math.pi)
        return x.square().sum(0).pow(1 / 3) * torch.cos(2 / 3 * phi)

    domain = MixedPolygon(l_shape(), notch)
    estimate = WalkOnStars(20_000)(domain, Mixed(corner), IN_L, stream())
    assert_close(estimate, values(corner, IN_L), 2e-3)


def test_walls_without_flux_are_lines_of_symmetry():
    """Reflected at x = 1, the square is half of a rectangle: same mean, about the same noise."""
    domain = MixedPolygon(SQUARE, right)
    double = Polygon([[-1.0, -1.0], [3.0, -1.0], [3.0, 1.0], [-1.0, 1.0]])
    points = at((0.9, 0.3), (0.2, -0.5))

    def fold(x):
        return torch.stack([1 - (x[0] - 1).abs(), x[1]])

    def source(x, i):
        return torch.sin(3 * x[0]) + x[1]

    a = WalkOnStars(20_000)(domain, Mixed(wave, None, source), points, stream())
    b = WalkOnSpheres(20_000)(
        double,
        Dirichlet(lambda x, i: wave(fold(x), i), lambda x, i: source(fold(x), i)),
        points,
        stream(1),
    )
    assert ((a.mean - b.mean).abs() < 4 * (a.variance + b.variance).sqrt() + 1e-3).all()
    ratio = a.squares / b.squares
    assert ((ratio - 1).abs() < 0.25).all()


def test_without_walls_in_reach_it_is_walk_on_spheres():
    """A wall so small that hardly any walk meets it: mean and steps are those of spheres."""
    corners = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [1.0 - 1e-3, 1.0], [-1.0, 1.0]]
    domain = MixedPolygon(Polygon(corners), lambda x, i: (x[0] > 0.999) & (x[1] > 0.9999))
    points = at((0.3, 0.2), (-0.5, -0.6))
    a = WalkOnStars(20_000)(domain, Mixed(wave), points, stream())
    b = WalkOnSpheres(20_000)(SQUARE, Dirichlet(wave), points, stream(1))
    assert ((a.mean - b.mean).abs() < 4 * (a.variance + b.variance).sqrt() + 1e-3).all()
    assert torch.allclose(a.steps, b.steps, rtol=0.03)


def test_smooth_curves_and_holes():
    half = MixedPolygon(inscribed(Ball(), 64), lambda x, i: x[0] > 0)
    points = at((0.3, 0.2), (-0.5, 0.1), (0.95, 0.0))
    # the polygon misses 1e-3 of the disk
    estimate = WalkOnStars(1000)(half, WAVE[0], points, stream())
    assert_close(estimate, values(wave, points), 5e-3)
    ring = MixedPolygon(inscribed(Annulus(0.4, 1.0), 64), lambda x, i: x.square().sum(0) < 0.5)

    def around(x, i):  # no flux into the inner circle
        return x[0] * (1 + 0.16 / x.square().sum(0)) / 1.16

    points = at((0.5, 0.2), (-0.42, 0.0), (0.0, 0.9))
    estimate = WalkOnStars(1500)(ring, Mixed(lambda x, i: x[0]), points, stream())
    assert_close(estimate, values(around, points), 5e-3)

    def fed(x, i):  # a flux 1 / 0.4 out of the hole, 0 outside
        return -x.square().sum(0).log() / 2

    problem = Mixed(lambda x, i: 0 * x[0], lambda x, i, n: 2.5 + 0 * x[0])
    estimate = WalkOnStars(1500)(ring, problem, points, stream(1))
    assert_close(estimate, values(fed, points), 8e-3)


def test_bias_falls_with_eps():
    """u = 1 - x^2 between absorbing x = 1 and a wall at x = 0: walks end eps early."""
    strip = Polygon([[0.0, -1.0], [1.0, -1.0], [1.0, 1.0], [0.0, 1.0]])
    domain = MixedPolygon(strip, lambda x, i: x[0] < 0.99)
    problem = Mixed(lambda x, i: 0 * x[0], None, lambda x, i: torch.full_like(x[0], 2.0))
    bias, steps = {}, {}
    for eps in (0.1, 0.03, 1e-3):
        estimate = WalkOnStars(20_000, eps=eps)(domain, problem, at((0.3, 0.2)), stream())
        bias[eps] = float(estimate.mean) - 0.91, float(estimate.standard_error)
        steps[eps] = float(estimate.steps)
    assert bias[0.1][0] < -0.03 and abs(bias[1e-3][0]) < 4 * bias[1e-3][1] + 2e-3
    # linear: a walk that ends at distance d < eps misses 2 d
    slope = [bias[eps][0] / eps for eps in (0.1, 0.03)]
    error = math.hypot(bias[0.1][1] / 0.1, bias[0.03][1] / 0.03)
    assert abs(slope[0] - slope[1]) < 0.25 * abs(slope[0]) + 4 * error
    # one more e-folding of eps costs a constant number of steps
    per = [
        (steps[0.03] - steps[0.1]) / math.log(10 / 3),
        (steps[1e-3] - steps[0.03]) / math.log(30),
    ]
    assert per[0] > 0 and 0.5 < per[1] / per[0] < 2


def test_error_falls_with_the_root_of_the_walks():
    domain = MixedPolygon(SQUARE, right)
    points = domain.sample_interior(200, stream(5), torch.float64)
    rms = []
    for k, walks in enumerate((4, 64)):
        estimate = WalkOnStars(walks)(domain, WAVE[0], points, stream(k))
        rms.append(float((estimate.mean - values(wave, points)).square().mean().sqrt()))
    assert abs(rms[0] / rms[1] - 4) < 1


# --- statistics, streams, batches ---------------------------------------------------------------


def test_instances_are_never_mixed():
    """Two shapes, other walls in each: constants g of their own come back exactly."""
    both = Polygon(torch.cat([SQUARE.vertices, 2 * SQUARE.vertices + 1]))
    domain = MixedPolygon(both, [[True, True, False, False], [False, True, False, True]])
    points = domain.sample_interior(20, stream(), torch.float64)
    estimate = WalkOnStars(20, chunk=64)(domain, Mixed(lambda x, i: i.to(x)), points, stream())
    assert torch.equal(estimate.mean, torch.tensor([[0.0] * 20, [1.0] * 20]).double())
    exact = values(wave, points / 3)
    problem = Mixed(lambda x, i: wave(x / 3, i), lambda x, i, n: wave_flux(x / 3, i, n) / 3)
    estimate = WalkOnStars(1000)(domain, problem, points, stream())
    assert_close(estimate, exact, 3e-3)
    alone = MixedPolygon(Polygon(both.vertices[1]), [False, True, False, True])
    single = WalkOnStars(1000)(alone, problem, points[1:], stream(1))
    gap = (single.mean - estimate.mean[1:]).abs()
    assert (gap < 4 * (single.variance + estimate.variance[1:]).sqrt()).all()
    picked = domain.select(torch.tensor([1]))
    assert torch.equal(
        WalkOnStars(50)(picked, problem, points[1:], stream()).mean,
        WalkOnStars(50)(alone, problem, points[1:], stream()).mean,
    )


def test_streams_repeat_resume_and_differ_between_ranks():
    domain = MixedPolygon(SQUARE, right)
    points = domain.sample_interior(10, stream())
    state = torch.get_rng_state()

    def run(**key):
        return WalkOnStars(8)(domain, WAVE[0], points, stream(**key)).mean

    assert torch.equal(run(step=3), run(step=3))
    assert not torch.equal(run(), run(rank=1)) and not torch.equal(run(), run(step=1))
    assert torch.equal(state, torch.get_rng_state())
    # a generator saved half-way continues the stream
    generator = stream()
    WalkOnStars(8)(domain, WAVE[0], points, generator)
    saved = generator.get_state()
    later = WalkOnStars(8)(domain, WAVE[0], points, generator).mean
    resumed = torch.Generator()
    resumed.set_state(saved)
    assert torch.equal(WalkOnStars(8)(domain, WAVE[0], points, resumed).mean, later)


def test_truncated_walks_and_points_outside_are_reported():
    domain = MixedPolygon(SQUARE, all_but_left)
    with pytest.warns(NumericalWarning, match="max_steps=5"):
        short = WalkOnStars(500, max_steps=5)(domain, WAVE[0], IN_SQUARE, stream())
    assert (short.truncated > 0).all() and short.mean.isfinite().all()
    points = at((0.0, 0.0), (1.2, 0.0))
    with pytest.raises(InvalidArgument, match="1 of 2 points outside"):
        WalkOnStars(4)(domain, WAVE[0], points, stream())
    found = WalkOnStars(4, outside="nan")(domain, WAVE[0], points, stream())
    assert found.mean.isnan().tolist() == [[False, True]]


def test_starts_a_little_outside_a_wall_are_put_on_it():
    """On the circle, which the polygon misses by up to 3e-4: within eps, but behind the walls."""
    half = MixedPolygon(inscribed(Ball(), 128), lambda x, i: x[0] > 0)
    angle = torch.linspace(-0.8, 0.8, 9, dtype=torch.float64)
    points = torch.stack([angle.cos(), angle.sin()], 1)[None]
    assert not bool(half.inside(points).all())
    linear = Mixed(lambda x, i: x[0], lambda x, i, n: n[0])
    estimate = WalkOnStars(1000)(half, linear, points, stream())
    assert_close(estimate, points[..., 0], 2e-3)


def test_starts_inside_stay_where_they_are():
    """`StarRule.begin` moves those alone that lie a little outside."""
    domain, out = MixedPolygon(SQUARE, right), 1e-9
    points = at((0.2, 0.3), (1 + out, 0.4), (-0.9, 0.0), (0.1, -1 - out))
    rule = StarRule(domain, 1e-3 * domain.scale(), WAVE[0])
    x, i = domain.columns(points)
    walks = Walks.start(x, i, 1)
    rule.begin(walks)
    wanted = at((0.2, 0.3), (1.0, 0.4), (-0.9, 0.0), (0.1, -1.0))[0].T
    torch.testing.assert_close(walks.x, wanted, rtol=0, atol=1e-12)
    assert walks.normal[:, 1].tolist() == [-1.0, 0.0] or walks.normal[:, 1].tolist() == [1.0, 0.0]
    assert bool((walks.normal[:, [0, 2]] == 0).all())


def test_pairs_keep_the_mean_and_reduce_the_variance():
    domain = MixedPolygon(SQUARE, right)
    points = at((0.0, 0.0)).expand(1, 200, 2)
    plain, pairs = (
        WalkOnStars(40, antithetic=a)(domain, WAVE[0], points, stream()) for a in (False, True)
    )
    spread = ((plain.variance.mean() + pairs.variance.mean()) / 200).sqrt()
    assert (plain.mean.mean() - pairs.mean.mean()).abs() < 4 * spread
    assert pairs.variance.mean() < plain.variance.mean()


# --- queries against brute force ----------------------------------------------------------------

SHAPES = {
    "square": MixedPolygon(SQUARE, right),
    "l": MixedPolygon(l_shape(), notch),
    "comb": MixedPolygon(
        Polygon(
            [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [2.0, 2.0], [2.0, 1.0], [1.0, 1.0], [1.0, 2.0],
             [0.0, 2.0]]
        ),
        lambda x, i: x[1] > 0.01,
    ),
    "star": MixedPolygon(inscribed(Star([0.2, -0.1]), 100), lambda x, i: x[0] > -0.3),
    "ring": MixedPolygon(inscribed(Annulus(0.4, 1.0), 40), lambda x, i: x.square().sum(0) < 0.5),
    "ellipse": MixedPolygon(
        inscribed(Ellipse((1.0, 0.5), (0.1, 0.2), 0.4), 50), [k % 3 > 0 for k in range(50)]
    ),
}  # fmt: skip


def naive(domain, x, e, far):
    """Return distance to absorbing edges, to silhouettes, and to the wall a ray meets, in loops."""
    edges = list(zip(domain.polygon.starts[0].tolist(), domain.polygon.ends[0].tolist(),
                     domain.reflects[0].tolist(), strict=True))  # fmt: skip
    starts = {tuple(a): (b, wall) for a, b, wall in edges}
    absorbed, fold, hit = math.inf, math.inf, far
    for a, b, wall in edges:
        (ax, ay), (bx, by) = a, b
        tx, ty = bx - ax, by - ay
        s = min(1.0, max(0.0, ((x[0] - ax) * tx + (x[1] - ay) * ty) / (tx * tx + ty * ty)))
        if not wall:
            absorbed = min(absorbed, math.hypot(x[0] - ax - s * tx, x[1] - ay - s * ty))
            continue
        det = e[0] * ty - e[1] * tx
        if det > 0:  # outward is (ty, -tx)
            t = ((ax - x[0]) * ty - (ay - x[1]) * tx) / det
            place = ((ax - x[0]) * e[1] - (ay - x[1]) * e[0]) / -det
            if t >= 0 and 0 <= -place <= 1 or t >= 0 and 0 <= place <= 1:
                on = (x[0] + t * e[0] - ax) * tx + (x[1] + t * e[1] - ay) * ty
                if 0 <= on <= tx * tx + ty * ty:
                    hit = min(hit, t)
        following, next_wall = starts[tuple(b)]
        ux, uy = following[0] - bx, following[1] - by
        if next_wall and tx * uy - ty * ux < 0:
            sides = [(bx - x[0]) * v - (by - x[1]) * u for u, v in ((tx, ty), (ux, uy))]
            if sides[0] * sides[1] <= 0:
                fold = min(fold, math.hypot(bx - x[0], by - x[1]))
    return absorbed, fold, hit


@pytest.mark.parametrize("name", SHAPES)
def test_queries_match_a_naive_transcription(name):
    domain = SHAPES[name]
    points = domain.sample_interior(60, stream(3), torch.float64)
    x, i = domain.columns(points)
    angle = 2 * math.pi * torch.rand(60, generator=stream(4), dtype=torch.float64)
    e = torch.stack([angle.cos(), angle.sin()])
    far = torch.full_like(angle, 1.5)
    absorbed, on = domain.absorbed(x, i, point=True)
    fold = domain.silhouette(x, i, torch.full_like(far, torch.inf))
    t, edge = domain.hit(x, e, i, far)
    for n in range(60):
        want = naive(domain, x[:, n].tolist(), e[:, n].tolist(), 1.5)
        assert float(absorbed[n]) == pytest.approx(want[0], abs=1e-9)
        assert float(fold[n]) == pytest.approx(want[1], abs=1e-9)
        assert float(t[n]) == pytest.approx(want[2], abs=1e-9)
    assert torch.allclose((x - on).norm(dim=0), absorbed, rtol=1e-12, atol=1e-11)
    assert torch.equal(edge >= 0, t < far)
    stopped, normal = domain.wall(x + t * e, i, edge)
    met = edge >= 0
    assert torch.allclose(stopped[:, met], (x + t * e)[:, met], atol=1e-11, rtol=1e-12)
    assert ((normal * e).sum(0)[met] > 0).all() and (normal[:, ~met] == 0).all()


@pytest.mark.parametrize("name", SHAPES)
def test_points_of_walls_are_uniform_in_length(name):
    """Means over the walls within r, against fine quadrature."""
    domain, n, r = SHAPES[name], 4000, 0.9
    start = domain.sample_interior(1, stream(3), torch.float64)[0, 0]
    x, i = start[:, None].expand(2, n), torch.zeros(n, dtype=torch.int64)
    z, edge, size = domain.sample_near(x, i, torch.full((n,), r, dtype=torch.float64), stream(5))
    s = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    a, b = (side[0][domain.reflects[0]] for side in (domain.polygon.starts, domain.polygon.ends))
    fine = a[:, None] + s[:, None] * (b - a)[:, None]
    along = b - a
    outward = torch.stack([along[:, 1], -along[:, 0]], 1)
    facing = ((fine - start) * outward[:, None]).sum(2) > 0
    weight = along.norm(dim=1)[:, None] / 2000 * facing * ((fine - start).norm(dim=2) < r)
    assert float(size[0]) == pytest.approx(float(weight.sum()), rel=2e-3, abs=1e-9)
    assert (size == size[0]).all()
    if float(size[0]) == 0:
        return
    for power in (1, 2):
        exact = (weight[..., None] * fine**power).sum((0, 1)) / weight.sum()
        error = 4 * (z**power).std(1) / math.sqrt(n) + 1e-3
        assert ((z.mean(1) if power == 1 else (z**2).mean(1)) - exact).abs().le(error).all()
    assert domain.reflects[0][edge].all()
    assert ((z - x).norm(dim=0) <= r + 1e-9).all()


@pytest.mark.parametrize("problem", [WAVE, BOWL], ids=["laplace", "source"])
@pytest.mark.parametrize("name", ["l", "comb", "star", "ellipse"])
def test_no_step_changes_the_mean(name, problem):
    """What a step collects and u where it goes, less u where it was, has mean zero: for steps from
    walls and from inside, next to silhouettes and absorbing edges. Far sharper than whole walks.
    """
    domain, (equation, u), n = SHAPES[name], problem, 4000
    rule = StarRule(domain, 1e-3 * domain.scale(), equation)
    x, i = domain.columns(domain.sample_interior(n, stream(), torch.float64))
    walks, generator = Walks.start(x, i, 1), stream(1)
    rule.begin(walks)
    found = {}
    for _ in range(12):
        r, moving = rule.reach(walks)
        keep = moving.nonzero()[:, 0]
        walks, r = walks.take(keep), r[keep]
        walks.total.zero_()
        before = u(walks.x, walks.i)
        wall = (walks.normal != 0).any(0)
        folded = r < domain.absorbed(walks.x, walks.i)[0] * (1 - 1e-9)
        rule.step(walks, r, directions(len(keep), 2, generator, torch.float64), generator, None)
        change = walks.total + u(walks.x, walks.i) - before
        for kind in (0, 1, 2, 3):
            found.setdefault(kind, []).append(change[2 * wall + folded == kind])
    for kind, parts in found.items():
        change = torch.cat(parts)
        if len(change) > 500:
            z = change.mean() / change.std() * math.sqrt(len(change))
            assert z.abs() < 4, (kind, float(z))


def test_polygons_with_holes():
    ring = inscribed(Annulus(0.4, 1.0), 400)
    points = ring.sample_interior(400, stream(), torch.float64)
    exact = Annulus(0.4, 1.0).signed_distance(points)
    assert torch.allclose(ring.signed_distance(points), exact, atol=1e-4, rtol=0)
    assert not bool(ring.inside(torch.zeros(1, 1, 2)).any())
    on = ring.sample_boundary(5000, stream(), torch.float64)
    assert float(on.weight.sum()) == pytest.approx(2.8 * math.pi, rel=1e-3)
    # normals leave the domain on both circles: the flux of x is twice the area
    flux = (on.weight * (on.points * on.normals).sum(2)).sum()
    assert float(flux) == pytest.approx(2 * 0.84 * math.pi, rel=0.03)


def test_mistakes_are_named():
    with pytest.raises(InvalidArgument, match="up to a constant"):
        MixedPolygon(SQUARE, [True] * 4)
    with pytest.raises(InvalidArgument, match="up to a constant"):
        MixedPolygon(SQUARE, lambda x, i: x[0] > -2)
    with pytest.raises(InvalidType, match="booleans"):
        MixedPolygon(SQUARE, [1.0, 0.0, 0.0, 0.0])
    with pytest.raises(InvalidArgument, match=r"shape \(3,\)"):
        MixedPolygon(SQUARE, [True, False, False])
    with pytest.raises(InvalidArgument, match="length zero"):
        MixedPolygon(Polygon([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [False] * 4)
    with pytest.raises(InvalidArgument, match="holes"):  # boundary integrals know one loop
        curve_reference(inscribed(Annulus(0.4, 1.0)), wave, torch.zeros(1, 1, 2))
    with pytest.raises(InvalidArgument, match="in 3D"):
        inscribed(Ball(center=(0.0, 0.0, 0.0)))
    domain, point = MixedPolygon(SQUARE, right), at((0.0, 0.0))
    with pytest.raises(InvalidArgument, match="WalkOnStars"):
        WalkOnSpheres(4)(domain, Dirichlet(wave), point, stream())
    with pytest.raises(InvalidArgument, match="WalkOnSpheres"):
        WalkOnStars(4)(SQUARE, WAVE[0], point, stream())
    with pytest.raises(InvalidArgument, match="Mixed problem"):
        WalkOnStars(4)(domain, Dirichlet(wave), point, stream())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_accelerator_agrees():
    domain = MixedPolygon(l_shape(), notch)
    on_cpu = WalkOnStars(4000)(domain, WAVE[0], IN_L, stream())
    device_stream = Streams(0, 0, device="cuda").generator("walks")
    found = WalkOnStars(4000)(domain.to("cuda"), WAVE[0], IN_L.to("cuda"), device_stream)
    gap = (found.mean.cpu() - on_cpu.mean).abs()
    assert (gap < 5 * (found.variance.cpu() + on_cpu.variance).sqrt() + 3e-3).all()
