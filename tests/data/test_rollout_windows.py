"""Windows of trajectories: what the coarse solver reaches, what it lacks, and who takes which."""

from types import SimpleNamespace

import pytest
import torch

from sciml.data import FieldFiles, PointData, RolloutData
from sciml.data.epochs import epoch_places
from sciml.data.files.grids import grid_kinds, looks_periodic, places
from sciml.data.files.statistics import Moments, check_finite, spread
from sciml.data.trajectories.coarse_trajectories import on_grid_of
from sciml.errors import InvalidArgument
from sciml.physics.fluids.loops import Loop
from sciml.physics.systems import Initial, Interval, On, System, Time
from sciml.testing import small_files as small

F64 = torch.float64


class Doubling(Loop):
    """u <- 2 u + f, while the truth grows by a factor of three."""

    channels, external, periodic = 2, 1, True

    def step(self, state, external):
        """Return the state a step later."""
        return 2 * state + external

    def reference(self, count, steps, seed):
        """Return random states and forces."""
        draw = torch.Generator().manual_seed(seed)
        states = torch.randn(count, steps + 1, 2, 3, 4, generator=draw, dtype=F64)
        states[:, :, 1] *= 10
        force = torch.randn(count, steps, 1, 3, 4, generator=draw, dtype=F64)
        return {"states": states, "external": 5 * force}


def rollouts(**options):
    settings = {"train": 3, "val": 2, "test": 1, "steps": 7, "window": 3, "batch_size": 4}
    return RolloutData(problem=Doubling(), **{**settings, **options})


@pytest.mark.parametrize("restart", [0, 1, 3])
def test_the_uncorrected_solver_starts_again_from_the_reference(restart):
    known = rollouts(restart=restart).sets["train"]
    u = known["states"][:, 0]
    for k in range(8):
        if restart and k % restart == 0:
            u = known["states"][:, k]
        torch.testing.assert_close(known["source"][:, k], u, rtol=1e-12, atol=0)
        if k < 7:
            u = 2 * u + known["external"][:, k]


def test_scales_are_those_of_the_training_trajectories():
    data = rollouts()
    known = data.sets["train"]
    lacking = known["states"][:, 1:] - 2 * known["states"][:, :-1] - known["external"]
    found = data.sizes
    for c in range(2):
        assert found["scale"][c] == pytest.approx(float(known["states"][:, :, c].std()), rel=1e-9)
        wanted = float(lacking[:, :, c].square().mean().sqrt())
        assert found["correction_scale"][c] == pytest.approx(wanted, rel=1e-9)
    wanted = float(known["external"].square().mean().sqrt())
    assert found["external_scale"] == [pytest.approx(wanted, rel=1e-9)]
    assert (found["channels"], found["external"], found["periodic"]) == (2, 1, True)


def test_windows_follow_each_other_in_time_and_every_one_is_seen():
    data, known = rollouts(), rollouts().sets["train"]
    seen = set()
    for step in range(15):  # 3 trajectories of 5 windows in batches of 4
        batch = data.batch(step)
        assert batch.count == 4 and batch.target.shape == (4, 3, 2, 3, 4)
        for row in range(4):
            where = (known["states"] == batch.inputs["state"][row]).flatten(2).all(2).nonzero()
            ((run, first),) = where.tolist()
            assert torch.equal(batch.target[row], known["states"][run, first + 1 : first + 4])
            assert torch.equal(
                batch.inputs["external"][row], known["external"][run, first : first + 3]
            )
            assert torch.equal(batch.inputs["source"][row], known["source"][run, first])
            seen.add((run, first))
    assert seen == {(run, first) for run in range(3) for first in range(5)}
    two = [rollouts().batch(0, rank, 2) for rank in range(2)]
    both = torch.cat([b.inputs["state"] for b in two])
    one = torch.cat([rollouts().batch(step).inputs["state"] for step in range(2)])
    assert torch.equal(both, one) and two[0].count == 8


