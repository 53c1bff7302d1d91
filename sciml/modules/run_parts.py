"""Runs in equal parts, one after the other: windows of time, stages of a network.

A run is cut by steps or, where those are not limited, by time. In every part the optimizer, and the
schedule of its rate, start anew.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Timer, WeightAveraging
from torch.optim.lr_scheduler import LambdaLR

from sciml.errors import InvalidArgument

if TYPE_CHECKING:
    from sciml.modules.training_method import TrainingMethod


def kept_as_new(module: TrainingMethod, optimizer: torch.optim.Optimizer) -> list[dict]:
    """Return the state of an optimizer that has taken no step, for every part to begin with.

    Raises:
        InvalidArgument: For a run without an end, and for averages of weights, which would be over
            several parts.
    """
    trainer = module._trainer
    if trainer is not None and trainer.max_steps <= 0:
        if not any(isinstance(c, Timer) and c._duration for c in trainer.callbacks):
            raise InvalidArgument(
                f"a run of {module.parts} parts, windows of time or stages, without an end",
                "steps or a time that can be divided among them",
                "Type trainer.max_steps=600 or trainer.max_time=00:00:05:00",
            )
    for callback in trainer.callbacks if trainer is not None else ():
        if isinstance(callback, WeightAveraging):
            raise InvalidArgument(
                f"callbacks=ema in a run of {module.parts} parts, whose weights begin anew in each",
                "weights that are not averaged",
                "Leave callbacks=ema out, or train in one part",
            )
    return [copy.deepcopy(optimizer.state_dict())]


def repeated(schedule: LambdaLR, parts: int, steps: int) -> LambdaLR:
    """Return a schedule that runs through once in every part of a run of so many steps."""
    if steps > 0:
        schedule.lr_lambdas = [
            lambda step, factor=factor: factor(step * parts % steps)
            for factor in schedule.lr_lambdas
        ]
    return schedule


def part_due(module: TrainingMethod) -> int:
    """Return the number, from 0, of the part that a run should be in."""
    trainer, share = module.trainer, 0.0
    if trainer.max_steps > 0:
        share = module.global_step / trainer.max_steps
    else:
        for timer in (c for c in trainer.callbacks if isinstance(c, Timer)):
            if timer._duration:
                share = timer.time_elapsed("train") / timer._duration
                break
        if trainer.world_size > 1:  # every rank has a clock of its own: the first one's counts
            told = torch.tensor([share], dtype=torch.float64, device=module.device)
            dist.broadcast(told, 0)
            share = float(told)
    return min(module.parts - 1, int(share * module.parts))


def begin_anew(module: TrainingMethod) -> None:
    """Give every optimizer the state that it was made with."""
    for optimizer, state in zip(module.trainer.optimizers, module.as_new, strict=True):
        optimizer.load_state_dict(copy.deepcopy(state))
