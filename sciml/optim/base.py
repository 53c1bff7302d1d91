"""What all curvature optimizers share: ordinary torch optimizers with one more method.

    optimizer.update_curvature(objective)      # at least on steps where optimizer.due()
    optimizer.step()

The gradient is that of the objective, unless a backward pass has left one in `.grad`:

    loss.backward()
    if optimizer.due():
        optimizer.update_curvature(objective)
    optimizer.step()                           # an ordinary step with the curvature as it is
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.curvature.objective import Objective
from sciml.optim.exact import ExactOptimizer
from sciml.optim.option_ranges import POSITIVE, check, number

log = logging.getLogger("sciml")


class CurvatureOptimizer(ExactOptimizer):
    """Base of the optimizers that look at loss terms as well as at gradients.

    Args:
        treated: Parameters of the method.
        defaults: As in `torch.optim.Optimizer`; needs `lr`.
        rest: Parameters the method cannot treat, as (name, parameter, reason); Adam takes them.
        fallback_lr: Adam's learning rate for the rest.

    Attributes:
        curvature_every: Steps between two curvature updates.
        own_gradient: Whether `update_curvature` supplies the direction, so that no backward pass
            of the loss is needed; such a method must be updated before every step.
        accumulates: Whether several `update_curvature` calls before one step add up.
        searches: Whether `step` evaluates the loss again (line search, trial points).
        grouped: Whether parameter groups may have options of their own: not where one step, of one
            length, moves all parameters, nor where they are those of a module's layers.
        layers: Modules whose uses must be recorded, or None.
        steps: Steps taken.
    """

    accumulates = True
    searches = False
    grouped = False
    layers: Mapping[str, nn.Module] | None = None

    def __init__(
        self,
        treated: Iterable[Tensor],
        defaults: dict[str, Any],
        *,
        rest: Iterable[tuple[str, Tensor, str]] = (),
        fallback_lr: float = 1e-3,
        curvature_every: int = 1,
    ) -> None:
        check(curvature_every=curvature_every, fallback_lr=fallback_lr)
        number(POSITIVE, lr=defaults["lr"])
        self._seen: list[Objective] = []  # since the last step
        self.curvature_every = curvature_every
        self._unregistered = list(rest)
        for name, parameter, reason in self._unregistered:
            shape = tuple(parameter.shape)
            log.info("%s: %s %s goes to Adam: %s", type(self).__name__, name, shape, reason)
        treated = list(treated)
        groups = treated if treated else [{"params": []}]
        super().__init__(groups, defaults)
        self.memory["steps"] = 0
        self.fallback: torch.optim.Adam | None = None
        if self._unregistered:
            parameters = [p for _, p, _ in self._unregistered]
            self.fallback = torch.optim.Adam(parameters, lr=fallback_lr)
            # Adam works on a group and on state of ours: schedules and checkpoints see both.
            self.param_groups.append(self.fallback.param_groups[0])
            self._share()

    def _share(self) -> None:
        if self.fallback is not None:
            self.fallback.param_groups = [self.param_groups[-1]]
            self.fallback.state = self.state

    # --- what a method defines ----------------------------------------------------------------
    def observe(self, objective: Objective) -> None:
        """Take from the loss terms of the present step what the method needs."""
        raise NotImplementedError

    def direction_step(self) -> None:
        """Change the treated parameters."""
        raise NotImplementedError

    def statistics(self) -> dict[str, float]:
        """Return numbers worth a log line."""
        return {}

    # --- what they share ------------------------------------------------------------------------
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, see `ExactOptimizer.add_param_group`.

        Raises:
            InvalidArgument: For a second group of a method that has one step for all parameters.
        """
        if self.param_groups and not self.grouped:
            name = type(self).__name__
            raise InvalidArgument(
                f"{name} with several groups of parameters",
                "one: its step is one for all parameters",
                f"Write {name}(network) once all of them are there, or one optimizer per group",
            )
        super().add_param_group(param_group)

    @property
    def steps(self) -> int:
        """Steps taken."""
        return self.memory["steps"]

    @property
    def numbers(self) -> dict[str, Any]:
        """What the last steps found, for `statistics`.

        Not every step finds every number, so they are kept in checkpoints: a continued run logs
        what an uninterrupted one does.
        """
        return self.memory.setdefault("numbers", {})

    def update_curvature(self, objective: Objective) -> None:
        """Look at the loss terms of the coming step.

        Raises:
            InvalidArgument: If a parameter has been frozen since the optimizer was made.
        """
        frozen = sum(not p.requires_grad for group in self.param_groups for p in group["params"])
        if frozen:
            name = type(self).__name__
            raise InvalidArgument(
                f"{name} with {frozen} parameters that no longer require a gradient",
                "the parameters it was made for, all trained",
                f"Freeze parameters first, then write {name}(network)",
            )
        self._seen.append(objective)
        self.observe(objective)

    @property
    def treated(self) -> list[Tensor]:
        """Parameters of the method itself, in order."""
        groups = self.param_groups[:-1] if self.fallback is not None else self.param_groups
        return [p for group in groups for p in group["params"]]

    def unregistered_parameters(self) -> list[tuple[str, Tensor, str]]:
        """Return name, parameter and reason of what the fallback treats."""
        return list(self._unregistered)

    def due(self) -> bool:
        """Return whether the coming step wants `update_curvature` first."""
        return self.steps % self.curvature_every == 0

    def update(self) -> None:
        """Take one step: the method's own, then the fallback's."""
        self.direction_step()
        if self.fallback is not None:
            self.fallback.step()
        self.memory["steps"] += 1
        self._seen = []

    def without_gradients(self) -> None:
        """Step with the gradient of the objectives seen since the last step, their mean.

        Raises:
            InvalidArgument: If there is none.
        """
        if not self._seen:
            raise InvalidArgument(
                f"{type(self).__name__}.step() while no parameter has a gradient",
                "optimizer.update_curvature(objective), whose gradient is taken, or a backward "
                "pass before every step",
                "Call optimizer.update_curvature(objective) or loss.backward() before "
                "optimizer.step()",
            )
        parameters = [p for group in self.param_groups for p in group["params"]]
        try:
            for objective in self._seen:
                found = objective.gradient(parameters)
                for p, g in zip(parameters, found, strict=True):
                    g = g / len(self._seen)
                    p.grad = g if p.grad is None else p.grad + g
            self.update()
        finally:
            for p in parameters:
                p.grad = None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state; see `ExactOptimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        self._share()


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return every parameter's gradient, zeros where there is none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
