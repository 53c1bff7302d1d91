"""What the equilibrium operator claims on the semilinear problem, trained in full.

OMP_NUM_THREADS=1 python -m pytest -m slow tests/modules/test_fno_deq_claims.py
"""

import pytest

from sciml.testing import runs


def trained(tmp_path, *words):
    run = runs.fit(runs.prepare(["model=fno_deq_semilinear", *words], tmp_path))
    run.trainer.test(run.module, run.data, verbose=False)
    return run.module.test_report


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Both networks after the same number of steps, each with its better learning rate."""
    deq = trained(tmp_path_factory.mktemp("deq"))
    fno = trained(tmp_path_factory.mktemp("fno"), "network=fno", "optimizer.lr=3e-2")
    return deq, fno


@pytest.mark.slow
def test_error_is_near_that_of_the_network_with_four_times_the_weights(reports):
    deq, fno = (report["metrics"] for report in reports)
    assert deq["test/rel_l2"] <= 1.3 * fno["test/rel_l2"]


@pytest.mark.slow
def test_more_iterations_pay_and_then_change_nothing(reports):
    deq = reports[0]
    for part in ("test", "test_hard"):
        assert deq["metrics"][f"{part}/ten_times_change"] < 0.05
        errors = deq["curves"]["budget"]["y"][part]
        assert errors[0] > 3 * errors[3] > 3 * errors[-1]
