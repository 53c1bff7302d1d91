"""Damped Gauss-Newton steps: exact on linear residuals, never uphill, and only with a direction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm, total_loss
from sciml.optim.full.damped_gauss_newton import LevenbergMarquardt
from sciml.optim.full.gauss_newton_system import gram


def stepped(optimizer, terms) -> float:
    objective = Objective(terms)
    optimizer.update_curvature(objective)
    optimizer.step()
    return float(total_loss(terms()).detach())


def test_a_linear_problem_is_solved_as_the_damping_falls() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1).double()
    x, y = torch.randn(20, 3).double(), torch.randn(20).double()

    def terms():
        return [LossTerm("fit", layer(x)[:, 0] - y, 2.0, 20)]

    optimizer = LevenbergMarquardt(layer)
    for _ in range(6):
        stepped(optimizer, terms)
    a = torch.cat([x, torch.ones(20, 1).double()], 1)
    wanted = torch.linalg.lstsq(a, y[:, None]).solution[:, 0]
    found = torch.cat([layer.weight[0], layer.bias]).detach()
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
    assert optimizer.memory["damping"] < 1e-3


def test_a_step_uphill_is_taken_back_and_damped() -> None:
    p = nn.Parameter(torch.tensor([3.0]).double())
    losses = []

    def terms():  # Gauss-Newton steps of arctan overshoot from 3
        return [LossTerm("bend", torch.atan(p), 1.0, 1)]

    optimizer = LevenbergMarquardt([p], damping=1e-6, rise=10.0)
    for _ in range(8):
        losses.append(stepped(optimizer, terms))
    assert all(b <= a for a, b in zip(losses, losses[1:], strict=False))
    assert losses[-1] < 1e-10 < losses[0]


def test_bad_settings_and_a_missing_direction_are_refused() -> None:
    p = nn.Parameter(torch.zeros(1))
    with pytest.raises(InvalidArgument, match="fall < 1 < rise"):
        LevenbergMarquardt([p], rise=0.5)
    with pytest.raises(InvalidArgument, match="update_curvature"):
        LevenbergMarquardt([p]).step()


def test_the_gram_matrix_by_blocks_is_the_product() -> None:
    dense = torch.randn(40, 301, generator=torch.Generator().manual_seed(0)).double()
    found = gram(dense)
    torch.testing.assert_close(found, dense.t() @ dense, rtol=1e-12, atol=1e-12)
    # what is computed once is mirrored; products on the diagonal are symmetric to round-off
    torch.testing.assert_close(found, found.t(), rtol=1e-13, atol=1e-13)


def test_acceleration_follows_a_bent_valley_in_fewer_steps() -> None:
    def steps(acceleration: float) -> int:
        p = nn.Parameter(torch.tensor([-1.2, 1.0]).double())

        def terms():  # Rosenbrock's valley
            return [LossTerm("valley", torch.stack([1000 * (p[1] - p[0] ** 2), 1 - p[0]]), 1.0, 2)]

        optimizer = LevenbergMarquardt([p], damping=1e-3, acceleration=acceleration)
        for k in range(100):
            if stepped(optimizer, terms) < 1e-16:
                return k
        return 100

    assert steps(0.75) < 0.7 * steps(0.0)


def test_the_second_order_part_of_a_step_is_that_of_the_residual() -> None:
    p = nn.Parameter(torch.tensor([0.3]).double())
    optimizer = LevenbergMarquardt([p], damping=1e-12, acceleration=10.0)
    stepped(optimizer, lambda: [LossTerm("square", p**2 - 1 + p, 1.0, 1)])
    slope, value = 1 + 2 * 0.3, 0.3**2 - 1 + 0.3
    first = -value / slope
    second = -2 * first**2 / slope
    assert float(p.detach()) == pytest.approx(0.3 + first + second / 2, rel=1e-6)
