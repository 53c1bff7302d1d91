"""Pictures of operators on files: their axes, and which fields and channels they show."""

from types import SimpleNamespace

import numpy as np
import pytest

from sciml.modules.evaluation.operator_pictures import pictures

X, Y, T = np.linspace(0, 1, 5), np.linspace(2, 3, 3), np.arange(6) * 0.5
FILES = SimpleNamespace(axis=lambda k: (X, Y)[k], times=T)


def fields(dim, history=1, bundle=0, channels=1):
    out = SimpleNamespace(name="u", sizes={"c": channels})
    a = SimpleNamespace(name="a")
    return SimpleNamespace(dim=dim, inputs=[a], outputs=[out], history=history, bundle=bundle)


def sample(*shape):
    draw = np.random.default_rng(0)
    return tuple(draw.normal(size=shape) for _ in range(3))


def test_pictures_of_planes_have_their_points_in_the_middle_of_pixels():
    """Five pixels of 0.25 around 0 to 1, three of 0.5 around 2 to 3."""
    packed, target, prediction = sample(1, 5, 3)
    (row,) = pictures(fields(2), FILES, [(packed, target, prediction)], {}, None)["fields"]
    assert row["extent"] == pytest.approx([-0.125, 1.125, 1.75, 3.25])
    assert (row["xlabel"], row["ylabel"], row["symbol"]) == ("x", "y", "u")
    np.testing.assert_array_equal(row["reference"], target[0].T)
    np.testing.assert_array_equal(row["prediction"], prediction[0].T)
    np.testing.assert_array_equal(row["inputs"]["input a"], packed[0].T)


@pytest.mark.parametrize(("bundle", "low", "high"), [(0, 0.75, 2.75), (2, 0.25, 2.25)])
def test_pictures_of_lines_in_time_have_the_times_of_their_states(bundle, low, high):
    """Without a roll-out the last four of the six times, in it those after the first."""
    one = sample(4, 5)
    (row,) = pictures(fields(1, bundle=bundle), FILES, [one], {}, None)["fields"]
    assert row["extent"] == pytest.approx([-0.125, 1.125, low, high])
    assert (row["xlabel"], row["ylabel"]) == ("x", "t")
    np.testing.assert_array_equal(row["reference"], one[1])
    several = pictures(fields(1, channels=4), FILES, [one], {}, None)["fields"][0]
    assert "extent" not in several and several["ylabel"] == "channel"


def test_pictures_of_a_single_point_are_one_wide():
    files = SimpleNamespace(axis=lambda k: (X, np.array([4.0]))[k], times=None)
    (row,) = pictures(fields(2), files, [sample(1, 5, 1)], {}, None)["fields"]
    assert row["extent"] == pytest.approx([-0.125, 1.125, 3.5, 4.5])
