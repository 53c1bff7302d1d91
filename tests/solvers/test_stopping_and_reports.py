"""When solvers stop, what they count, what a failure says, and how causes are told apart."""

import pytest
import torch

from sciml.errors import ConvergenceError
from sciml.solvers import FixedPointIteration, Newton, Status, fixed_point, qp, root
from sciml.solvers.bookkeeping import SolverProgress, default_tolerance


def test_default_tolerances():
    assert default_tolerance(torch.float64) == 1e-10
    assert default_tolerance(torch.float32) == default_tolerance(torch.bfloat16) == 1e-5


@pytest.mark.parametrize("every", [1, 4, 7])
def test_work_ends_at_the_next_look_after_the_last_problem(every):
    """An iteration that lands at once: one step to land, and at most `every` more."""
    called = []

    def landed(x):
        called.append(1)
        return torch.ones_like(x)

    out = fixed_point(
        landed,
        torch.zeros(3, 2),
        solver=FixedPointIteration(max_iter=100, every=every),
        on_failure="raise",
    )
    assert bool((out.status == Status.CONVERGED).all())
    assert int(out.iterations.max()) <= 2
    assert len(called) <= every + 3, SolverProgress


def test_a_failure_tells_the_longest_iteration_and_the_worst_residual():
    """`settle`: the first problem is solved by the start; the second has no root."""
    start = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
    target = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    with pytest.raises(ConvergenceError) as told:
        root(lambda x: x**2 - target, start, solver=Newton(max_iter=23), on_failure="raise")
    found = root(lambda x: x**2 - target, start, solver=Newton(max_iter=23), on_failure="best")
    assert int(found.iterations.min()) == 0
    text = str(told.value)
    assert f"after up to {int(found.iterations.max())} iterations" in text
    assert "1 of 2 problems" in text
    assert f"residual {float(found.stats['relative'][1]):.1e}" in text


def test_endless_and_contradictory_programs_are_told_apart():
    """`interior` and `why`: min c x with bounds that lie far from zero, on one side or both."""
    flat = torch.zeros(1, 1)
    one = torch.ones(1, 1)
    for bound in (-5.0, -1.0, 1.0, 5.0):  # x <= bound, and x falls for ever
        rows, limit = torch.tensor([[1.0]]), torch.tensor([bound])
        out = qp(flat, one, inequality=(rows, limit), on_failure="best")
        assert out.status.tolist() == [Status.UNBOUNDED], bound
        out = qp(flat, -one, inequality=(rows, limit), on_failure="raise")  # the same, rising
        assert float(out.value.x) == pytest.approx(bound, abs=1e-8)
    for gap in (0.5, 2.0):  # x <= -gap and x >= gap
        rows, limit = torch.tensor([[1.0], [-1.0]]), torch.tensor([-gap, -gap])
        out = qp(flat, one, inequality=(rows, limit), on_failure="best")
        assert out.status.tolist() == [Status.INFEASIBLE]