def test_validation_and_test_are_whole_trajectories():
    data = rollouts()
    for chunk, part, count in ((data.val_chunk(0), "val", 2), (data.test_chunk(0), "test", 1)):
        known = data.sets[part]
        assert chunk.part == part and chunk.count == count
        assert torch.equal(chunk.inputs["state"], known["states"][:, 0])
        assert torch.equal(chunk.inputs["external"], known["external"])
        assert torch.equal(chunk.target, known["states"][:, 1:])
    assert data.val_chunks == data.test_chunks == 1
    parts = [data.sets[p]["states"][0, 0] for p in ("train", "val", "test")]
    assert not torch.equal(parts[0], parts[1]) and not torch.equal(parts[1], parts[2])


def test_windows_that_cannot_be_are_refused():
    for bad in ({"steps": 2}, {"restart": -1}, {"window": 0}, {"train": 0}, {"batch_size": 0}):
        with pytest.raises(InvalidArgument):
            rollouts(**bad)
    assert rollouts(steps=3).batch(0).target.shape[1] == 3  # one window


# --- orders -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "batch", "world"), [(10, 3, 1), (10, 3, 2), (7, 7, 3), (5, 12, 2)])
def test_an_epoch_is_a_permutation_that_ranks_share(n, batch, world):
    steps = -(-4 * n // (batch * world))
    every = torch.cat([
        epoch_places(3, n, batch, step, rank, world)
        for step in range(steps)
        for rank in range(world)
    ])  # fmt: skip
    orders = every[: 4 * n].view(4, n)
    for order in orders:
        assert sorted(order.tolist()) == list(range(n))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], epoch_places(4, n, n, 0, 0, 1))


# --- grids of files -----------------------------------------------------------------------------
def test_coordinates_of_the_three_kinds():
    assert places(4, "left").tolist() == [0.0, 0.25, 0.5, 0.75]
    assert places(5, "both").tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert places(4, "cells").tolist() == [0.125, 0.375, 0.625, 0.875]
    assert places(1, "both").tolist() == [0.0]


def test_kinds_are_told_by_coordinates_and_by_where_fields_vanish():
    n = 9
    value = torch.rand(20, 1, n, n, dtype=F64) + 1
    nodes, cells = torch.arange(n).numpy() / (n - 1), (torch.arange(n).numpy() + 0.5) / n
    assert grid_kinds({"x": nodes, "y": cells}, [n, n], value, False, None) == ["both", "cells"]
    assert grid_kinds({}, [n, n], value, True, None) == ["left", "left"]
    assert grid_kinds({}, [n, n], value, False, "both") == ["both", "both"]
    assert grid_kinds({}, [n, n], value, False, None) == ["cells", "cells"]
    value[:, :, 0] = 0.0
    assert grid_kinds({}, [n, n], value, False, None) == ["left", "cells"]
    value[:, :, :, [0, -1]] = 0.01  # a hundredth of the rest
    assert grid_kinds({}, [n, n], value, False, None) == ["left", "both"]


def test_what_looks_periodic():
    x = torch.from_numpy(small.smooth(40, 16, 12))[:, None]
    assert looks_periodic(x)
    assert not looks_periodic(x[:7])  # too few to tell
    assert not looks_periodic(x[:, :, :3])
    assert not looks_periodic(x[:, :, :9]) or not looks_periodic(x[:, :, :, :7])
    ramp = torch.linspace(0, 1, 16, dtype=F64)[:, None]
    assert not looks_periodic(x + 20 * ramp * torch.randn(40, 1, 1, 1, dtype=F64))
    assert not looks_periodic(x * (1 + 2 * (ramp - 0.5).abs()))  # one place is unlike the others


def test_moments_are_those_of_everything_at_once():
    values = 1e6 + torch.randn(9, 2, 5, dtype=F64) * torch.tensor([1.0, 3.0])[:, None].double()
    moments = Moments()
    for part in values.split([4, 4, 1]):
        moments.add(part)
    flat = values.movedim(1, 0).flatten(1)
    torch.testing.assert_close(moments.mean, flat.mean(1), rtol=1e-14, atol=0)
    torch.testing.assert_close(moments.std, flat.std(1, correction=0), rtol=1e-9, atol=0)
    torch.testing.assert_close(moments.size, flat.square().mean(1).sqrt(), rtol=1e-14, atol=0)
    assert torch.equal(moments.low, flat.amin(1)) and torch.equal(moments.high, flat.amax(1))
    assert moments.constant() == []


