"""Points outside the domain of a system are counted and warned of."""

from __future__ import annotations

import warnings

import pytest
import torch

from sciml.errors import RangeWarning
from sciml.physics.systems import Disk, Rectangle, Time
from sciml.physics.systems import points_outside as module
from sciml.physics.systems.points_outside import points_outside, warn_outside

PLATE = (Rectangle((0, 0), (2, 1)) - Disk((1, 0.5), 0.25, name="hole")) * Time(0, 3)


def test_points_in_holes_beyond_and_before_are_counted(monkeypatch) -> None:
    inside = [[0.1, 0.1, 0.0], [2.0, 1.0, 3.0], [1.25, 0.5, 1.0]]  # with the boundary
    beyond = [[3, -2, 1], [1, 0.5, 1], [0.1, 0.1, -0.5], [0.1, 0.1, 4], [float("nan"), 0.1, 1]]
    points = torch.tensor(inside + beyond, dtype=torch.float64)
    assert points_outside(PLATE, points) == 5
    assert points_outside(PLATE, points.float()) == 5
    assert points_outside(PLATE, points[:0]) == 0
    monkeypatch.setattr(module, "CHUNK", 2)
    assert points_outside(PLATE, points) == 5


def test_one_warning_names_how_many_and_the_line_that_asked() -> None:
    points = torch.tensor([[3.0, -2.0, 1.0], [0.1, 0.1, 1.0]], dtype=torch.float64)

    def solution() -> None:
        warn_outside(PLATE, points)

    with pytest.warns(RangeWarning, match=r"1 of 2 points .*x from 0 to 2.*cut out") as found:
        solution()
    assert len(found) == 1 and found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_outside(PLATE, points[1:])
    with pytest.warns(RangeWarning, match=r"t from 0 to 1\): no equation"):
        warn_outside(Time(0, 1), torch.tensor([[2.0]]))
