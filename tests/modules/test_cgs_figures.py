"""What convergent graph solvers reach on conduction problems; minutes, so slow."""

import pytest

from sciml.testing import runs


def metrics(tmp_path, *words):
    run = runs.fit(runs.prepare(list(words), tmp_path))
    run.trainer.test(run.module, run.data, verbose=False)
    return {name: float(value) for name, value in run.trainer.callback_metrics.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pressures_in_networks_eight_times_larger_than_in_training(seed, tmp_path):
    """python train.py model=cgs_porous seed=0 'data.test_sizes=[1600,20000]'; method sheet, 12."""
    found = metrics(tmp_path, "model=cgs_porous", f"seed={seed}", "data.test_sizes=[1600,20000]")
    assert found["test_1600/r2"] >= 0.999
    assert found["test_1600/mae"] <= 0.005
    assert found["test_20000/r2"] >= 0.999
    assert found["test_20000/failed_share"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_encoder_alone_cannot(seed, tmp_path):
    """python train.py model=cgs_porous network.gamma=0: the benchmark needs the solver."""
    words = ["model=cgs_porous", "network.gamma=0", f"seed={seed}", "data.test_sizes=[1600]"]
    found = metrics(tmp_path, *words)
    assert found["test_1600/r2"] < 0.75
    assert found["test/r2"] < 0.75
