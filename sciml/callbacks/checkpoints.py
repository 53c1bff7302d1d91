"""Checkpoints that survive being killed at any moment, and resume bit for bit."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


def random_states() -> dict[str, Any]:
    """Return the state of every global random stream of this process as plain data."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, keys.tolist(), int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set every global random stream of this process to a state from `random_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state(tuple(states["numpy"]))
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))


class KeepCheckpoints(Checkpoint):
    """Keeps `last.ckpt`, the one before it, and the best one by a validation metric.

    A checkpoint is written under another name and takes its place by a rename, so a file called
    `last.ckpt` is always complete; the one before stays as `previous.ckpt` in case the disk
    damages it. The first is written before the first step. Besides Lightning's content a
    checkpoint holds the random streams of every rank and the configuration of the run.

    Args:
        run_dir: The run folder; files go to `checkpoints/` in it.
        config: The resolved configuration, plain data; stored under the key `sciml`.
        every_n_steps: Optimizer steps between two checkpoints.
        monitor: Metric that decides which checkpoint is the best; ignored until it is logged.
        mode: "min" or "max".
    """

    def __init__(
        self,
        run_dir: str | Path,
        config: Mapping[str, Any] | None = None,
        *,
        every_n_steps: int = 500,
        monitor: str = "val/loss",
        mode: str = "min",
    ) -> None:
        self.folder = Path(run_dir) / "checkpoints"
        self.config = dict(config or {})
        self.every_n_steps, self.monitor, self.mode = int(every_n_steps), monitor, mode
        self.best_score: float | None = None
        self.last_model_path = self.best_model_path = ""
        self._saved_step = -1
        self._restored: list[dict[str, Any]] | None = None

    # --- when -------------------------------------------------------------------------------
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the random streams of a resumed run, or write the first checkpoint."""
        if self._restored is not None and len(self._restored) == trainer.world_size:
            restore_random_states(self._restored[trainer.global_rank])
        self._restored = None
        if self._saved_step != trainer.global_step:
            self._save_last(trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Save every `every_n_steps` optimizer steps and after the last one."""
        step = trainer.global_step
        due = step % self.every_n_steps == 0 or step == trainer.max_steps
        if due and step != self._saved_step:
            self._save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best state so far by the monitored metric."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.state.fn != "fit" or trainer.sanity_checking or value is None:
            return
        # Ranks must agree on whether to save: saving gathers the random streams of all of them.
        score = float(trainer.strategy.broadcast(float(value)))
        better = self.best_score is None or (
            score < self.best_score if self.mode == "min" else score > self.best_score
        )
        if better:
            self.best_score = score
            self.best_model_path = self._write(trainer, BEST)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where no step count ended the run, and make the last the best if nothing chose."""
        if self._saved_step != trainer.global_step:
            self._save_last(trainer)
        best = self.folder / BEST
        if trainer.is_global_zero and not best.exists():
            shutil.copyfile(self.folder / LAST, self.folder / "next.ckpt")
            os.replace(self.folder / "next.ckpt", best)
        self.best_model_path = str(best)

    # --- what -------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return the score to beat."""
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the score to beat."""
        self.best_score = state_dict["best_score"]

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Add the configuration and the random streams of all ranks."""
        states = [random_states()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, random_states())
        checkpoint["sciml"] = {"config": self.config, "random": states}

    def on_load_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        """Keep the random streams until training starts; building the run draws from them."""
        if "sciml" in checkpoint and trainer.state.fn == "fit":
            self._restored = checkpoint["sciml"]["random"]
            self._saved_step = checkpoint["global_step"]

    # --- how --------------------------------------------------------------------------------
    def _save_last(self, trainer: pl.Trainer) -> None:
        self._saved_step = trainer.global_step
        self.last_model_path = self._write(trainer, LAST)

    def _write(self, trainer: pl.Trainer, name: str) -> str:
        """Write the state of the run to `name`, complete or not at all, and return the path."""
        target, fresh = self.folder / name, self.folder / "next.ckpt"
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            with fresh.open("rb+") as file:
                os.fsync(file.fileno())
            if name == LAST and target.exists():
                os.replace(target, self.folder / PREVIOUS)
            os.replace(fresh, target)
        return str(target)
