"""Problems with walk-on-spheres labels: what is in a batch, streams, cache, exact test sets."""

import time
from dataclasses import replace

import pytest
import torch

from sciml.data.walk_labels import walk_data
from sciml.data.walk_labels.walk_clouds import WalkClouds
from sciml.data.walk_labels.walk_data import WalkData
from sciml.errors import InvalidArgument, InvalidType, NumericalWarning
from sciml.physics.elliptic.elliptic_families import BoxPoisson, StarPoisson, StarScreened
from sciml.physics.walks.spheres import WalkOnSpheres

SMALL = {
    "batch_size": 3,
    "pool": 6,
    "nodes": 16,
    "table": 32,
    "val_count": 2,
    "val_walks": 8,
    "test_count": 2,
}


def data(family=None, **options):
    return WalkData(family or StarPoisson(wide=0.5), **{**SMALL, **options})


def relative(a, b, mask):
    return float(((a - b) * mask).norm() / (b * mask).norm())


def test_batches_repeat_and_differ_by_step_seed_and_rank():
    one = data().batch(3)
    assert torch.equal(one.target, data().batch(3).target)
    for other in (data().batch(4), data(seed=1).batch(3), data().batch(3, rank=1, world=2)):
        assert not torch.equal(one.target, other.target)
        assert not torch.equal(one.inputs["boundary"], other.inputs["boundary"])
    assert data().batch(3, 1, 2).count == 6


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    d = data()
    d.batch(0), d.val_chunk(0), d.test_chunk(0)
    assert torch.equal(before, torch.get_rng_state())


def test_two_ranks_have_the_same_pool():
    one, other = data(), data()
    one.batch(0, 0, 2), other.batch(5, 1, 2)
    assert torch.equal(one._pool[1].sdf, other._pool[1].sdf)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (StarPoisson(wide=0.5), {}),
        (StarPoisson(), {"pool": 0, "control": 0, "table": 0}),
        (StarScreened(), {}),
        (BoxPoisson(), {"table": 0, "nodes": 10, "control": 4}),
    ],
)
def test_labels_are_estimates_of_the_solution_where_the_mask_is(family, options):
    walk_data = 64
    d = data(family, walks=walk_data, **options)
    found = d.batch(0)
    n, dim = d.grid.nodes, family.dim
    mask, sdf = found.extra["mask"], found.inputs["sdf"]
    assert mask.shape == found.target.shape == (3, *[n] * dim)
    assert torch.equal(mask > 0, sdf < -d.margin)
    assert (found.target[mask == 0] == 0).all()
    assert set(found.inputs) == {"sdf", "boundary", "source", *family.coefficients}
    # the same problems once more, with exact values
    streams = found.streams
    domain, _ = d._drawn(streams)
    instances = family.fields(domain, streams.generator("fields"))
    inside = (mask.flatten(1) > 0).all(0)  # nodes that all domains have
    exact = instances.solution(d.grid.points(3)[:, inside])
    error = relative(found.target.flatten(1)[:, inside], exact, torch.ones_like(exact))
    assert error < (0.1 if d.control else 0.2)
    # g at the closest point is g on the boundary
    x, i = domain.columns(d.grid.points(3)[:, inside])
    f = instances.problem.source
    f = torch.zeros_like(exact) if f is None else f(x, i).view_as(exact)
    assert torch.allclose(
        found.inputs["source"].flatten(1)[:, inside].double(), f, atol=1e-4, rtol=1e-5
    )


def test_the_grid_puts_values_where_they_belong():
    d = data()
    index = torch.tensor([[5, 9, 5], [1, 2, 3]])
    own = torch.tensor([[True, True, False], [True, True, True]])
    found = d._on_grid(torch.tensor([[1.0, 2.0, 7.0], [3.0, 4.0, torch.nan]]), index, own)
    assert found.shape == (2, 16, 16)
    assert found[0].flatten()[[5, 9]].tolist() == [1.0, 2.0]
    assert found.sum() == 10


def test_validation_halves_are_independent_and_unbiased():
    d = data(val_count=4, val_walks=64)
    found = d.val_chunk(0)
    mask = found.extra["mask"]
    first, second = found.extra["first"], found.extra["second"]
    assert not torch.equal(first, second)
    assert torch.allclose((first + second) / 2 * mask, found.target, atol=1e-12, rtol=1e-12)
    assert relative(first, second, mask) < 0.1


def test_exact_test_sets_of_every_part():
    d = data()
    parts = [d.test_chunk(k).part for k in range(d.test_chunks)]
    assert parts == ["test", "test_ellipse", "test_polygon", "test_l_shape"]
    for k in range(d.test_chunks):
        found = d.test_chunk(k)
        mask = found.extra["mask"]
        assert found.target.isfinite().all() and mask.sum() > 60
        assert torch.equal(mask > 0, found.inputs["sdf"] < -0.02)
        # the solution is closest to its boundary values near the boundary
        near = mask * (found.inputs["sdf"] > -0.1)
        far = relative(found.inputs["boundary"], found.target, mask)
        assert relative(found.inputs["boundary"], found.target, near) < 0.7 * far


