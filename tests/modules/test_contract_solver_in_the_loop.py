"""The contract of every method, on correctors trained with the solver in the loop."""

import pytest

from sciml.testing.contract import ModuleContract

SMALL = (
    "data.problem.cells=12",
    "data.problem.ratio=2",
    "data.problem.size=12.0",
    "data.problem.warm_up=5",
    "data.train=2",
    "data.val=1",
    "data.test=1",
    "data.steps=8",
    "data.window=2",
    "module.unroll=2",
    "module.curriculum=0",
    "network.width=6",
    "network.blocks=1",
    "optimizer.lr=1e-2",
)


class TestSolverInTheLoop(ModuleContract):
    cases = {"burgers": ["model=sol_burgers", *SMALL]}
    overfit = (120, 0.3)

    @pytest.mark.slow  # half a minute for all of them
    def test_runs_with_every_optimizer_or_is_refused(self, words, optimizer, tmp_path):
        super().test_runs_with_every_optimizer_or_is_refused(words, optimizer, tmp_path)

    @pytest.mark.slow  # its loss is that of all methods that learn from pairs
    def test_two_ranks_equal_one_process(self, on_two_ranks):
        super().test_two_ranks_equal_one_process(on_two_ranks)
