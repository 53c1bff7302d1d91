"""One layer between training and every optimizer that looks at curvature.

A training method shows the terms of every step to its `watchers` (see
`sciml.modules.training_method`). On steps where the optimizer is due, their evaluation is recorded
(`Capture`), and before the backward pass, while the graph is alive, the optimizer's
`update_curvature` sees terms and graph of that very evaluation. Nothing else changes: no hooks on
modules, no `.backward()`, no `.grad`.

Optimizers that supply their own direction need no backward pass; it is then left out, and with it
DDP's gradient reduction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch

from sciml.errors import InvalidArgument
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.construct import curvature_of
from sciml.optim.curvature.capture import Capture
from sciml.optim.curvature.objective import Objective
from sciml.optim.curvature.terms import LossTerm
from sciml.typed_arguments import typed


@typed
class CurvatureCallback(pl.Callback):
    """Feeds loss terms to the optimizer; does nothing for optimizers that want none.

    Args:
        seed: Seed of the probes.

    Example:
        >>> from sciml.callbacks import CurvatureCallback
        >>> callback = CurvatureCallback(seed=0)  # goes into Trainer(callbacks=[callback])
        >>> callback.seed
        0
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self.optimizer: CurvatureOptimizer | None = None
        self._undo: list[Callable[[], None]] = []
        self._capture: Capture | None = None
        self._seen: tuple | None = None
        self._objective: Objective | None = None
        self._seconds = {"curvature": 0.0, "all": 0.0}
        self._started = 0.0

    # --- watching the module ------------------------------------------------------------------
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to watch, if the optimizer is one of ours.

        Raises:
            InvalidArgument: If the module is no training method, or the trainer changes gradients
                between loss and step in a way that the optimizer cannot know.
        """
        for optimizer in trainer.optimizers:
            check_gradients(trainer, optimizer)
        found = [curvature_of(o) for o in trainer.optimizers]
        self.optimizer = found[0] if found else None
        if self.optimizer is None:
            return
        if not hasattr(pl_module, "watchers"):
            raise InvalidArgument(
                f"{type(self.optimizer).__name__} on {type(pl_module).__name__}",
                "a TrainingMethod with loss_terms(batch), which curvature is derived from",
                "Type optimizer=adam",
            )
        self._evaluate = pl_module.loss_terms
        self._wanted = False
        pl_module.watchers.append(self._see)
        self._undo.append(lambda: pl_module.watchers.remove(self._see))
        if self.optimizer.own_gradient:
            pl_module.needs_backward = False
            self._undo.append(lambda: setattr(pl_module, "needs_backward", True))
            wrapped = trainer.strategy.model
            if hasattr(wrapped, "require_backward_grad_sync"):
                wrapped.require_backward_grad_sync = False
                self._undo.append(lambda: setattr(wrapped, "require_backward_grad_sync", True))

    def _see(self, batch: Any, terms: Sequence[LossTerm]) -> None:
        """Keep the terms of a training step where curvature is due."""
        if self._wanted:
            self._seen = (batch, terms)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._release()
        while self._undo:
            self._undo.pop()()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the module as it was."""
        self.teardown(trainer, pl_module, "fit")

    # --- one step -------------------------------------------------------------------------------
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start recording on steps where curvature is due."""
        if self.optimizer is None:
            return
        self._started = time.perf_counter()
        self._release()
        if not self.optimizer.due():
            return
        self._wanted = True
        if self.optimizer.layers is not None:
            self._capture = Capture(self.optimizer.layers)
            self._capture.__enter__()

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor
    ) -> None:
        """Let the optimizer look at the terms while their graph is alive.

        Raises:
            InvalidArgument: If the training step did not call `step_terms`.
        """
        if self.optimizer is None or not self._wanted:
            return
        uses = None
        if self._capture is not None:
            self._capture.__exit__(None, None, None)
            uses, self._capture = self._capture.uses, None
        self._wanted = False
        if self._seen is None:
            raise InvalidArgument(
                f"a training step of {type(pl_module).__name__} without step_terms",
                "training_step to call self.step_terms(batch)",
            )
        start = time.perf_counter()
        batch, terms = self._seen
        self._seen = None
        self._objective = Objective(
            lambda: self._evaluate(batch),
            seed=self.seed,
            step=trainer.fit_loop.epoch_loop.total_batch_idx,
            given=terms,
            uses=uses,
        )
        self.optimizer.update_curvature(self._objective)
        self._seconds["curvature"] += time.perf_counter() - start

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Drop terms and graph, and log what the optimizer has to say."""
        if self.optimizer is None:
            return
        sent = 0 if self._objective is None else self._objective.traffic
        self._release()
        self._seconds["all"] += time.perf_counter() - self._started
        every = trainer.log_every_n_steps
        if every and trainer.global_step % every == 0:
            numbers = self.optimizer.statistics()
            if trainer.world_size > 1:
                numbers["traffic"] = sent
            numbers["share"] = self._seconds["curvature"] / max(self._seconds["all"], 1e-12)
            pl_module.log_dict({f"curvature/{name}": float(v) for name, v in numbers.items()})

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.__exit__(None, None, None)
            self._capture = None
        if self._objective is not None:
            self._objective.forget()
            self._objective = None
        self._seen, self._wanted = None, False


def check_gradients(trainer: pl.Trainer, optimizer: object) -> None:
    """Refuse what a trainer does to gradients where the optimizer cannot go along.

    The command line refuses the same before anything is built (`sciml.cli.checks.rules`).

    Args:
        trainer: Clips, scales or accumulates gradients.
        optimizer: Of any library, perhaps behind a wrapper.

    Raises:
        InvalidArgument: For clipped or accumulated gradients with a method that evaluates the loss
            again, has a gradient or a metric of its own.
    """
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    name, again = type(optimizer).__name__, isinstance(optimizer, torch.optim.LBFGS)
    own = again or any(getattr(optimizer, a, False) for a in ("own_gradient", "preconditions"))
    if trainer.gradient_clip_val and own:
        raise InvalidArgument(
            f"gradient_clip_val={trainer.gradient_clip_val} with {name}",
            "gradients as they are: it searches along the loss, or makes the step's scale itself",
            "Write Trainer(gradient_clip_val=None)",
        )
    if trainer.accumulate_grad_batches != 1 and not getattr(optimizer, "accumulates", not again):
        raise InvalidArgument(
            f"accumulate_grad_batches={trainer.accumulate_grad_batches} with {name}",
            "one batch per step, on which the loss is evaluated several times",
            "Write Trainer(accumulate_grad_batches=1) and take more points per batch",
        )