def test_constant_channels_are_divided_by_one_and_told():
    moments, notes = Moments(), []
    value = torch.randn(4, 3, 6, dtype=F64)
    value[:, 1] = -7.0
    moments.add(value)
    found = spread(moments, lambda k: f"channel {k}", notes)
    assert found[1] == 1.0 and notes == ["channel 1 is -7 in all training samples"]
    assert found[0] == pytest.approx(float(value[:, 0].std(correction=0)))


def test_numbers_that_are_none_are_named_with_their_row():
    value = torch.zeros(3, 2, 4)
    check_finite("u", value, [5, 6, 7], "f.npz")
    value[1, 0, 3], value[2] = float("inf"), float("nan")
    with pytest.raises(InvalidArgument) as caught:
        check_finite("u", value, [5, 6, 7], "f.npz")
    said = str(caught.value)
    assert "f.npz: u[6, 0, 3] is inf, as are 9 numbers in 2 of the 3 samples" in said
    assert "data.skip=[6]" in said
    check_finite("n", torch.zeros(3, dtype=torch.int64), [0, 1, 2], "f.npz")


# --- files on the grid of a problem -------------------------------------------------------------
def problem_on(x, times=(0.0,), period=None):
    return SimpleNamespace(
        grids=(x,), times=torch.tensor(times), periods=(period,), channels=("a",)
    )


def file_on(x, times=(0.0,)):
    shape = len(times), len(x)
    values = x.double() * 10 + torch.tensor(times, dtype=F64)[:, None]
    inputs = (100 * x.double())[None, None]
    values = values.expand(1, *shape)
    return SimpleNamespace(inputs=inputs, values=values, grids=(x,), times=torch.tensor(times))


def test_fields_of_a_finer_file_are_thinned_or_averaged():
    nodes = torch.linspace(0, 1, 5, dtype=F64)
    inputs, values = on_grid_of(problem_on(nodes), file_on(torch.linspace(0, 1, 9)), "f")
    torch.testing.assert_close(inputs[0, 0], 100 * nodes, rtol=1e-6, atol=0)
    torch.testing.assert_close(values[0, 0], 10 * nodes, rtol=1e-6, atol=0)
    cells = (torch.arange(4, dtype=F64) + 0.5) / 4
    fine = (torch.arange(12, dtype=F64) + 0.5) / 12
    inputs, values = on_grid_of(problem_on(cells), file_on(fine), "f")
    assert values.shape == (1, 1, 4) and inputs.dtype == F64
    torch.testing.assert_close(values[0, 0], 10 * cells, rtol=1e-12, atol=0)


def test_times_are_thinned_and_never_averaged():
    x = torch.linspace(0, 1, 4, dtype=F64)
    problem = problem_on(x, (0.0, 0.2, 0.4))
    _, values = on_grid_of(problem, file_on(x, (0.0, 0.1, 0.2, 0.3, 0.4)), "f")
    torch.testing.assert_close(values[0, :, 0], torch.tensor([0.0, 0.2, 0.4]).double(), rtol=1e-6,
                               atol=1e-7)  # fmt: skip
    with pytest.raises(InvalidArgument, match="with 6 times from 0 to 0.5"):
        between = problem_on(x, (0.05, 0.25, 0.45))  # means of two would fall there
        on_grid_of(between, file_on(x, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)), "f")


def test_periodic_grids_may_be_shifted_and_others_may_not():
    x = torch.arange(4, dtype=F64) / 4
    _, values = on_grid_of(problem_on(x, period=1.0), file_on(x + 0.1), "f")
    torch.testing.assert_close(values[0, 0], 10 * (x + 0.1), rtol=1e-12, atol=0)
    with pytest.raises(InvalidArgument, match="x coordinates from 0.1 to 0.85"):
        on_grid_of(problem_on(x), file_on(x + 0.1), "f")
    on_grid_of(problem_on(x), file_on(x + 1e-5), "f")  # as float32 has them
    with pytest.raises(InvalidArgument):
        on_grid_of(problem_on(x), file_on(x + 1e-4), "f")
    two = SimpleNamespace(grids=(x, x), times=torch.zeros(1), periods=(None, None), channels=("a",))
    with pytest.raises(InvalidArgument, match="1 directions of space and 1 input"):
        on_grid_of(two, file_on(x), "f")


