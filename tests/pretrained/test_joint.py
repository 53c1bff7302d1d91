"""Ranges of points and times together."""

import json

import pytest
import torch

from sciml.errors import PretrainedError, RangeWarning
from sciml.networks.pointwise.mlp import MLP
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.problems.evolution_box import Heat
from sciml.physics.problems.hjb import HJBLQG
from sciml.physics.problems.semilinear import SemilinearHeat
from sciml.physics.problems.unit_ball import Poisson
from sciml.physics.problems.wave import Wave
from sciml.pretrained import load_pretrained, save_pretrained, training_ranges
from sciml.pretrained.checks.joint import Joint, beyond, joint_range, judged, rare

PROBLEM = HJBLQG(dim=30)


def points(n, seed):
    found = PROBLEM.sample(n, torch.Generator().manual_seed(seed))
    return found.x, found.t


def odd(time, direction="random"):
    """Return a point with |x| = 10, which random ones of 30 dimensions reach at late times only."""
    x = (
        torch.ones(1, 30)
        if direction == "diagonal"
        else torch.randn(1, 30, generator=torch.Generator().manual_seed(5))
    )
    if direction == "diagonal":
        return 7.0 * x / x.norm(), torch.tensor([[time]])
    return 10.0 * x / x.norm(), torch.tensor([[time]])


def test_points_of_the_law_pass_and_odd_ones_do_not():
    joint = Joint(**joint_range(*points(65536, 0)))
    x, t = points(4096, 1)
    assert beyond(joint, x, t).double().mean() < 2e-4
    ranges = training_ranges(*points(65536, 0))
    for time, direction, wanted in (
        (0.02, "random", True),
        (0.95, "random", False),
        (0.5, "diagonal", True),
    ):
        x, t = odd(time, direction)
        low, high = ranges["x.norm"]
        assert low < float(x.norm()) < high and x.abs().max() < ranges["x.coordinate"][1]
        assert bool(beyond(joint, x, t)) is wanted
    assert joint_range(x, t) is None  # too few points for a covariance


def far_out(size, time, count=1):
    """Return points of random directions, all with one |x| and one time."""
    x = torch.randn(count, 30, generator=torch.Generator().manual_seed(6))
    return size * x / x.norm(dim=1, keepdim=True), torch.full((count, 1), time)


@pytest.mark.parametrize(
    ("size", "time", "wanted"),
    [
        (8.0, 0.0, True),  # chi-square of 30 degrees: one in 3000 is farther out
        (7.2, 0.0, False),  # one in 100
        (8.0, 0.3, False),
        (10.0, 0.1, True),
        (10.0, 0.9, False),
    ],
)
def test_a_common_radius_is_rare_at_another_time(size, time, wanted):
    joint = Joint(**joint_range(*points(65536, 0)))
    assert bool(rare(joint, *far_out(size, time)).all()) is wanted
    assert bool(rare(joint, *far_out(size, time, 200)).all()) is wanted
    x, t = points(512, 1)
    one, now = far_out(size, time)
    # one among many is what chance brings, five are not
    assert not rare(joint, torch.cat([x, one]), torch.cat([t, now])).any()
    many = torch.cat([x, *[one] * 5]), torch.cat([t, *[now] * 5])
    assert bool(rare(joint, *many)[-5:].all()) is wanted


@pytest.mark.parametrize(
    "problem",
    [PROBLEM, Heat(dim=4), Wave(dim=1), SemilinearHeat(dim=20)],
    ids=lambda p: type(p).__name__,
)
def test_false_alarms(problem):
    p = problem.sample(65536, torch.Generator().manual_seed(0))
    joint = Joint(**joint_range(p.x, p.t))
    p = problem.sample(16384, torch.Generator().manual_seed(1))
    assert beyond(joint, p.x, p.t).double().mean() < 2e-4
    single = joint.rare(*judged(p.x, p.t)).double().mean()
    assert single < 2e-3
    batches = [rare(joint, p.x[k::32], p.t[k::32]).any() for k in range(32)]
    assert sum(batches) <= 1
    # corners of a box are rare at any time
    if isinstance(problem, Heat | Wave):
        for time in (0.0, 0.5 * problem.final_time, problem.final_time):
            corner = torch.ones(1, problem.dim), torch.tensor([[time]])
            assert not rare(joint, *corner) and not beyond(joint, *corner)


def test_means_at_the_ends_of_time_are_those_there():
    # |x| of N(0, (1 + 2s) I) at t = 0 is chi with 30 degrees: mean 5.4317, deviation 0.7041
    joint = joint_range(*points(65536, 0))
    assert joint["mean"][0][0] == pytest.approx(5.4317, abs=0.02)
    assert joint["radius"][0] == pytest.approx(7.726, abs=0.2)  # chi quantile of 0.999


@pytest.mark.parametrize(
    "damage",
    [
        lambda j: j | {"mean": j["mean"][1:]},
        lambda j: j | {"limit": None},
        lambda j: j | {"usual": "8"},
        lambda j: {k: v for k, v in j.items() if k != "radius"},
        lambda j: [j],
        lambda j: j | {"share": 1e400},
    ],
)
def test_other_numbers_are_refused(damage):
    with pytest.raises(PretrainedError, match="joint range"):
        Joint.read(damage(joint_range(*points(2048, 0))))


def test_a_loaded_solution_warns(tmp_path):
    torch.manual_seed(0)
    arguments = {"dim": 30, "width": 8, "depth": 2, "time": True}
    solution = TrialSolution(PROBLEM, MLP(**arguments), ["x", "t"])
    x, t = points(65536, 0)
    folder = save_pretrained(
        tmp_path / "m",
        solution,
        problem={"class": "HJBLQG", "arguments": {"dim": 30}},
        network={"class": "MLP", "arguments": arguments},
        ranges=training_ranges(x, t),
        joint=joint_range(x, t),
        name="untrained",
    )
    model = load_pretrained(folder)
    with pytest.warns(
        RangeWarning, match=r"1 of 1 points.*x and t together.*\|x\| = 10 at t = 0.02"
    ):
        model.predict(*odd(0.02))
    model.predict(x[:512], t[:512])  # warnings are errors in tests
    model.predict(*far_out(7.2, 0.0))
    x, t = far_out(8.0, 0.0)
    with pytest.warns(RangeWarning, match=r"a larger \|x\| than all but one in 1000 training"):
        model.predict(x, t)
    # folders written before there was one
    spec = json.loads((folder / "model.json").read_text())
    del spec["inputs"]["x"]["joint"]
    (folder / "model.json").write_text(json.dumps(spec))
    load_pretrained(folder).predict(*odd(0.02))


def test_predictions_of_solutions_have_derivatives():
    from sciml.pretrained import PretrainedPINN

    torch.manual_seed(0)
    solution = TrialSolution(Poisson(dim=3), MLP(dim=3, width=8, depth=2), ["x"]).double()
    model = PretrainedPINN(solution, {"inputs": {"x": {}}})
    x = (0.3 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model.predict(x)["value"], x)
    assert torch.autograd.gradcheck(lambda x: model.predict(x)["gradient"], x)
    assert not model.predict(x.detach())["gradient"].requires_grad


def test_the_range_is_the_same_to_the_last_bit_whatever_memory_held():
    x, t = points(4096, 0)
    found = []
    for k in range(40):  # what is freed here is what a solver that sets nothing would start from
        dirty = [torch.full((n,), k % 5 - 1, dtype=torch.int32) for n in range(1, 60)]
        del dirty
        found.append(joint_range(x, t))
    assert all(f == found[0] for f in found)
