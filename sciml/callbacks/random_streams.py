"""Global random streams across a resume: whatever draws from them goes on where it stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from sciml.errors import CheckpointError
from sciml.typed_arguments import typed

KEY = "random_streams"


@typed
class RandomStreams(pl.Callback):
    """Stores the global random streams of every rank in each checkpoint and restores them.

    sciml's own draws are functions of (seed, rank, step) and need none of this; dropout, data
    loaders and foreign code draw from the global streams of torch, NumPy and Python.

    Example:
        >>> from sciml.callbacks import RandomStreams
        >>> callback = RandomStreams()  # Trainer(callbacks=[callback])
        >>> hasattr(callback, "on_save_checkpoint")
        True
    """

    def __init__(self) -> None:
        self._restored: list[Mapping[str, Any]] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the streams of all ranks."""
        states: list[Any] = [random_states()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, random_states())
        checkpoint[KEY] = states

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the streams until training starts: setting up a run draws from them."""
        self._restored = checkpoint.get(KEY) if trainer.state.fn == "fit" else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the streams, if the run continues on as many ranks.

        Raises:
            CheckpointError: If what was stored is no state of a stream.
        """
        if self._restored is not None and len(self._restored) == trainer.world_size:
            try:
                restore_random_states(self._restored[trainer.global_rank])
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"the random streams in {trainer.ckpt_path} cannot be restored ({error})",
                    "an unchanged checkpoint of a training run",
                ) from error
        self._restored = None


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
