"""Answers of solvers that return a tensor are judged by the residual, at its own scale."""

import pytest
import torch

from sciml.errors import ConvergenceError
from sciml.solvers import Rows, Status, root

F64 = torch.float64


class Says:
    """A solver that returns what it was told."""

    def __init__(self, value, **tolerances):
        self.value = torch.as_tensor(value, dtype=F64)
        vars(self).update(tolerances)

    def __call__(self, task, x):
        """Return the answer."""
        return self.value.expand_as(x)


def judged(function, start, answer, **tolerances):
    x0 = torch.tensor([start], dtype=F64)
    return root(
        function, x0, on_failure="best", solver=Says([answer], **tolerances), layout=Rows(0)
    )


def test_the_scale_is_what_the_function_does_on_the_way():
    """x (x - 1) from 4: a quarter of the way back from 0 lies the other root, half way a 2."""

    def function(x):
        return x * (x - 1)

    found = judged(function, 4.0, 1e-12)
    assert found.status == Status.CONVERGED
    # four times the larger of both changes, below the 12 of the start
    assert float(found.stats["relative"]) == pytest.approx(1e-12 / 8, rel=1e-6)
    assert judged(function, 4.0, 1e-3).status == Status.STALLED


def test_beside_a_pole_a_small_share_of_the_start_is_no_answer():
    """1 / (x - 1) - 1 from beside its pole: 1e6 there, and 0.5 is a thousandth of a thousandth."""

    def function(x):
        return 1 / (x - 1) - 1

    found = judged(function, 1 + 1e-6, 1.6667, rtol=1e-5)
    assert float(found.residual) == pytest.approx(0.5, rel=1e-3)
    assert found.status == Status.STALLED
    assert judged(function, 1 + 1e-6, 2.0 + 1e-9, rtol=1e-5).status == Status.CONVERGED


@pytest.mark.parametrize(("rtol", "status"), [(1e-3, Status.CONVERGED), (1e-5, Status.STALLED)])
def test_its_own_tolerances_count(rtol, status):
    found = judged(lambda x: x - 3, 4.0, 3.0001, rtol=rtol)
    assert found.status == status
    assert judged(lambda x: x - 3, 4.0, 3.0001, rtol=1e-12, atol=1e-3).status == Status.CONVERGED


def test_what_is_not_finite_is_said():
    found = judged(lambda x: torch.sqrt(x), 4.0, -1.0)
    assert found.status == Status.NONFINITE


def test_problems_that_are_coupled_are_told_so_and_others_are_not():
    """A mean over the batch couples; rounding of the size of another problem's numbers does not."""
    x0 = torch.tensor([[1.0], [2.0]], dtype=F64)

    def coupled(x):
        return x - x.mean() - 1.0  # no solution

    def rounded(x):
        large = torch.tensor([[1e9], [0.0]], dtype=F64)
        shift = 1e6 + x[0] - x[0].detach()  # what rounding leaves of the first one
        return (x + shift) - shift - 3.0 + large * (x + 1.0)

    for function, said in ((coupled, True), (rounded, False)):
        with pytest.raises(ConvergenceError) as caught:
            root(function, x0, on_failure="raise", solver=Says([[0.5], [0.5]]), layout=Rows(1))
        assert ("Type layout=Rows(0)" in str(caught.value)) == said
