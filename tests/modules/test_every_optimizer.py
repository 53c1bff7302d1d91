"""Every optimizer of configs/optimizer on one small PINN: interrupted runs, two ranks."""

import functools
import json
import tempfile
from pathlib import Path

import pytest
import torch

from sciml.cli import paths
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.curvature.objective import Objective
from sciml.testing import contract, runs
from sciml.testing.ranks import changes, joined, run_ranks

SMALL = [
    "model=pinn_hjb",
    "problem.dim=4",
    "estimator=exact",
    "network.width=8",
    "network.depth=3",
    "data.points=6",
    "data.val_points=4",
    "data.test_points=16",
    "trainer.precision=64-true",
    "schedule=constant",
]
EVERY = paths.options("optimizer")

# Probes belong to a rank: two ranks draw other signs than one process on the joined batch, and
# equal it in expectation only (tests/optim compares them with the probes given).
OWN_PROBES = {"sophia", "mkor"}
# SOAP rotates into bases of matrices that are singular here: rounding decides, and Adam inside
# amplifies it (0.35 after five steps).
ROUNDING = {"soap"}
# What they do with a gradient says nothing about ranks: DDP has averaged it.
ALIKE = {"adam", "adamw", "adan", "diffgrad", "lion", "muon", "shampoo"}
# Every rank would follow the line search of its own loss.
REFUSED = {"lbfgs"}


@pytest.mark.parametrize("optimizer", EVERY)
def test_an_interrupted_run_ends_the_same(optimizer, tmp_path):
    contract.resumes_bit_identical([*SMALL, f"optimizer={optimizer}"], tmp_path)


STEPS = 5


def _five_steps(_, folder, names):
    """Write how far the weights after five steps on two ranks are from those of one process."""
    found, forked = {}, {}
    trainer = {"max_steps": STEPS, "limit_val_batches": 0, "accelerator": "cpu"}
    two = {**trainer, "devices": 2, "strategy": "ddp_fork"}
    for name in names:
        try:
            run = runs.prepare([*SMALL, f"optimizer={name}"], folder, trainer=two)
            forked[name] = runs.fit(run).module.state_dict()
        except Exception as error:  # any: it belongs into the report of this optimizer
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    for name in forked:
        words = [*SMALL, f"optimizer={name}"]
        run = runs.prepare(words, folder, trainer={**trainer, "devices": 1})
        module = run.module.double()
        start = {k: v.clone() for k, v in module.state_dict().items()}
        optimizer = module.configure_optimizers()
        optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
        module.train()
        for step in range(STEPS):  # a recipe may keep batches
            kept = step // run.data.fixed_for
            batch = joined([run.data.batch(kept, rank, 2) for rank in range(2)])
            batch.points = batch.points.to(torch.float64)
            terms = lambda b=batch, m=module: m.loss_terms(b)  # noqa: E731
            optimizer.zero_grad()
            sum(term.loss() for term in terms()).backward()
            if isinstance(optimizer, CurvatureOptimizer) and optimizer.due():
                optimizer.update_curvature(Objective(terms, step=step))
            optimizer.step()
        one, both = changes(module.state_dict(), start), changes(forked[name], start)
        distance = float((both - one).norm() / one.norm())
        found[name] = {"distance": distance, "moved": float(one.norm())}
    (folder / "answer.json").write_text(json.dumps(found))


@functools.cache
def on_two_ranks(names):
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(_five_steps, (Path(folder), names), 1)
        return json.loads((Path(folder) / "answer.json").read_text())


@pytest.mark.parametrize(
    "optimizer",
    [
        *(name for name in EVERY if name not in REFUSED | ALIKE),
        *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(ALIKE)),
    ],
)
def test_five_steps_on_two_ranks_equal_one_process(optimizer):
    like = {
        name for name in EVERY if name not in REFUSED and (name in ALIKE) == (optimizer in ALIKE)
    }
    found = on_two_ranks(tuple(sorted(like)))[optimizer]
    assert "error" not in found, found["error"]
    assert found["moved"] > 0
    if optimizer not in OWN_PROBES | ROUNDING:
        assert found["distance"] < 1e-9, found
