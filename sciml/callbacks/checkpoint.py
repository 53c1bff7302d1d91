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
from sciml.callbacks.checkpoint_file import KEY, CheckpointFile
from sciml.typed_arguments import typed

SHARE = 20.0  # saving takes at most one twentieth of the time between two saves


@typed
class RunCheckpoint(Checkpoint):
    """Writes `checkpoints/` of a run folder.

    `last.ckpt` is written before the first step, every few seconds or steps, and when training
    ends; what it replaces stays as `previous.ckpt`, so a file damaged later does not lose the
    run. `best.ckpt` holds the state with the lowest monitored validation metric. Each appears under
    its name only when it is complete and on disk. Every checkpoint names the run's configuration
    under `sciml`.

    A checkpoint is taken when a step is done: never while gradients are being accumulated. Metrics
    are logged and validation runs after that, so `last.ckpt` stays a draft until both are done
    (it is taken anew after the validation): who continues from it repeats what was not, and
    finds the rows of all steps before. Ctrl-C may stop a step halfway, so nothing is saved then;
    SIGTERM lets the step end and saves.

    Args:
        run_dir: The run folder.
        config: The resolved configuration, plain data.
        every_seconds: Least time between two `last.ckpt`; longer where saving is slow.
        every_steps: Steps between two `last.ckpt`, instead of seconds.
        monitor: Validation metric of `best.ckpt`, lower is better; None for no such file.

    Attributes:
        stopping: Set, on all ranks alike, if the run ends after the present step.

    Example:
        >>> from sciml.callbacks import RunCheckpoint
        >>> callback = RunCheckpoint("runs/mine", {"seed": 0}, every_steps=100, monitor=None)
        >>> callback.stopping
        False
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
        self.stopping = False
        self._step, self._waiting = 0, False  # newest step seen; whether there is a draft

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have checkpoints written by our own hand, where the strategy lets us."""
        try:
            trainer.strategy.checkpoint_io = CheckpointFile()
        except NotImplementedError:  # weights in pieces over several files
            return

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write down which run this is, on what it ran, and the best value so far."""
        checkpoint[KEY] = {
            "version": sciml.__version__,
            "torch": str(torch.__version__),
            "world_size": trainer.world_size,
            "config": self.config,
            "best": self.best,
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draft the beginning, or take over the files of the run being continued.

        A run killed in its first seconds can thus be continued like any other.
        """
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._step = trainer.global_step
        for name in ("last", "best"):
            path = self.folder / f"{name}.ckpt"
            known = trainer.global_step > 0 and path.is_file()
            setattr(self, f"{name}_model_path", str(path) if known else "")
        # best.ckpt may be newer than the checkpoint training continues from: it knows its value.
        self.best = _best_in(self.best_model_path) if self.best_model_path else math.inf
        if trainer.global_step == 0:
            self._draft(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Name the draft: the step it was taken after has been logged and validated."""
        if trainer.global_step > 0:  # the beginning gets its name when a step has shown it is one
            self._publish(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save when it is time."""
        self._publish(trainer)
        if trainer.global_step == self._step:
            return  # gradients are being accumulated, and no checkpoint holds them
        self._step = trainer.global_step
        if self._is_time(trainer):
            self._draft(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state."""
        if trainer.global_step != self._saved_step:
            self._draft(trainer)
        self._publish(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save as best if it is; what else the validation changed belongs into the draft."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        # rank 0 decides: a metric that differs in the last bit must not split the ranks
        value = math.inf if value is None else trainer.strategy.broadcast(float(value))
        if value < self.best:
            self.best = value
            self.best_model_path = str(self.folder / "best.ckpt")
            self._write(trainer, "best")
            self._rename(trainer, "best")
        if self._waiting and self._saved_step == trainer.global_step:
            self._draft(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Name the draft if SIGTERM ended the run, which is looked at between two steps.

        Not if it ended a validation: that would not be repeated.
        """
        if isinstance(exception, SystemExit) and trainer.training and trainer.global_step > 0:
            self._publish(trainer)

    def _is_time(self, trainer: pl.Trainer) -> bool:
        if trainer.global_step == trainer.max_steps or self.stopping:
            return True
        if self.every_steps is not None:
            return trainer.global_step % self.every_steps == 0
        due = max(self.every_seconds, SHARE * self._took) < time.monotonic() - self._saved_at
        if trainer.world_size == 1:
            return due or trainer.received_sigterm
        # clocks differ between ranks, and asking rank 0 costs a message: do so now and then
        return trainer.global_step % 50 == 0 and trainer.strategy.broadcast(due)

    def _draft(self, trainer: pl.Trainer) -> None:
        begin = time.monotonic()
        self._write(trainer, "last")
        self._waiting, self._saved_step = True, trainer.global_step
        self._saved_at = time.monotonic()
        self._took = self._saved_at - begin

    def _publish(self, trainer: pl.Trainer) -> None:
        if self._waiting:
            self._waiting = False
            self.last_model_path = str(self.folder / "last.ckpt")
            self._rename(trainer, "last", keep="previous")

    def _write(self, trainer: pl.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / f".{name}.draft")

    def _rename(self, trainer: pl.Trainer, name: str, keep: str | None = None) -> None:
        target, draft = self.folder / f"{name}.ckpt", self.folder / f".{name}.draft"
        if not trainer.is_global_zero:
            return
        if keep and target.exists():
            os.replace(target, self.folder / f"{keep}.ckpt")
        os.replace(draft, target)


def _best_in(path: str) -> float:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return float(content["sciml"]["best"])
    except (OSError, RuntimeError, KeyError, ValueError, UnpicklingError):
        return math.inf  # damaged: the next validation replaces it
