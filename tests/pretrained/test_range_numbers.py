"""Numbers that ranges and warnings are made of, by hand: slack, knots, shapes on grids."""

import warnings

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType, PretrainedError, RangeWarning
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics import Poisson
from sciml.physics.problems.hjb import HJBLQG
from sciml.pretrained import PretrainedPINN, training_ranges
from sciml.pretrained.checks.arrays_given import check_finite
from sciml.pretrained.checks.distance_checks import (
    check_boundary,
    check_cloud,
    check_distance,
    described,
    features,
)
from sciml.pretrained.checks.joint import Joint, beyond, joint_range, rare, summary

F64 = torch.float64


# --- single ranges ------------------------------------------------------------------------------
def test_ranges_are_the_extremes_of_norms_coordinates_and_times():
    x = torch.tensor([[3.0, -4.0], [1.0, 0.0], [0.5, 2.0]])
    found = training_ranges(x, torch.tensor([[0.25], [0.75], [0.5]]))
    assert found == {"x.norm": (1.0, 5.0), "x.coordinate": (-4.0, 3.0), "t.value": (0.25, 0.75)}
    assert set(training_ranges(x)) == {"x.norm", "x.coordinate"}
    for bad in (torch.zeros(3), torch.zeros(0, 2)):
        with pytest.raises(InvalidArgument, match="points"):
            training_ranges(bad)


def model(ranges, timed=False):
    torch.manual_seed(0)
    problem = HJBLQG(dim=3) if timed else Poisson(dim=3)
    inputs = ["x", "t"] if timed else ["x"]
    network = MLP(dim=3, time=timed, width=8, depth=2)
    spec = {"inputs": {"x": {"ranges": ranges}, **({"t": {"ranges": ranges}} if timed else {})}}
    return PretrainedPINN(TrialSolution(problem, network, inputs), spec)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    # two hundredths of the width are passed over on either side, and rounding
    [(0.5, 1.0, None), (0.491, 1.009, None), (0.489, 0.7, "|x|"), (0.7, 1.011, "|x|")],
)
def test_what_lies_beyond_a_range_by_more_than_its_slack_is_warned_of(low, high, said):
    op = model({"norm": (0.5, 1.0)})
    x = torch.tensor([[0.0, low, 0.0], [high, 0.0, 0.0]])
    if said is None:
        op.predict(x)  # warnings are errors here
    else:
        with pytest.warns(RangeWarning, match=rf"\|x\| covers \[{low}, {high}\]; training cov"):
            op.predict(x)


def test_times_beyond_training_are_warned_of_by_their_name():
    op = model({"value": (0.0, 1.0)}, timed=True)
    x = torch.zeros(2, 3)
    op.predict(x, torch.tensor([[0.0], [1.0]]))
    with pytest.warns(RangeWarning, match=r"t covers \[0, 1\.5\]; training covered \[0, 1\]"):
        op.predict(x, torch.tensor([[0.0], [1.5]]))


def test_chunks_times_and_shapes_of_predictions():
    op = model({}, timed=True)
    x, t = torch.rand(7, 3), torch.rand(7, 1)
    whole = op.predict(x, t)
    assert whole["value"].shape == (7,) and whole["gradient"].shape == (7, 3)
    for chunk in (1, 3, 7, 100):
        part = op.predict(x, t, chunk=chunk)
        for name, value in whole.items():
            torch.testing.assert_close(part[name], value, rtol=1e-5, atol=1e-7)
    flat, number = op.predict(x, t[:, 0]), op.predict(x, 0.25)
    assert torch.equal(flat["value"], whole["value"])
    torch.testing.assert_close(
        number["value"], op.predict(x, torch.full((7, 1), 0.25))["value"], rtol=0, atol=0
    )
    # the gradient against differences
    step = torch.zeros(3)
    step[1] = 1e-2
    with torch.no_grad():
        ahead, behind = (op.predict(x + s * step, t, gradient=False)["value"] for s in (1, -1))
    torch.testing.assert_close(
        (ahead - behind) / 2e-2, whole["gradient"][:, 1], rtol=1e-2, atol=1e-3
    )
    assert not op.predict(x, t, gradient=False).keys() - {"value"}


