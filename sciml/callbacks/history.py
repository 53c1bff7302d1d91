"""What a run logs, kept in memory: for `sciml.pinn.solve`, which may write nothing to disk."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl


class History(pl.Callback):
    """Keeps a row of numbers every `trainer.log_every_n_steps` steps, over several runs.

    Attributes:
        rows: "step" and "seconds" since the first start, and everything that was logged.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.phases: list[tuple[int, str]] = []
        self._before, self._began = 0, time.perf_counter()

    def start(self, phase: str) -> None:
        """Begin a run that goes on where the last one ended."""
        self._before = int(self.rows[-1]["step"]) if self.rows else 0
        self.phases.append((self._before, phase))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep what this step logged, when it is time."""
        step = trainer.global_step
        if step % max(1, trainer.log_every_n_steps) and step != trainer.max_steps:
            return
        row = {k: float(v) for k, v in trainer.callback_metrics.items()}
        seconds = time.perf_counter() - self._began
        self.rows.append({"step": float(self._before + step), "seconds": seconds, **row})
