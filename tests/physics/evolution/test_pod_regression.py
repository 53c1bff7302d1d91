"""Reduced bases of solutions, and interpolation in the parameter."""

import pytest
import torch

from sciml.errors import InvalidArgument
from sciml.physics.evolution import DiffusionSorption, Heat, PODRegression, pod_modes
from sciml.physics.evolution.pod_interpolation import LENGTHS, matern


def family(count, seed=0):
    problem = DiffusionSorption(32, time_count=6, rtol=1e-6, atol=1e-8)
    inputs = problem.sample(count, torch.Generator().manual_seed(seed))
    return inputs, problem.solve(inputs).value


def median(points):
    gap = torch.cdist(points, points)
    return gap[gap > 0].median()


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def test_modes_are_those_of_the_covariance():
    values = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    modes, singular = pod_modes(values, 2)
    flat = modes.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(2).double(), rtol=0, atol=1e-14)
    size, directions = torch.linalg.eigh(values.flatten(1).T @ values.flatten(1))
    torch.testing.assert_close(singular[:2].square(), size[-2:].flip(0), rtol=1e-12, atol=0)
    overlap = (flat @ directions[:, -2:].flip(1)).abs()
    torch.testing.assert_close(overlap, torch.eye(2).double(), rtol=0, atol=1e-10)


def test_a_family_with_one_parameter_needs_no_network():
    inputs, values = family(12)
    asked, wanted = family(6, seed=1)
    found = PODRegression(inputs, values, 4)
    best = torch.tensordot(found.project(wanted), found.modes, 1)
    assert relative(best, wanted) < 3e-4  # what four modes can represent
    assert relative(found.predict(asked), wanted) < 3e-3
    # where it knows the answer it interpolates, up to the modes left out
    fit = torch.tensordot(found.project(values), found.modes, 1)
    torch.testing.assert_close(found.predict(inputs), fit, rtol=0, atol=1e-5)


def test_the_length_is_the_one_that_predicts_what_is_left_out():
    inputs, values = family(9)
    found = PODRegression(inputs, values, 3)
    coefficients = found.project(values)
    misses = []
    for length in LENGTHS:
        length = length * median(found.known)
        missed = 0.0
        for i in range(9):
            rest = [j for j in range(9) if j != i]
            gap = torch.cdist(found.known, found.known)
            kernel = matern(gap, length) + 1e-10 * torch.eye(9).double()
            weights = torch.linalg.solve(kernel[rest][:, rest], coefficients[rest] - found.mean)
            prediction = found.mean + kernel[i, rest] @ weights
            missed += float((prediction - coefficients[i]).square().sum())
        misses.append(missed)
    best = LENGTHS[misses.index(min(misses))] * median(found.known)
    torch.testing.assert_close(found.length, best, rtol=1e-12, atol=0)


def test_a_linear_family_is_met_by_as_many_modes_as_parameters():
    problem = Heat(32, time_count=4)
    inputs = problem.sample(40, torch.Generator().manual_seed(0))
    values = problem.solve(inputs).value
    _, size = pod_modes(values, 1)
    assert float(size[30] / size[0]) < 1e-3


def test_the_nearest_solution_is_that_of_the_nearest_input():
    inputs, values = family(4)
    found = PODRegression(inputs, values, 2)
    assert torch.equal(found.nearest(inputs[[2, 0]] + 1e-6), values[[2, 0]])


def test_channels_count_in_units_of_their_spread():
    g = torch.Generator().manual_seed(0)
    inputs = torch.rand(8, 2, 5, generator=g, dtype=torch.float64)
    values = torch.rand(8, 3, generator=g, dtype=torch.float64)
    asked = torch.rand(2, 2, 5, generator=g, dtype=torch.float64)
    scale = torch.tensor([1.0, 1e6]).double().view(1, 2, 1)
    plain, scaled = PODRegression(inputs, values, 3), PODRegression(inputs * scale, values, 3)
    torch.testing.assert_close(
        plain.predict(asked), scaled.predict(asked * scale), rtol=1e-8, atol=1e-8
    )


def test_what_cannot_be_is_refused():
    inputs, values = torch.rand(4, 1, 5), torch.rand(4, 2, 5)
    with pytest.raises(InvalidArgument, match="rank=5 from 4"):
        PODRegression(inputs, values, 5)
    with pytest.raises(InvalidArgument, match="3 inputs and 4 solutions"):
        PODRegression(inputs[:3], values, 2)
    values[1, 0, 2] = torch.nan
    with pytest.raises(InvalidArgument, match="NaN"):
        pod_modes(values, 2)