def test_inputs_that_do_not_fit_are_told():
    op, static = model({}, timed=True), model({})
    x, t = torch.rand(4, 3), torch.rand(4, 1)
    for call, said in (
        (lambda: op.predict(x[0], t), r"x\[None\], shape \(1, 3\)"),
        (lambda: op.predict(x[:, :2], t), r"\(N, 3\)"),
        (lambda: op.predict(x[:0], t[:0]), "at least one row"),
        (lambda: op.predict(x), "no time was given"),
        (lambda: op.predict(x, t[:3]), r"t has shape \(3, 1\)"),
        (lambda: op.predict(x, t.expand(4, 2)), r"t has shape \(4, 2\)"),
        (lambda: static.predict(x, t), "this problem is static"),
        (lambda: static.predict(x, chunk=0), "chunk=0"),
        (lambda: static.predict(x * torch.tensor([1.0, 1.0, torch.nan])), "in 4 of 4 points"),
        (lambda: op.predict(x, t / 0), "t is not finite in 4 of 4"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            call()
    for bad in (x.to(torch.complex64), x > 0):
        with pytest.raises(InvalidType, match="x has dtype"):
            static.predict(bad)
    whole = static.predict(torch.tensor([[0, 0, 0], [0, 0, 1]]))  # whole numbers are numbers
    assert whole["value"].dtype == torch.float32


def test_outputs_that_are_no_numbers_are_counted():
    check_finite({"a": torch.ones(3), "n": torch.ones(2, dtype=torch.int64)})
    bad = {"a": torch.ones(3), "b": torch.tensor([1.0, torch.inf, torch.nan])}
    with pytest.raises(PretrainedError, match="2 of 3 entries of b that are not finite"):
        check_finite(bad)


# --- ranges of points and times together --------------------------------------------------------
def test_summaries_are_norm_sums_and_largest():
    x = torch.tensor([[3.0, -4.0, 0.0, 0.0]])
    torch.testing.assert_close(
        summary(x), torch.tensor([[5.0, -0.5, 3.5, 4.0]]).double(), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        summary(x[:, :2])[0, 4:], torch.tensor([3.0, -4.0]).double(), rtol=0, atol=0
    )
    assert summary(x).shape[1] == 4 and summary(x[:, :3]).shape[1] == 7


def knots():
    """Two numbers at three times: means 0, 2, 2; deviations 1, 1, 2; limits 3, 3, 5."""
    eye = [[1.0, 0.0], [0.0, 1.0]]
    return Joint(
        times=[0.0, 1.0, 3.0],
        mean=[[0.0, 0.0], [2.0, 0.0], [2.0, 0.0]],
        whiten=[eye, eye, [[0.5, 0.0], [0.0, 0.5]]],
        limit=[3.0, 3.0, 5.0],
        radius=[1.0, 2.0, 4.0],
        usual=3.0,
        share=0.01,
    )


def test_laws_are_interpolated_between_knots_and_kept_beyond_them():
    joint = knots()
    time = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 9.0]).double()
    rows = torch.tensor([[4.0, 3.0]]).double().expand(7, 2)
    distance, limit = joint.distance(rows, time)
    means = torch.tensor([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0]).double()
    factors = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.5]).double()
    wanted = factors * ((4 - means) ** 2 + 9).sqrt()
    torch.testing.assert_close(distance, wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        limit, torch.tensor([3.0, 3.0, 3.0, 3.0, 4.0, 5.0, 5.0]).double(), rtol=1e-12, atol=0
    )
    # rare: beyond the radius of their time, and below what is usual
    for size, wanted in ((1.4, 2), (2.9, 4), (3.0, 0), (0.9, 0)):
        rows = torch.full((7, 2), size, dtype=F64)
        assert int(joint.rare(rows, time).sum()) == wanted


def test_one_knot_serves_all_times():
    still = Joint([0.0], [[1.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]], [2.0], [1.5], 1.5, 0.1)
    distance, limit = still.distance(torch.tensor([[4.0, 4.0]]).double(), torch.zeros(1).double())
    assert float(distance) == 5.0 and float(limit) == 2.0


