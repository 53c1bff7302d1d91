"""Callbacks on two ranks: one record, one set of checkpoints, and one NaN that stops both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

import sciml

PROGRAM = """
import sys, torch
import lightning.pytorch as pl
sys.path.insert(0, sys.argv[2])
from conftest import Module, Stream
from torch.utils.data import DataLoader
from sciml.callbacks import Plots, Progress, RunCheckpoint, RunRecord, StopOnNonFinite

class OneRankFails(Module):
    def training_step(self, batch, batch_idx):
        self.bad_step = int(sys.argv[3]) if self.global_rank == 1 else None
        return super().training_step(batch, batch_idx)

torch.set_num_threads(1)
folder = sys.argv[1]
record = RunRecord(folder, "m", "adam", {"seed": 0})
trainer = pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_steps=10, logger=False,
    enable_model_summary=False, default_root_dir=folder, limit_val_batches=0,
    callbacks=[StopOnNonFinite(every=4), Progress(seconds=0.0), record, Plots(folder),
               RunCheckpoint(folder, {}, every_steps=3)],
)
trainer.fit(OneRankFails(), DataLoader(Stream(), batch_size=None))
"""


def run(folder, bad_step):
    program = folder / "program.py"  # a file: the second rank is started with the same command
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, program, folder, Path(__file__).parent, str(bad_step)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(sciml.__file__).parent.parent)},
        timeout=120,
    )


def test_a_nan_on_one_rank_stops_both(tmp_path):
    done = run(tmp_path, 7)
    assert done.returncode != 0
    assert "TrainingDiverged: the loss term 'boundary' is nan at step 7" in done.stderr
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["status"] == "failed" and record["world_size"] == 2
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 6
    assert all(v.isfinite().all() for v in content["state_dict"].values())
    lines = [line for line in done.stdout.splitlines() if " | train/loss" in line]
    assert [line.split()[2] for line in lines] == [f"{i}/10," for i in range(1, len(lines) + 1)]
