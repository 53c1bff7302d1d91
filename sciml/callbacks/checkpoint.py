"""Checkpoints a killed run continues from: `last.ckpt`, the one before it, and `best.ckpt`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint

import sciml

SHARE = 20.0  # saving takes at most one twentieth of the time between two saves


class RunCheckpoint(Checkpoint):
    """Writes `checkpoints/` of a run folder.

    `last.ckpt` is written before the first step, every few seconds or steps, and when training
    ends; what it replaces stays as `previous.ckpt`, so a file damaged later does not lose the
    run. `best.ckpt` holds the state with the lowest monitored validation metric. Each appears under
    its name only when it is complete and on disk. Every checkpoint names the run's configuration
    under `sciml`.

    A checkpoint is taken between two steps. Ctrl-C may stop a step halfway, so nothing is saved
    then; SIGTERM lets the step end and saves.

    Args:
        run_dir: The run folder.
        config: The resolved configuration, plain data.
        every_seconds: Least time between two `last.ckpt`; longer where saving is slow.
        every_steps: Steps between two `last.ckpt`, instead of seconds.
        monitor: Validation metric of `best.ckpt`, lower is better; None for no such file.
    """

    def __init__(
        self,
        run_dir: str | Path,
        config: Mapping[str, Any],
        every_seconds: float = 30.0,
        every_steps: int | None = None,
        monitor: str | None = "val/rel_l2",
    ) -> None:
        super().__init__()
        self.folder, self.config = Path(run_dir) / "checkpoints", dict(config)
        self.every_seconds, self.every_steps = float(every_seconds), every_steps
        self.monitor, self.best = monitor, math.inf
        self.last_model_path = self.best_model_path = ""
        self._saved_at, self._took, self._saved_step = time.monotonic(), 0.0, -1

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Write down which run this is, and the best value so far."""
        checkpoint["sciml"] = {
            "version": sciml.__version__,
            "config": self.config,
            "best": self.best,
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the beginning, or take over the files of the run being continued.

        A run killed in its first seconds can thus be continued like any other.
        """
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        for name in ("last", "best"):
            path = self.folder / f"{name}.ckpt"
            known = trainer.global_step > 0 and path.is_file()
            setattr(self, f"{name}_model_path", str(path) if known else "")
        # best.ckpt may be newer than the checkpoint training continues from: it knows its value.
        self.best = _best_in(self.best_model_path) if self.best_model_path else math.inf
        if trainer.global_step == 0:
            self._save_last(trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save when it is time."""
        if trainer.global_step != self._saved_step and self._is_time(trainer):
            self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state."""
        if trainer.global_step != self._saved_step:
            self._save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save as best if it is."""
        value = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        if value is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        # rank 0 decides: a metric that differs in the last bit must not split the ranks
        value = trainer.strategy.broadcast(float(value))
        if value < self.best:
            self.best = value
            self.best_model_path = str(self._write(trainer, "best"))

    def _is_time(self, trainer: pl.Trainer) -> bool:
        if trainer.global_step == trainer.max_steps:
            return True
        if self.every_steps is not None:
            return trainer.global_step % self.every_steps == 0
        due = max(self.every_seconds, SHARE * self._took) < time.monotonic() - self._saved_at
        if trainer.world_size == 1:
            return due or trainer.received_sigterm
        # clocks differ between ranks, and asking rank 0 costs a message: do so now and then
        return trainer.global_step % 50 == 0 and trainer.strategy.broadcast(due)

    def _save_last(self, trainer: pl.Trainer) -> None:
        begin = time.monotonic()
        self.last_model_path = str(self._write(trainer, "last", keep="previous"))
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._took = self._saved_at - begin

    def _write(self, trainer: pl.Trainer, name: str, keep: str | None = None) -> Path:
        target, draft = self.folder / f"{name}.ckpt", self.folder / f".{name}.draft"
        trainer.save_checkpoint(draft)
        # Lightning moves its own temporary file, which is a copy if /tmp is another disk: rename.
        if trainer.is_global_zero:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            if keep and target.exists():
                os.replace(target, self.folder / f"{keep}.ckpt")
            os.replace(draft, target)
        trainer.strategy.barrier("sciml.checkpoint")
        return target


def _best_in(path: str) -> float:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return float(content["sciml"]["best"])
    except (OSError, RuntimeError, KeyError, ValueError, UnpicklingError):
        return math.inf  # damaged: the next validation replaces it