def test_a_cache_averages_all_walks_of_a_problem():
    d = data(pool=3, cache=True, control=0, walks=1)
    first = d.batch(0)
    batches = [d.batch(k).target for k in range(1, 40)]
    reference = data(pool=3, cache=True, control=0, walks=512).batch(0)
    mask = first.extra["mask"]
    assert torch.equal(first.inputs["boundary"], reference.inputs["boundary"])
    noisy, averaged = (relative(t, reference.target, mask) for t in (first.target, batches[-1]))
    assert averaged < 0.3 * noisy  # 1 / sqrt(40) = 0.16 without the reference's own noise


def test_a_cache_is_resumed():
    one = data(cache=True)
    for k in range(3):
        one.batch(k)
    again = data(cache=True)
    again.load_state_dict(one.state_dict())
    assert torch.equal(one.batch(3).target, again.batch(3).target)
    assert not torch.equal(again.batch(3).target, data(cache=True).batch(3).target)


def test_refusals():
    with pytest.raises(InvalidArgument, match="multiple of batch_size"):
        data(cache=True, pool=7)
    with pytest.raises(InvalidArgument, match="several ranks"):
        data(cache=True).batch(0, 0, 2)
    with pytest.raises(InvalidArgument, match="multiple of 4"):
        data(val_walks=6)


def test_walk_settings_reach_the_engine():
    assert replace(data(walks=3)._engine(3), antithetic=False) == WalkOnSpheres(
        walks=3, eps=3e-3, max_steps=500, outside="nan", close=0.0
    )
    assert data()._engine(2).antithetic


# --- clouds ---------------------------------------------------------------------------------------
def clouds(**options):
    small = {k: v for k, v in SMALL.items() if k != "nodes"}
    return WalkClouds(StarPoisson(wide=0.5), interior=80, boundary=40, **{**small, **options})


def test_clouds_have_estimates_inside_and_exact_values_on_the_boundary():
    d = clouds(walks=64)
    found = d.batch(0)
    assert found.target.shape == found.extra["mask"].shape == (3, 120)
    points, distance = found.inputs["points"], found.inputs["distance"]
    domain, _ = d._drawn(found.streams)
    exact = domain.domain.signed_distance(points.double()).float()
    assert torch.allclose(exact, distance, atol=1e-6, rtol=1e-6)
    assert (distance[:, :80] < 0).all() and (distance[:, 80:].abs() < 1e-6).all()
    assert torch.equal(found.target[:, 80:].float(), found.inputs["boundary"][:, 80:])
    instances = d.family.fields(domain, found.streams.generator("fields"))
    exact = instances.solution(points[:, :80].double())
    assert relative(found.target[:, :80], exact, found.extra["mask"][:, :80]) < 0.05
    assert found.extra["mask"].mean() > 0.95


def test_clouds_repeat_differ_and_have_halves_and_exact_tests():
    one = clouds().batch(3)
    assert torch.equal(one.target, clouds().batch(3).target)
    other = clouds().batch(3, rank=1, world=2)
    assert not torch.equal(one.inputs["points"], other.inputs["points"])
    val = clouds().val_chunk(0)
    first, second = val.extra["first"], val.extra["second"]
    assert not torch.equal(first[:, :80], second[:, :80])
    assert relative(first, second, val.extra["mask"]) < 0.15
    d = clouds()
    for k in range(d.test_chunks):
        found = d.test_chunk(k)
        assert found.target.isfinite().all()
        assert torch.equal(found.extra["mask"] > 0, found.inputs["distance"] < -0.02)


def test_clouds_refuse_coefficients():
    with pytest.raises(InvalidArgument, match="StarScreened"):
        WalkClouds(StarScreened())


# --- what is refused, and what is reported --------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("walks", -1),
        ("walks", 1.5),
        ("eps", 0.0),
        ("eps", float("nan")),
        ("eps", 0.5),
        ("pool", -3),
        ("batch_size", 0),
        ("control", -2),
        ("control", 13),
        ("max_steps", 0),
        ("table", 2),
        ("margin", 2.0),
        ("margin", -0.1),
        ("half", 0.5),
        ("val_count", 0),
        ("val_walks", 6),
        ("test_count", 0),
        ("interior", 0),
        ("boundary", 0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    make = clouds if name in ("interior", "boundary") else data
    said = rf"data\.{name}(=| is ){value}. Expected "
    with pytest.raises((InvalidArgument, InvalidType), match=said):
        if make is data:
            make(**{name: value})
        else:
            WalkClouds(StarPoisson(), **{name: value})


@pytest.mark.parametrize("make", [data, clouds])
def test_a_batch_says_what_its_walks_did(make):
    d = make(walks=4)
    assert d.walked == {}
    start = time.perf_counter()
    d.batch(0)
    assert 0 < d.walked["seconds"] < time.perf_counter() - start
    assert 3 < d.walked["steps"] < 20 and d.walked["truncated"] == 0
    with pytest.warns(NumericalWarning, match="max_steps=2"):
        few = make(walks=4, max_steps=2)
        few.batch(0)
    assert few.walked["steps"] <= 2 and 0.3 < few.walked["truncated"] <= 1


def test_problems_for_files_come_in_chunks_that_add_up(monkeypatch):
    data = WalkData(family=StarPoisson(), nodes=12, table=24, pool=4, batch_size=2)
    monkeypatch.setattr(walk_data, "CHUNK", 3)
    monkeypatch.setattr(data, "_solved", lambda law, size, streams, part: size)
    name = next(n for n, f in vars(WalkData).items() if "Problems in all" in (f.__doc__ or ""))
    assert list(getattr(data, name)("train", 7)) == [3, 3, 1]
