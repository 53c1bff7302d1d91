"""Means and maxima over chunks and ranks."""

import math

import numpy as np
import pytest
import torch

from sciml.modules.evaluation import tally
from sciml.modules.evaluation.tally import Tally, step_figures
from sciml.solvers import FixedPointIteration, fixed_point


def noted(chunks):
    found = Tally()
    for chunk in chunks:
        found.mean("mean", chunk)
        found.mean("share", chunk > 0)
        found.peak("peak", chunk)
    return found


def test_chunks_and_ranks_do_not_matter(monkeypatch):
    values = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    whole = noted([values]).gathered()
    v = values.double().numpy()
    assert whole == {
        "mean": pytest.approx(v.mean(), rel=1e-14),
        "share": np.mean(v > 0),
        "peak": v.max(),
    }
    # of unequal sizes, the largest value on the second rank, one of them empty
    top = int(values.amax(1).argmax())
    first, second = values[:top], values[top:]
    ranks = [noted([first[:1], first[1:], first[:0]]), noted([second])]
    everyone = [(rank._sums, rank._peaks) for rank in ranks]
    monkeypatch.setattr(tally, "everyone", lambda own: everyone)
    assert ranks[0].gathered() == pytest.approx(whole, rel=1e-14)


def test_nothing_noted_is_nothing():
    found = Tally()
    found.peak("peak", torch.zeros(0))
    assert found.gathered() == {}
    found.mean("calls", 8.0)
    found.mean("calls", 4.0)
    assert found.gathered() == {"calls": 6.0}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_residual_that_is_not_a_number_does_not_get_lost(place):
    values = torch.tensor([1.0, 3.0, 2.0])
    values[place] = torch.nan
    found = Tally()
    for value in values:
        found.peak("peak", value)
    assert math.isnan(found.gathered()["peak"])


def test_figures_of_a_solve():
    """z = r z + 1; a rate of 0.9 needs more than 20 steps to 1e-3."""
    rate = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64, requires_grad=True)
    solution = fixed_point(
        lambda z, r: r * z + 1,
        torch.zeros(3, 1, dtype=torch.float64),
        (rate,),
        solver=FixedPointIteration(rtol=1e-3, max_iter=20),
        on_failure="best",
    )
    found = Tally()
    found.solve("val/deq", solution)
    found = found.gathered()
    steps = solution.iterations.tolist()
    assert steps[0] < steps[1] < steps[2] == 20
    assert found["val/deq/iters_mean"] == pytest.approx(sum(steps) / 3)
    assert found["val/deq/iters_max"] == 20
    assert found["val/deq/fail_frac"] == pytest.approx(1 / 3)
    assert 1e-3 < found["val/deq/residual_max"] < 0.05
    before = step_figures(solution)
    assert before == {name.removeprefix("val/"): value for name, value in found.items()}
    solution.value.sum().backward()
    after = step_figures(solution)
    assert after["deq/bwd_iters"] >= 1 and after["deq/bwd_residual"] < 1e-3
