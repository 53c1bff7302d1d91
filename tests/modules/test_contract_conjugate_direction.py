"""The contract of every method, on learned directions and preconditioners."""

import pytest

from sciml.testing.contract import ModuleContract

SMALL = ("data.batch_size=4", "data.val=2", "data.test=2", "data.chunk=2")
FAITHFUL = (
    "data.size=8",
    "data.lanczos=32",
    "data.val_size=8",
    "data.test_sizes=[8]",
    "network.channels=4",
    "network.pooled=1",
    "network.fine=1",
    "optimizer.lr=1e-2",
)
LEARNED = (
    "data.val_size=16",
    "data.test_sizes=[16]",
    "network.hidden=4",
    "data.problem.coefficients=[two_phase]",
    "optimizer.lr=3e-2",
)


class TestDCDM(ModuleContract):
    cases = {"2d": ["model=dcdm_2d", *SMALL, *FAITHFUL]}
    overfit = (60, 0.2)

    @pytest.mark.slow  # the module's loss is that of the class below
    def test_runs_with_every_optimizer_or_is_refused(self, words, optimizer, tmp_path):
        super().test_runs_with_every_optimizer_or_is_refused(words, optimizer, tmp_path)

    @pytest.mark.slow  # likewise
    def test_two_ranks_equal_one_process(self, on_two_ranks):
        super().test_two_ranks_equal_one_process(on_two_ranks)


class TestLearnedMultigrid(ModuleContract):
    waits = {"2d": 3}
    cases = {"2d": ["model=pressure_2d", *SMALL, *LEARNED, "data.train_sizes=[20]"]}
    overfit = (40, 0.8)

    @pytest.mark.slow  # a minute for all of them
    def test_runs_with_every_optimizer_or_is_refused(self, words, optimizer, tmp_path):
        super().test_runs_with_every_optimizer_or_is_refused(words, optimizer, tmp_path)


@pytest.mark.slow
class TestDCDMInSpace(ModuleContract):
    cases = {"3d": ["model=dcdm_3d", *SMALL, *FAITHFUL]}
    overfit = (60, 0.2)


@pytest.mark.slow
class TestLearnedMultigridInSpace(ModuleContract):
    cases = {"3d": ["model=pressure_3d", *SMALL, *LEARNED, "data.train_sizes=[12]"]}
    overfit = (60, 0.7)
