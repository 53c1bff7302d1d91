"""Domains that users write: shapes of what they return are refused by name."""

import math

import pytest
import torch

from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry.domain import Boundary, Domain
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.pretrained import load_pretrained

torch.set_num_threads(1)
POINTS = torch.tensor([[[0.3, 0.2], [0.5, 0.0], [0.0, 0.1]]])


class Disk(Domain):
    """The unit disk."""

    def __init__(self):
        super().__init__(1, 2)

    def level(self, x, i):
        return x.square().sum(0).sqrt() - 1

    def nearest(self, x, i):
        return x / x.square().sum(0).sqrt()

    def bounds(self):
        return -torch.ones(1, 2), torch.ones(1, 2)

    def sample_boundary(self, n, generator, dtype=torch.float32):
        angle = 2 * math.pi * torch.rand(1, n, generator=generator, dtype=dtype)
        x = torch.stack([angle.cos(), angle.sin()], -1)
        return Boundary(x, x, torch.full((1, n), 2 * math.pi / n, dtype=dtype))


def walk(domain):
    problem = Dirichlet(boundary=lambda x, i: x[0])
    return WalkOnSpheres(walks=256)(domain, problem, POINTS, torch.Generator().manual_seed(0)).mean


WRONG = {
    "level column": ("level", lambda self, x, i: (x.norm(dim=0) - 1)[:, None], r"\(3, 1\)"),
    "level row": ("level", lambda self, x, i: x.norm(dim=0, keepdim=True) - 1, r"\(1, 3\)"),
    "level of all": ("level", lambda self, x, i: x.norm() - 1, r"shape \(\)"),
    "level mask": ("level", lambda self, x, i: x.norm(dim=0) < 1, "bool"),
    "gap column": ("gap", lambda self, x, i: (1 - x.norm(dim=0))[:, None], r", 1\)"),
    "nearest rows": ("nearest", lambda self, x, i: (x / x.norm(dim=0)).T, r"result.t\(\)"),
    "nearest one": ("nearest", lambda self, x, i: torch.eye(2)[:, :1], r"\(2, 1\)"),
    "nearest numpy": ("nearest", lambda self, x, i: (x / x.norm(dim=0)).numpy(), "ndarray"),
    "land rows": ("land", lambda self, x, i: (x / x.norm(dim=0)).T, r"result.t\(\)"),
}


def test_a_domain_of_ones_own_walks():
    # standard deviation of x on the circle over the root of 256 walks: 0.044
    assert torch.allclose(walk(Disk())[0], POINTS[0, :, 0].double(), rtol=0.0, atol=0.12)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shapes_of_a_domain_are_refused(name):
    method, function, message = WRONG[name]
    with pytest.raises((InvalidArgument, InvalidType), match=rf"Mine.{method}\(\).*{message}"):
        walk(type("Mine", (Disk,), {method: function})())


def doubled(self, x, i):
    return 2 * (x.square().sum(0).sqrt() - 1)


CONTRADICTING = {
    "nearest nan": ("nearest", lambda self, x, i: math.nan * x, r"nearest\(\) is not finite"),
    "nearest far": ("nearest", lambda self, x, i: 0 * x + 7, r"level\(\) is not zero at nearest"),
    "nearest inside": ("nearest", lambda self, x, i: 1 * x, r"level\(\) is not zero at nearest"),
    "level nan": (
        "level",
        lambda self, x, i: math.nan * x[0],
        r"level\(\) is not finite at 3 of 3",
    ),
    "level too large": ("level", doubled, r"level\(\) exceeds the distance"),
    "gap zero": ("gap", lambda self, x, i: 0 * x[0], r"gap\(\) is no number from 0"),
    "land nan": ("land", lambda self, x, i: math.nan * x, r"land\(\) is not finite"),
    "bounds small": (
        "bounds",
        lambda self: (torch.full((1, 2), -0.6), torch.full((1, 2), 0.6)),
        r"bounds\(\) leaves nearest\(\) outside",
    ),
    "bounds swapped": ("bounds", lambda self: Disk.bounds(self)[::-1], r"bounds\(\) of no extent"),
    "bounds list": ("bounds", lambda self: ([-1, -1], [1, 1]), r"bounds\(\) returned a list"),
    "bounds None": ("bounds", lambda self: None, r"bounds\(\) returned a NoneType"),
}


@pytest.mark.parametrize("name", CONTRADICTING)
def test_methods_that_contradict_each_other_are_refused(name):
    """Walks would believe them: from the first two the answer was NaN, and 7."""
    method, function, message = CONTRADICTING[name]
    with pytest.raises((InvalidArgument, InvalidType), match=rf"Mine.{message}"):
        walk(type("Mine", (Disk,), {method: function})())


@pytest.mark.filterwarnings("ignore::sciml.errors.RangeWarning")
def test_an_operator_is_verified_on_a_domain_of_ones_own():
    """It cannot be repeated for the worst points; 28 columns are no 28 coefficients."""
    operator, problem = load_pretrained("wos_poisson2d"), Dirichlet(lambda x, i: x[0])
    for points in (8, 28):
        found = operator.verify(Disk(), problem, points=points, walks=4)
        assert found.rel_l2.high < 0.1 and len(found.worst) > 0


@pytest.mark.parametrize("call", ["signed_distance", "inside"])
def test_points_of_users_pass_the_same_check(call):
    mine = type("Mine", (Disk,), {"level": lambda self, x, i: x.norm(dim=0)[:, None] - 1})()
    with pytest.raises(InvalidArgument, match="Mine.level"):
        getattr(mine, call)(POINTS)
