"""Two answers to "how accurate on the tested fold?": an honest and an optimistic one.

After every validation the tested fold is scored too. At the end of the run

    test/accuracy_nested       is the accuracy on the fold at the step with the lowest validation
                               loss, which nobody chose by looking at the fold,
    test/accuracy_optimistic   is the highest accuracy on the fold over all validations.

Tables of graph classification often print the second.

Reference: Errica et al. 2020, "A fair comparison of graph neural networks for graph
classification", arXiv 1912.09893.
"""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch

from sciml.typed_arguments import typed


@typed
class FoldSelection(pl.Callback):
    """Scores the test part during training and reports both ways to choose a step.

    For classification on a `StepData`. The extra scoring never touches training.

    Args:
        monitor: Validation metric of the honest choice, lower is better.

    Example:
        >>> from sciml.callbacks import FoldSelection
        >>> FoldSelection(monitor="val/loss").monitor
        'val/loss'
    """

    def __init__(self, monitor: str = "val/loss") -> None:
        self.monitor = monitor
        self.lowest, self.nested, self.optimistic = math.inf, math.nan, math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return what was found so far."""
        return {"lowest": self.lowest, "nested": self.nested, "optimistic": self.optimistic}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue an interrupted run."""
        self.lowest, self.nested = state_dict["lowest"], state_dict["nested"]
        self.optimistic = state_dict["optimistic"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score the tested fold with the weights of this validation."""
        value = trainer.callback_metrics.get(self.monitor)
        if value is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        accuracy = self._accuracy(trainer, pl_module)
        if not accuracy <= self.optimistic:  # also where there is none yet
            self.optimistic = accuracy
        if float(value) < self.lowest:
            self.lowest, self.nested = float(value), accuracy

    @torch.no_grad()
    def _accuracy(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
        data, device = trainer.datamodule, pl_module.device
        counts = torch.zeros(2, dtype=torch.float64, device=device)
        for index in range(trainer.global_rank, data.test_chunks, trainer.world_size):
            batch = data.test_chunk(index).to(device, pl_module.dtype)
            right = pl_module.predict_batch(batch).argmax(1) == batch.target
            weight = batch.extra.get("weight")
            right = right if weight is None else right[weight > 0]
            counts += torch.stack([right.sum(), right.new_tensor(len(right), dtype=torch.long)])
        counts = trainer.strategy.reduce(counts, reduce_op="sum")
        return float(counts[0] / counts[1])

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log both."""
        if self.lowest < math.inf:
            pl_module.log("test/accuracy_nested", self.nested)
            pl_module.log("test/accuracy_optimistic", self.optimistic)
