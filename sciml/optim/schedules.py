"""Learning-rate schedules as plain functions of the step.

A schedule is a callable `factor(step, total) -> float` in [0, 1] that multiplies `optimizer.lr`.
It holds only numbers, so it needs no state in a checkpoint: the factor follows from the step.
`attach` makes an ordinary torch scheduler of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sciml.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The same learning rate throughout, after an optional linear warm-up.

    Attributes:
        warmup: Steps over which the factor rises linearly from 1/(warmup + 1) to 1.
    """

    warmup: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidArgument: If the warm-up is negative, or `final` lies outside [0, 1].
        """
        if self.warmup < 0:
            raise InvalidArgument(f"schedule.warmup={self.warmup}", "0 or more steps")
        final = getattr(self, "final", 1.0)
        if not 0.0 <= final <= 1.0:
            raise InvalidArgument(f"schedule.final={final}", "a factor between 0 and 1")

    def __call__(self, step: int, total: int) -> float:
        """Return the factor for the update after `step` of `total` steps."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(total - self.warmup, 1)
        return self.decay(min(max(done, 0.0), 1.0))

    def decay(self, done: float) -> float:
        """Return the factor when a share `done` in [0, 1] of the steps after warm-up is over."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """Linear decay to `final` times the learning rate."""

    final: float = 0.0

    def decay(self, done: float) -> float:
        """Return `1 - (1 - final) done`."""
        return 1.0 - (1.0 - self.final) * done


@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """Half a cosine from the learning rate to `final` times it."""

    final: float = 0.0

    def decay(self, done: float) -> float:
        """Return `final + (1 - final) (1 + cos(pi done)) / 2`."""
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Exponential(Constant):
    """Geometric decay that ends at `final` times the learning rate."""

    final: float = 0.01

    def decay(self, done: float) -> float:
        """Return `final ** done`."""
        return self.final**done


def attach(optimizer: Optimizer, schedule: Constant, total: int) -> LambdaLR:
    """Return a torch scheduler, to be stepped after every optimizer step.

    Args:
        optimizer: Whose learning rates are multiplied.
        schedule: Factor of the step.
        total: Steps of the run; 0 or less if unknown, which only a constant schedule accepts.

    Raises:
        InvalidArgument: If the schedule needs to know the end and there is none.
    """
    if total <= 0 and type(schedule) is not Constant:
        raise InvalidArgument(
            f"a {type(schedule).__name__.lower()} schedule for a run without a number of steps",
            "a run that ends",
            "Type trainer.max_steps=N, or schedule=constant",
        )
    return LambdaLR(optimizer, lambda step: schedule(step, total))
