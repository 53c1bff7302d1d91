"""Lengths found along analytic functions."""

import math

import pytest
import torch

from sciml.optim.line_search import HALVINGS, Point, halvings, strong_wolfe

# name: (phi, phi')
FUNCTIONS = {
    "quadratic": (lambda a: (a - 3.0) ** 2, lambda a: 2 * (a - 3.0)),
    "far": (lambda a: (a / 1e4 - 1.0) ** 2, lambda a: 2e-4 * (a / 1e4 - 1.0)),
    "near": (lambda a: (1e5 * a - 1.0) ** 2, lambda a: 2e5 * (1e5 * a - 1.0)),
    # Moré and Thuente 1994, functions 5.1 and 5.2
    "rational": (lambda a: -a / (a * a + 2), lambda a: (a * a - 2) / (a * a + 2) ** 2),
    "flat then steep": (
        lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
        lambda a: 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3,
    ),
}


@pytest.mark.parametrize("c2", [0.9, 0.1])
@pytest.mark.parametrize("first", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_both_conditions_hold_where_a_length_is_found(name, first, c2):
    phi, slope = FUNCTIONS[name]
    seen = []

    def evaluate(a):
        seen.append(a)
        return phi(a), slope(a), a

    if name == "flat then steep" and c2 == 0.1:
        pytest.skip("the slope asked for is below the rounding of the loss")
    start = Point(0.0, phi(0.0), slope(0.0))
    search = strong_wolfe(evaluate, start, first=first, c2=c2, limit=40)
    a = search.point.length
    assert search.found and search.lower and search.reason == ""
    assert search.evaluations == len(seen) <= 30
    assert search.point.extra == a
    assert phi(a) <= phi(0.0) + 1e-4 * a * slope(0.0)
    assert abs(slope(a)) <= c2 * abs(slope(0.0))


def test_cubic_interpolation_is_exact_on_a_cubic():
    def evaluate(a):
        return a**3 - 3 * a, 3 * a * a - 3, None

    search = strong_wolfe(evaluate, Point(0.0, 0.0, -3.0), first=1.9, c2=0.1)
    assert search.evaluations == 2
    assert search.point.length == pytest.approx(1.0, abs=1e-12)


def test_a_loss_that_is_not_finite_is_a_wall():
    def evaluate(a):
        if a >= 1:
            return math.nan, math.nan, None
        return -2 * a - math.log(1 - a), -2 + 1 / (1 - a), None

    search = strong_wolfe(evaluate, Point(0.0, 0.0, -1.0), first=64.0, c2=0.5)
    assert search.found and 0 < search.point.length < 1


def test_why_nothing_was_found():
    start = Point(0.0, 1.0, 1.0)
    search = strong_wolfe(lambda a: (0.0, 0.0, None), start)
    assert not search.found and not search.lower and "downhill" in search.reason
    rising = strong_wolfe(lambda a: (1 + a, 1.0, None), Point(0.0, 1.0, -1.0), limit=12)
    assert not rising.found and not rising.lower and "12 evaluations" in rising.reason
    # without end: the furthest point tried is lower, but not a Wolfe point
    endless = strong_wolfe(lambda a: (-a, -1.0, "kept"), Point(0.0, 0.0, -1.0), limit=5)
    assert not endless.found and endless.lower and endless.point.extra == "kept"
    assert endless.point.length == 1e4


def test_halvings_find_the_best_of_the_grid():
    def loss_at(a):
        return torch.tensor((a - 0.1) ** 2, dtype=torch.float64)

    start = loss_at(0.0)
    for stop_early in (True, False):
        length, loss, used = halvings(loss_at, start, stop_early=stop_early)
        assert length == 0.125 and loss == loss_at(0.125)
        assert used == (5 if stop_early else HALVINGS + 1)
    for stop_early in (True, False):
        length, loss, _ = halvings(lambda a: start + a, start, stop_early=stop_early)
        assert length == 0.0 and loss == start


def test_halvings_pass_over_losses_that_are_not_finite():
    def loss_at(a):
        return torch.tensor(math.nan if a > 0.3 else (a - 0.2) ** 2, dtype=torch.float64)

    for stop_early in (True, False):
        length, _, _ = halvings(loss_at, loss_at(0.0), stop_early=stop_early)
        assert length == 0.25
