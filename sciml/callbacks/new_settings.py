"""Settings of the optimizer that a continued run changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl


class NewSettings(pl.Callback):
    """Sets hyperparameters of the optimizer after a checkpoint brought the old ones back.

    A learning rate is scaled, where it stands in its schedule and in every group of parameters.

    Args:
        settings: Name in the optimizer's parameter groups to (value before, value now).
    """

    def __init__(self, settings: Mapping[str, tuple[Any, Any]]) -> None:
        self.settings = dict(settings)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set them."""
        for name, (before, now) in self.settings.items():
            for group in (g for o in trainer.optimizers for g in o.param_groups):
                if name != "lr":
                    group[name] = now
                    continue
                for rate in {"lr", "initial_lr"} & group.keys():
                    group[rate] = group[rate] * (now / before)
            if name == "lr":
                for scheduler in (c.scheduler for c in trainer.lr_scheduler_configs):
                    rates = [rate * (now / before) for rate in scheduler.base_lrs]
                    scheduler.base_lrs = rates
