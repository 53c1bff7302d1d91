"""Rows of metrics that say what was measured in their own step."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl


class FreshRows(pl.Callback):
    """Has a metric that was logged in an earlier step left out of the rows of later ones.

    Lightning repeats the last value of a metric that is logged now and then: the row of a step
    holds a number of another, and a resumed run, which does not know it, writes other rows.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Forget the values of the step before; epochs keep what they add up."""
        for result in trainer._results.values():  # Lightning has no public word for them
            if result.meta.on_step and not result.meta.on_epoch:
                result.reset()
