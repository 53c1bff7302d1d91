"""Stop a run whose loss is no longer a number, and never write such a state to disk."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from sciml.errors import TrainingDiverged
from sciml.typed_arguments import typed

CURES = "a lower optimizer.lr, or trainer.gradient_clip_val=1"


@typed
class StopOnNonFinite(pl.Callback):
    """Stops training when the loss or one of its terms is NaN or infinite.

    Losses go into a small ring on the device, one copy per step; the host looks at it every
    `every` steps, when training ends, and before every checkpoint. A checkpoint is written only
    if all losses since the last look and all weights are finite, so the newest checkpoint on disk
    is always a good one. On one CPU process looking is free and happens at every step.

    The module may keep `last_terms: dict[str, Tensor]`, detached scalars of the newest step; the
    first of them that is not finite is named.

    Args:
        every: Steps between two looks on an accelerator or with several ranks.

    Raises:
        TrainingDiverged: From the hooks, naming step, term and last good checkpoint; on all ranks
            together, whichever of them saw it.

    Example:
        >>> from sciml.callbacks import StopOnNonFinite
        >>> StopOnNonFinite(every=20).every
        20
    """

    def __init__(self, every: int = 50) -> None:
        self.every = int(every)
        self._names: tuple[str, ...] = ()
        self._ring: Tensor | None = None
        self._steps: list[int] = []  # optimizer step of every row in use
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start with an empty ring."""
        self._ring, self._steps = None, []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the step this batch belongs to; afterwards it may or may not have been counted."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the losses of this step; look at them when it is time."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        terms = dict(getattr(pl_module, "last_terms", None) or {})
        values = torch.stack([v.detach().float().reshape(()) for v in (loss, *terms.values())])
        if self._ring is None or self._ring.shape[1] != len(values):
            self.check(trainer)
            rows = self._rows(values, trainer)
            self._ring, self._names = values.new_zeros(rows, len(values)), ("loss", *terms)
        self._ring[len(self._steps)].copy_(values)
        self._steps.append(self._step)
        if len(self._steps) == len(self._ring):
            self.check(trainer)

    def _rows(self, values: Tensor, trainer: pl.Trainer) -> int:
        return 1 if values.device.type == "cpu" and trainer.world_size == 1 else self.every

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the steps since the last look."""
        self.check(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to write a state that is not finite (raising here comes before the file)."""
        if trainer.state.fn == "fit":
            self.check(trainer)
        # One rank's NaN reaches all weights through the gradients before the losses show it.
        weights = dict(pl_module.named_parameters())
        fine = torch.stack([torch.isfinite(v).all() for v in weights.values()]).tolist()
        bad = [name for name, good in zip(weights, fine, strict=True) if not good]
        if bad:
            raise TrainingDiverged(
                f"at step {trainer.global_step} the weights {', '.join(bad[:3])} are not finite",
                "finite weights; no checkpoint of this state is written",
                _advice(trainer),
            )

    def check(self, trainer: pl.Trainer) -> None:
        """Look at the steps in the ring and empty it; all ranks call this at the same steps."""
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        rows = self._ring[: len(steps)]
        fine = bool(torch.isfinite(rows).all())
        if trainer.world_size > 1:
            fine = trainer.strategy.reduce_boolean_decision(fine, all=True)
        if not fine:
            self._stop(trainer, rows, steps)

    def _stop(self, trainer: pl.Trainer, rows: Tensor, steps: list[int]) -> None:
        bad = ~torch.isfinite(rows)
        hit = torch.nonzero(bad.any(dim=1))
        row = int(hit[0]) if len(hit) else len(rows)  # behind all rows: another rank saw it
        # term 1 … are the named ones; 0 is the loss itself, the culprit only if no term is
        terms = torch.nonzero(bad[row]) if len(hit) else bad.new_zeros(0, 1)
        column = int(terms[-1 if len(terms) == 1 else 1]) if len(terms) else 0
        value = float(rows[row, column]) if len(hit) else 0.0
        found = torch.tensor([row, column, value], dtype=torch.float64, device=rows.device)
        if trainer.world_size > 1:
            every = trainer.strategy.all_gather(found)
            found = every[int(every[:, 0].argmin())]
        row, column, value = int(found[0]), int(found[1]), float(found[2])
        step, name = steps[row], self._names[column]
        what = "the loss" if name == "loss" else f"the loss term '{name}'"
        raise TrainingDiverged(
            f"{what} is {value} at step {step}", "finite numbers", _advice(trainer)
        )


def _advice(trainer: pl.Trainer) -> str:
    files = [
        path
        for callback in trainer.checkpoint_callbacks
        for path in (getattr(callback, "last_model_path", ""), callback.best_model_path)
        if path and os.path.exists(path)
    ]
    if not files:
        return f"No checkpoint was written yet. Type {CURES}"
    newest = max(files, key=os.path.getmtime)
    return f"The last good checkpoint is {newest}; continue with ckpt_path={newest} and {CURES}"
