"""Ranges of points and times together."""

import json

import pytest
import torch

from sciml.errors import RangeWarning
from sciml.networks.mlp import MLP
from sciml.networks.trial import TrialSolution
from sciml.physics.ball import Poisson
from sciml.physics.hjb import HJBLQG
from sciml.pretrained import load_pretrained, save_pretrained, training_ranges
from sciml.pretrained.joint import beyond, joint_range

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
        return 5.5 * x / x.norm(), torch.tensor([[time]])
    return 10.0 * x / x.norm(), torch.tensor([[time]])


def test_points_of_the_law_pass_and_odd_ones_do_not():
    joint = joint_range(*points(8192, 0))
    x, t = points(4096, 1)
    assert beyond(joint, x, t).double().mean() < 2e-3
    ranges = training_ranges(*points(8192, 0))
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


def test_a_loaded_solution_warns(tmp_path):
    torch.manual_seed(0)
    arguments = {"dim": 30, "width": 8, "depth": 2, "time": True}
    solution = TrialSolution(PROBLEM, MLP(**arguments), ["x", "t"])
    x, t = points(8192, 0)
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