# --- files of fields ----------------------------------------------------------------------------
def test_noise_is_a_share_of_the_spread_of_every_input(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=40, n=16)
    plain = FieldFiles(path=str(path), batch_size=32)
    noisy = FieldFiles(path=str(path), batch_size=32, noise=0.25)
    a, b = (d.batch(2) for d in (plain, noisy))
    kick = (b.inputs["x"] - a.inputs["x"]) / plain.sizes["fields"]["std"][0]
    assert float(kick.std()) == pytest.approx(0.25, rel=0.05)
    assert abs(float(kick.mean())) < 0.02 and torch.equal(a.target, b.target)
    other = FieldFiles(path=str(path), batch_size=32, noise=0.25).batch(2, 1, 2)
    assert not torch.equal(other.inputs["x"], b.inputs["x"])


def test_axes_are_the_coordinates_of_training(tmp_path):
    path = small.pairs(tmp_path / "a.npz", count=20, n=16)
    data = FieldFiles(path=str(path), periodic=True, subsample=2)
    for k in (0, 1):
        assert data.axis(k).tolist() == [i / 8 for i in range(8)]
    path = small.pairs(
        tmp_path / "b.npz", count=20, n=16, **{"x-coordinate": 3.0 + torch.arange(16).numpy() / 5}
    )
    data = FieldFiles(path=str(path), inputs=["x"], outputs=["y"], subsample=4)
    assert len(data.axis(0)) == 4


def test_horizons_end_evaluations_early(tmp_path):
    path = small.trajectories(tmp_path / "u.npz", count=12, times=8)
    for horizon, states in ((None, 6), (2, 4), (99, 6)):
        data = FieldFiles(path=str(path), history=1, bundle=2, horizon=horizon)
        assert data.val_chunk(0).target.shape[1] == states
    assert FieldFiles(path=str(path), history=7).calls == 1
    with pytest.raises(InvalidArgument, match="with 8 times"):
        FieldFiles(path=str(path), history=8)


# --- points of systems --------------------------------------------------------------------------
class Line(System):
    """Something on an interval."""

    domain = Interval(0, 2) * Time(0, 1)
    conditions = {"start": Initial(u=0), "ends": On(domain.boundary, u=1, points=6)}

    def residual(self, u):
        """Return something."""
        return u.t - u.xx


def test_points_are_counted_over_ranks_and_drawn_apart():
    data = PointData(problem=Line(), points=32, condition_points=10, candidates=3, val_points=21)
    one, again, other = data.batch(4, 0, 2), data.batch(4, 0, 2), data.batch(4, 1, 2)
    assert len(one.points.x) == 96 and one.counts == {"interior": 64, "start": 20, "ends": 12}
    assert torch.equal(one.points.x, again.points.x)
    assert not torch.equal(one.points.x, other.points.x)
    assert not torch.equal(one.conditions["start"].x, other.conditions["start"].x)
    assert (
        len(data.val_batch(0, 2).points.x) == 10 and data.val_batch(0, 2).counts["interior"] == 20
    )
    assert torch.equal(data.val_batch().points.x, data.val_batch().points.x)
    spread = [PointData(problem=Line(), points=64, even=even).batch(0).points.x[:, 0].sort().values
              for even in (True, False)]  # fmt: skip
    gaps = [float(x.diff().max()) for x in spread]
    assert gaps[0] < 0.1 < gaps[1]  # evenly: no gap much wider than 2 / 64
    for bad in ("points", "condition_points", "val_points", "candidates", "fixed_for", "modes"):
        with pytest.raises(InvalidArgument, match=f"data.{bad}=0"):
            PointData(problem=Line(), **{bad: 0})
