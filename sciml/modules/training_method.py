"""The contract of training methods: what a method says, and what follows from it.

A method says the terms of its loss, `loss_terms`, and which module is trained, `trained`. The
training step and the optimizer follow. Whoever has to see the terms of a step, such as the
callback that feeds optimizers with curvature, adds a function to `watchers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.modules import run_parts, stages
from sciml.optim.construct import construct
from sciml.optim.curvature.terms import LossTerm
from sciml.typed_arguments import typed


@typed
class TrainingMethod(LightningModule):
    """Base of all training methods.

    Args:
        optimizer: Makes the optimizer from the parameters, or from the module where its first
            argument is called `module`.
        schedule: Makes the learning-rate schedule from the optimizer, stepped every step.

    Attributes:
        watchers: Called as `watch(batch, terms)` with the terms of every training step, while
            their graph is alive.
        last_terms: Detached values of the terms of the newest step, by name.
        needs_backward: False where the optimizer makes its own direction from the terms, and a
            backward pass would be for nothing.
        as_new: States of optimizers that have taken no step, in runs of several parts.

    Example:
        >>> import torch
        >>> from sciml.modules import TrainingMethod
        >>> from sciml.optim import LossTerm
        >>> class LineFit(TrainingMethod):
        ...     def __init__(self, **settings):
        ...         super().__init__(**settings)
        ...         self.network = torch.nn.Linear(1, 1)
        ...     def loss_terms(self, batch):
        ...         x, y = batch
        ...         return [LossTerm("data", self.network(x) - y, 1.0, len(x))]
        >>> module = LineFit(optimizer=torch.optim.Adam)
        >>> [term.name for term in module.loss_terms((torch.rand(8, 1), torch.rand(8, 1)))]
        ['data']
    """

    network: nn.Module

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], object] | None = None,
    ) -> None:
        super().__init__()
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.watchers: list[Callable[[Any, Sequence[LossTerm]], None]] = []
        self.last_terms: dict[str, Tensor] = {}
        self.needs_backward = True
        self.as_new: list[dict] = []

    # --- what a method says -------------------------------------------------------------------
    def loss_terms(self, batch: Any) -> list[LossTerm]:
        """Return the terms of the loss of a batch; line searches and curvature ask again."""
        raise NotImplementedError

    def trained(self) -> nn.Module:
        """Return what the optimizer treats."""
        return self.network

    @property
    def parts(self) -> int:
        """Parts of a run, each with optimizer and schedule as new (`sciml.modules.run_parts`)."""
        network = stages.staged(self)
        return 1 if network is None else network.stages

    def begin_step(self) -> None:
        """Begin the next part of the run, if it is due, before anybody looks at the optimizer."""
        stages.go_on(self)

    def schedule_of(self, optimizer: torch.optim.Optimizer) -> object:
        """Return the schedule of an optimizer, None for none."""
        return None if self.make_schedule is None else self.make_schedule(optimizer)

    # --- what follows -------------------------------------------------------------------------
    def step_terms(self, batch: Any) -> list[LossTerm]:
        """Return the terms of the loss of a training step, after showing them to the watchers."""
        terms = self.loss_terms(batch)
        for watch in self.watchers:
            watch(batch, terms)
        return terms

    def logs_step(self) -> bool:
        """Return whether this step's numbers are written down, as the trainer counts."""
        trainer = self._trainer
        if trainer is None:  # a loop of the user's own
            return True
        step = self.global_step + 1
        return (
            step == 1 or step == trainer.max_steps or not step % max(1, trainer.log_every_n_steps)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return this rank's share of the loss."""
        return step_loss(self, self.step_terms(batch), batch.streams.world)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make the gradient of the loss, where the optimizer wants it."""
        if self.needs_backward:
            super().backward(loss, *args, **kwargs)

    def configure_optimizers(self) -> object:
        """Return the optimizer and, if there is one, the schedule stepped every step."""
        optimizer = construct(self.make_optimizer, self.trained())
        made = self.schedule_of(optimizer)
        if self.parts > 1:
            self.as_new = run_parts.kept_as_new(self, optimizer)
            if made is not None:
                steps = self.trainer.max_steps if self._trainer is not None else 0
                made = run_parts.repeated(made, self.parts, steps)
        if made is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": made, "interval": "step"},
        }


def step_loss(
    module: LightningModule, terms: Sequence[LossTerm], world: int, *, log: bool = True
) -> Tensor:
    """Return this rank's share of the loss; log it, and its terms if there are several.

    Args:
        module: Keeps the detached terms in `last_terms`, for `sciml.callbacks.finite`.
        terms: Terms of the loss, with distinct names.
        world: Number of ranks.
        log: Whether to log; a small network steps in the time that logging takes.

    Raises:
        InvalidArgument: For two terms of one name.
    """
    parts = {term.name: term.loss(world) for term in terms}
    if len(parts) < len(terms):
        raise InvalidArgument(
            f"loss terms named {[term.name for term in terms]}",
            "distinct names: of several with one name, only the last would count",
        )
    loss = sum(parts.values())
    module.last_terms = {name: part.detach() for name, part in parts.items()}
    if not log:
        return loss
    module.log("train/loss", loss.detach())
    if len(parts) > 1:
        module.log_dict({f"train/{name}": part for name, part in module.last_terms.items()})
    return loss