def test_far_points_are_those_a_tenth_beyond_the_farthest_of_training():
    x = torch.randn(4096, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    joint = Joint(**joint_range(x))
    assert not bool(beyond(joint, x).any())
    rows = summary(x)
    mean, limit = rows.mean(0), joint.limit[0]
    cov = torch.cov(rows.T, correction=0)
    distance = torch.einsum("ni,ij,nj->n", rows - mean, torch.linalg.inv(cov), rows - mean).sqrt()
    assert limit == pytest.approx(float(distance.max()), rel=1e-3)
    assert joint.mean[0] == pytest.approx(mean.tolist(), rel=1e-9)
    away = torch.ones(1, 5, dtype=F64)
    for size in torch.linspace(0.5, 4, 40).tolist():
        row = summary(size * away)
        far = float(
            torch.einsum("ni,ij,nj->n", row - mean, torch.linalg.inv(cov), row - mean).sqrt()
        )
        if abs(far / limit - 1.1) > 0.01:
            assert bool(beyond(joint, size * away)) == (far > 1.1 * limit)
    assert not bool(rare(joint, 100 * away).any())  # without a time nothing is rare
    assert joint_range(x[:63]) is None and joint_range(x[:64]) is not None


# --- shapes on grids ----------------------------------------------------------------------------
def grid(n=61, half=1.5):
    axis = torch.linspace(-half, half, n, dtype=F64)
    return torch.meshgrid(axis, axis, indexing="ij")


def disk(cx, cy, r, **sizes):
    x, y = grid(**sizes)
    return ((x - cx) ** 2 + (y - cy) ** 2).sqrt() - r


def test_features_of_disks_rings_and_pairs():
    one = disk(0.0, 0.0, 1.0)
    pair = torch.minimum(disk(-0.7, 0.0, 0.4), disk(0.7, 0.3, 0.5))
    ring = torch.maximum(one, 0.4 - (one + 1.0))
    found = features(torch.stack([one, pair, ring]), 1.5)
    assert found["components"].tolist() == [1, 2, 1] and found["holes"].tolist() == [0, 0, 1]
    assert found["inradius"].tolist() == pytest.approx([1.0, 0.5, 0.3], abs=0.03)
    assert found["size"].tolist() == pytest.approx([1.0, 1.15, 1.0], abs=0.03)
    wanted = (found["size"] / found["inradius"]).tolist()
    assert found["slender"].tolist() == pytest.approx(wanted, rel=1e-9)
    assert found["thin"].tolist() == [0, 0, 0]


def test_a_sliver_is_thin_as_far_as_no_ball_of_two_spacings_reaches():
    x, y = grid()
    strip = torch.maximum(x.abs() - 1.0, y.abs() - 0.08)  # 3.2 spacings wide
    body = disk(0.0, 0.0, 0.5)
    found = features(torch.stack([strip, body, torch.minimum(strip, body)]), 1.5)["thin"]
    assert found[0] == 1.0 and found[1] == 0.0
    inside = torch.minimum(strip, body) < 0
    arms = inside & (x.abs() > 0.65)
    assert float(found[2]) == pytest.approx(float(arms.sum() / inside.sum()), abs=0.05)


def test_what_the_range_of_an_input_is_described_by():
    value = torch.stack([torch.tensor([[2.0, 4.0], [3.0, 3.0]]), torch.full((2, 2), 5.0)])
    found = described("screening", value, 1.5)
    torch.testing.assert_close(found["variation"], torch.tensor([0.5, 0.0]), rtol=1e-6, atol=0)
    points = torch.tensor([[[0.0, 0.0], [3.0, 1.0], [1.0, -1.0]]])
    assert float(described("points", points, 1.5)["size"]) == 1.5
    cloud = torch.tensor([[-0.3, -0.7, 0.0]])
    assert float(described("distance", cloud, 1.5)["inradius"]) == pytest.approx(0.7)
    assert set(described("distance", cloud, None)) == {"value"}
    assert set(described("source", value, 1.5)) == {"value"}
    sdf = disk(0.0, 0.0, 1.0)[None]
    assert float(described("distance", sdf, 1.5)["value"].max()) == 0.0
    assert float(described("sdf", sdf, 1.5)["value"].max()) > 1.0
    assert "inradius" in described("sdf", sdf, 1.5)


def test_distances_are_told_from_other_arrays():
    fine = disk(0.2, -0.1, 0.8)[None]
    check_distance(fine, 1.5)
    for bad, said in (
        (-fine, "nowhere negative|not positive at the edge"),
        (fine.abs() + 0.1, "nowhere negative"),
        (disk(1.2, 0.0, 0.8)[None], "not positive at the edge"),
        (2 * fine, "changes by up to"),
        ((fine < 0).double() * -0.05 + 0.02, "changes by up to|does not grow"),
        (fine.clamp(-0.1, 0.1), "does not grow"),
        (0.5 * fine, "does not grow"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            check_distance(bad, 1.5)
    both = torch.cat([fine, 2 * fine])
    with pytest.raises(InvalidArgument, match=r"\(sample 1\)"):
        check_distance(both, 1.5)


def test_boundary_data_are_those_of_the_closest_point():
    x, y = grid()
    sdf = disk(0.0, 0.0, 1.0)[None]
    angle = torch.atan2(y, x)[None]
    check_boundary(sdf, torch.cos(2 * angle) + 3, 1.5)
    check_boundary(sdf, torch.full_like(sdf, 7.0), 1.5)
    for bad in (
        torch.cos(2 * angle) * (1 + 4 * sdf.clamp_max(0)),
        x[None] ** 2 - y[None] ** 2 + 3 * sdf,
    ):
        with pytest.raises(InvalidArgument, match="boundary differs by up to"):
            check_boundary(sdf, bad, 1.5)


def test_distances_of_clouds_are_at_most_those_of_boundary_points():
    angle = torch.linspace(0, 6.28, 40, dtype=F64)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    points = torch.cat([0.5 * ring, ring])[None]
    distance = torch.cat([torch.full((40,), -0.5, dtype=F64), torch.zeros(40, dtype=F64)])[None]
    check_cloud(points, distance)
    check_cloud(points, 0.7 * distance)  # a bound is one, too
    for bad, said in (
        (-distance, "distance up to 0.5"),
        (1.1 * distance, "a point farther from the boundary"),
        (distance - 0.1, "without boundary points"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            check_cloud(points, bad)


def test_no_warning_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model({"norm": (0.0, 2.0), "coordinate": (-1.0, 1.0)}).predict(torch.rand(9, 3))
