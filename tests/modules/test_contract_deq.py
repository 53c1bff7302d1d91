"""The contract of every method, on equilibrium networks: each way of differentiating them."""

import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from sciml.testing.contract import ModuleContract, runs_or_is_refused

SMALL = (
    "network.width=4",
    "network.head=4",
    "network.groups=2",
    "data.batch_size=4",
    "optimizer.lr=1e-2",
)


def digits(*words):
    return ["model=deq_digits", *SMALL, *words]


def tiny_cifar() -> str:
    """Return a folder with six files in CIFAR-10's format, 20 random images each."""
    root = Path(tempfile.mkdtemp(prefix="sciml-cifar-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    folder, random = root / "cifar-10-batches-bin", np.random.default_rng(0)
    folder.mkdir()
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        rows = random.integers(0, 256, (20, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(20) % 10
        rows.tofile(folder / f"{name}.bin")
    return str(root)


class TestModels(ModuleContract):
    waits = {"digits": 5, "cifar10": 9, "reversible": 2}
    accelerator_tolerance = 1e-3  # a device looks at the residual less often and goes on longer
    slow_cases = ("cifar10",)
    cases = {
        "digits": digits(),
        "cifar10": ["model=deq_cifar10", *SMALL, "network.stride=2", f"data.root={tiny_cifar()}"],
        "reversible": digits("solver=reversible", "adjoint=reversible"),
    }
    overfit = (30, 0.8)
    optimizer_cases = ("digits",)


class TestOptions(ModuleContract):
    accelerator_cases = ("shine", "unrolled")
    waits = {"shine": 1}
    slow_cases = ("penalised", "unrolled")
    cases = {
        "penalised": digits(
            "adjoint=phantom",
            "network.cell=normalised",
            "module.jacobian_weight=0.5",
            "module.corrections=[1,3]",
        ),
        "shine": digits("solver=broyden", "adjoint=shine", "network.dropout=0.2"),
        "unrolled": digits("network=unrolled", "network.layers=2"),
    }
    overfit = (30, 0.8)
    optimizer_cases = ()
    rank_cases = ()  # probes and masks belong to ranks; losses are as above


@pytest.mark.parametrize("optimizer", ["adahessian", "sophia_h"])
def test_products_with_the_hessian_ask_for_a_second_derivative(optimizer, tmp_path):
    assert "adjoint.order=2" in runs_or_is_refused(digits(), tmp_path / "once", optimizer)
    twice = digits("adjoint.order=2", "data.batch_size=4")
    assert runs_or_is_refused(twice, tmp_path / "twice", optimizer) is None
