"""The moment from which a run can no longer be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl


class FirstStep(pl.Callback):
    """Calls a function once, when the first training step is done, on rank 0.

    Up to then anything may refuse the run: a constructor, a callback, an optimizer that looks at
    the network, a function of the user's whose answer has the wrong shape. What belongs to an
    earlier run in the same folder is replaced by this function only. It also runs where there is no
    step to make, when a run that had ended is continued.

    Args:
        action: The function.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self.action, self.done = action, False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Act after the first step."""
        self._act(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act where no step was left to make."""
        self._act(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act where training was left out."""
        self._act(trainer)

    def _act(self, trainer: pl.Trainer) -> None:
        if not self.done:
            self.done = True
            if trainer.is_global_zero:
                self.action()
