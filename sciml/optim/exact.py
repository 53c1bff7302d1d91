"""Optimizers whose state comes back from a checkpoint bit for bit.

torch casts floating-point state to the parameter's dtype when it loads a state: a float64 matrix of
inner products beside float32 weights, or a bfloat16 history, would return changed. Here tensors
keep the dtype they were saved with. State that belongs to no single parameter lives in `memory`,
nested dictionaries and lists of tensors and numbers that travel with `state_dict` and load with
`weights_only=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.optim.option_ranges import check


class ExactOptimizer(torch.optim.Optimizer):
    """Base of our optimizers; subclasses define `update`.

    Attributes:
        memory: State beside the per-parameter state.
        own_gradient: Whether the method needs no gradients of the parameters.
        preconditions: Whether past or present gradients also make the metric of the step, which
            clipping them would break.
    """

    own_gradient = False
    preconditions = False

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.memory: dict[str, Any] = {}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with options of its own or the common ones.

        Raises:
            InvalidArgument, InvalidType: For options that cannot be used.
        """
        self.check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Refuse what a group cannot mean; subclasses add to it."""
        check(**group)

    def update(self) -> None:
        """Change the parameters by their gradients; runs without grad mode."""
        raise NotImplementedError

    @property
    def treated(self) -> list[Tensor]:
        """Parameters of the method itself, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; the closure, if there is one, is called once.

        Raises:
            InvalidArgument: If no parameter has a gradient, and the method needs them.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        treated = self.treated
        if not self.own_gradient and treated and all(p.grad is None for p in treated):
            self.without_gradients()
        else:
            self.update()
        return loss

    def without_gradients(self) -> None:
        """Answer a step without any gradient: nothing would move, and nobody would know.

        Raises:
            InvalidArgument: Always; a subclass may know where to take gradients from.
        """
        raise InvalidArgument(
            f"{type(self).__name__}.step() while no parameter has a gradient",
            "a backward pass before every step",
            "Call loss.backward() before optimizer.step()",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return torch's dictionary with `memory` beside it."""
        return {**super().state_dict(), "memory": _copy(self.memory)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state, every tensor in the dtype it was saved with.

        Raises:
            InvalidArgument: If the dictionary is of another kind of optimizer.
        """
        if "memory" not in state_dict:
            raise InvalidArgument(
                f"the state of another optimizer for {type(self).__name__}",
                "a state saved by the same optimizer",
            )
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "memory"})
        ours = [p for group in self.param_groups for p in group["params"]]
        keys = [k for group in state_dict["param_groups"] for k in group["params"]]
        for p, key in zip(ours, keys, strict=True):
            for name, value in state_dict["state"].get(key, {}).items():
                if name != "step":  # which torch keeps where it wants it
                    self.state[p][name] = _copy(value, p.device)
        self.memory = _copy(state_dict["memory"], ours[0].device if ours else None)


def dense_gradient(parameter: Tensor, owner: str) -> Tensor:
    """Return the gradient of a parameter.

    Raises:
        InvalidArgument: If it is sparse.
    """
    if parameter.grad.is_sparse:
        raise InvalidArgument(
            f"a sparse gradient for {owner}",
            "dense gradients",
            "Build embeddings with sparse=False",
        )
    return parameter.grad


DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def dtype_named(name: str | torch.dtype | None, parameter: Tensor) -> torch.dtype:
    """Return the real dtype of that name; None is the one of the parameter's components.

    Raises:
        InvalidArgument: For an unknown name.
    """
    if name is None:
        return parameter.dtype.to_real() if parameter.is_complex() else parameter.dtype
    if isinstance(name, torch.dtype):
        return name
    if not isinstance(name, str) or name not in DTYPES:
        raise InvalidArgument(f"history_dtype={name}", f"one of {', '.join(DTYPES)}, or null")
    return DTYPES[name]


def _copy(value: Any, device: torch.device | None = None) -> Any:
    """Return nested dictionaries and lists with their tensors copied, to a device if given."""
    if isinstance(value, Tensor):
        value = value.detach()
        return value.clone() if device is None else value.to(device, copy=True)
    if isinstance(value, Mapping):
        return {k: _copy(v, device) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v, device) for v in value]
    return value
