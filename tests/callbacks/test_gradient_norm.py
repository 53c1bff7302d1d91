"""The record of gradient norms: what it holds, and across a resume."""

import numpy as np
import pytest
import torch

from sciml.callbacks.gradient_norm import GradientNorm
from sciml.optim.schedules import Refined
from sciml.testing import runs

torch.set_num_threads(1)
SMALL = [
    "model=pinn_hjb",
    "problem.dim=5",
    "estimator.num_dims=3",
    "network.width=8",
    "data.points=6",
    "trainer.precision=64-true",
    "callbacks=gradient_norm",
]


def train(folder, steps, ckpt_path=None, words=()):
    run = runs.prepare(
        [*SMALL, f"callbacks.checkpoint.every_steps={2}", *words],
        folder,
        callbacks=["gradient_norm", "checkpoint"],
        trainer={"max_steps": steps, "limit_val_batches": 0},
    )
    return runs.fit(run, ckpt_path=ckpt_path)


def test_the_file_holds_both_norms_of_every_step(tmp_path):
    run = train(tmp_path, 5)
    norms = np.load(tmp_path / "gradient_norm.npy")
    assert norms.shape == (5, 2) and norms.dtype == np.float32
    grads = torch.cat([p.grad.flatten() for p in run.module.parameters() if p.grad is not None])
    assert norms[-1] == pytest.approx([float(grads.norm()), float(grads.abs().sum())], rel=1e-6)
    assert run.trainer.logged_metrics["train/grad_norm"] == pytest.approx(norms[-1, 0])
    assert Refined(gradients=str(tmp_path))(0, 100) > 0


def test_a_resumed_run_goes_on_with_the_rows_of_its_checkpoint(tmp_path):
    words = ["schedule=constant"]
    train(tmp_path / "whole", 6, words=words)
    train(tmp_path / "part", 4, words=words)
    train(tmp_path / "rest", 6, tmp_path / "part" / "checkpoints" / "last.ckpt", words)
    whole = np.load(tmp_path / "whole" / "gradient_norm.npy")
    assert np.array_equal(whole, np.load(tmp_path / "rest" / "gradient_norm.npy"))
    assert np.array_equal(whole[:4], np.load(tmp_path / "part" / "gradient_norm.npy"))


def test_a_line_search_counts_once_per_step(tmp_path):
    train(tmp_path, 2, words=["optimizer=lbfgs", "schedule=constant"])
    assert len(np.load(tmp_path / "gradient_norm.npy")) == 2


def test_an_optimizer_without_gradients_leaves_no_file(tmp_path):
    callback = GradientNorm(tmp_path)
    assert callback.state_dict()["norms"].shape == (0, 2)
    train(tmp_path / "run", 2, words=["optimizer=spring"])
    assert not (tmp_path / "run" / "gradient_norm.npy").exists()
