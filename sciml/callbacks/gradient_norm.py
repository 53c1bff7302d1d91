"""Gradient norms of every step, for the refined schedule of the next run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from sciml.optim.flat import real
from sciml.typed_arguments import typed

FILE = "gradient_norm.npy"


@typed
class GradientNorm(pl.Callback):
    """Writes `gradient_norm.npy` `(steps, 2)` in the run folder and logs `train/grad_norm`.

    A row is the 2-norm and the 1-norm of the gradient the optimizer receives, all parameters
    together, before clipping. The file is complete after every checkpoint and at the end; the
    checkpoint carries the rows so far, so a resumed run goes on with them. An optimizer that finds
    its own gradient leaves none to measure: no file then.

    Args:
        run_dir: The run folder.

    Example:
        >>> import torch
        >>> from sciml.callbacks import GradientNorm
        >>> callback = GradientNorm("runs/mine")
        >>> tuple(callback.norms().shape)  # no step yet
        (0, 2)
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.path = Path(run_dir) / FILE
        self._rows: list[Tensor] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure once per step; a line search comes here several times."""
        if sum(map(len, self._rows)) > trainer.global_step:
            return
        grads = [real(p.grad) for p in pl_module.parameters() if p.grad is not None]
        if not grads:
            return
        two = torch.stack([n.float() for n in torch._foreach_norm(grads, 2)]).norm()
        one = torch.stack([n.float() for n in torch._foreach_norm(grads, 1)]).sum()
        self._rows.append(torch.stack([two, one])[None])
        pl_module.log("train/grad_norm", two)

    def norms(self) -> Tensor:
        """Return the rows so far `(steps, 2)`, float32 on the CPU."""
        if not self._rows:
            return torch.zeros(0, 2)
        joined = torch.cat([row.to(self._rows[-1].device) for row in self._rows])
        self._rows = [joined]
        return joined.cpu()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Bring the file up to date."""
        self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the file up to date."""
        self._write(trainer)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the rows so far."""
        return {"norms": self.norms()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on after the rows of the checkpoint."""
        self._rows = [state_dict["norms"]] if len(state_dict["norms"]) else []

    def _write(self, trainer: pl.Trainer) -> None:
        norms = self.norms()
        if not trainer.is_global_zero or not len(norms):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{FILE}.{os.getpid()}")
        with draft.open("wb") as file:
            np.save(file, norms.numpy())
        os.replace(draft, self.path)
