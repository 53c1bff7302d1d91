"""Lightning's trainer on the pretend device: the accelerator, and waits counted per step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from lightning import pytorch as pl
from lightning.pytorch.accelerators import Accelerator

from sciml.testing.pretend import NAME, Pretend


class PretendAccelerator(Accelerator):
    """What Lightning asks of a device."""

    def setup_device(self, device: torch.device) -> None:
        """Have nothing to do."""

    def teardown(self) -> None:
        """Have nothing to do."""

    @staticmethod
    def parse_devices(devices: Any) -> int:
        """Return one."""
        return 1

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        """Return the device."""
        return [torch.device(NAME, 0)] * devices

    @staticmethod
    def auto_device_count() -> int:
        """Return one."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """Return that it is there."""
        return True

    @staticmethod
    def name() -> str:
        """Return its name."""
        return NAME

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        """Return none."""
        return {}


class StepWaits(pl.Callback):
    """Counts how often the host waits in each training step.

    Args:
        device: The device in use.

    Attributes:
        steps: Waits of every step, from its batch to the moved weights.
    """

    def __init__(self, device: Pretend) -> None:
        self.device, self.steps = device, []
        self._before: Counter[str] = Counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Remember what has been counted."""
        self._before = Counter(self.device.waits)

    def on_train_batch_end(self, *_: Any) -> None:
        """Keep the difference."""
        self.steps.append(sum((self.device.waits - self._before).values()))


def move(trainer: pl.Trainer) -> None:
    """Let a trainer with one CPU process run on the pretend device."""
    trainer.strategy._root_device = torch.device(NAME, 0)
    trainer.strategy.accelerator = PretendAccelerator()
