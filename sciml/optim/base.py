"""What all curvature optimizers share: ordinary torch optimizers with one more method.

    loss.backward()
    optimizer.update_curvature(objective)      # on steps where optimizer.due()
    optimizer.step()

`step` alone is an ordinary step with the curvature as it is. State that is not one tensor per
parameter, or that must keep its own precision, lives in `memory`, a nested dictionary of tensors,
numbers and lists; it travels with `state_dict` and loads with `weights_only=True`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument
from sciml.optim.objective import Objective

log = logging.getLogger("sciml")


class CurvatureOptimizer(torch.optim.Optimizer):
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
        layers: Modules whose uses must be recorded, or None.
        memory: State beside the per-parameter state; see above.
        steps: Steps taken.
    """

    own_gradient = False
    accumulates = True
    searches = False
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
        if curvature_every < 1:
            raise InvalidArgument(f"optimizer.curvature_every={curvature_every}", "1 or more steps")
        self.curvature_every = curvature_every
        self.memory: dict[str, Any] = {}
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
    def update_curvature(self, objective: Objective) -> None:
        """Look at the loss terms of the present step."""
        raise NotImplementedError

    def direction_step(self) -> None:
        """Change the treated parameters."""
        raise NotImplementedError

    def statistics(self) -> dict[str, float]:
        """Return numbers worth a log line."""
        return {}

    # --- what they share ------------------------------------------------------------------------
    @property
    def steps(self) -> int:
        """Steps taken."""
        return self.memory["steps"]

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

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; the closure, if there is one, is called once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.direction_step()
        if self.fallback is not None:
            self.fallback.step()
        self.memory["steps"] += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dictionary with `memory` beside it."""
        return {**super().state_dict(), "memory": _copied(self.memory)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state.

        Raises:
            InvalidArgument: If the dictionary is of another kind of optimizer.
        """
        if "memory" not in state_dict:
            raise InvalidArgument(
                f"the state of another optimizer for {type(self).__name__}",
                "a state saved by the same optimizer",
            )
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "memory"})
        device = next((p.device for g in self.param_groups for p in g["params"]), None)
        self.memory = _copied(state_dict["memory"], device)
        self._share()


def _copied(value: Any, device: torch.device | None = None) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().clone()
        return value if device is None else value.to(device)
    if isinstance(value, Mapping):
        return {k: _copied(v, device) for k, v in value.items()}
    if isinstance(value, list):
        return [_copied(v, device) for v in value]
    return value


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return every parameter's gradient, zeros where there is none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
