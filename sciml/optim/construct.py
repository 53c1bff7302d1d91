"""From a configured optimizer class and a module to an optimizer that treats every parameter.

Classes whose first argument is called `module` receive the module, all others its trained
parameters. Parameters that a class is known not to treat go to Adam, with one log line each, so
that `optimizer=` never fails, or worse, over one complex tensor in a network.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.optim.base import CurvatureOptimizer

log = logging.getLogger("sciml")

# Optimizers of other libraries that refuse complex tensors, or fail on them without a clear word.
REAL_ONLY = ("SOAP", "Shampoo", "ScalableShampoo", "Kron", "Muon", "AdaMuon", "GaLore")
# Those that treat matrices only.
MATRIX_ONLY = ("Muon", "AdaMuon")


def construct(
    make: Callable[..., torch.optim.Optimizer], module: nn.Module, fallback_lr: float = 1e-3
) -> torch.optim.Optimizer:
    """Return the optimizer of a module.

    Args:
        make: Optimizer class, or a partial of one with its settings.
        module: What is trained.
        fallback_lr: Learning rate of Adam for parameters the class does not treat.
    """
    target = make.func if isinstance(make, functools.partial) else make
    first = next(iter(inspect.signature(target).parameters), "")
    if first == "module":
        return make(module)
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    name = getattr(target, "__name__", "")
    foreign = not getattr(target, "__module__", "").startswith("sciml.")  # ours say so themselves
    treated, rest = [], []
    for key, p in named:
        reason = refused(name, p) if foreign else None
        if reason is None:
            treated.append(p)
        else:
            rest.append(p)
            log.info("%s: %s %s goes to Adam: %s", name, key, tuple(p.shape), reason)
    if getattr(make, "keywords", {}).get("fused") and any(p.is_complex() for p in treated):
        make = functools.partial(make, fused=False)  # those kernels know real numbers only
    # pytorch_optimizer's Muon wants every group to say that its parameters are Muon's.
    groups = [{"params": treated, "use_muon": True}] if name in MATRIX_ONLY else treated
    if not rest:
        return make(groups)
    return Routed(make(groups) if treated else None, torch.optim.Adam(rest, lr=fallback_lr))


def refused(name: str, parameter: Tensor) -> str | None:
    """Return why the optimizer class `name` does not treat a parameter, or None."""
    if name in REAL_ONLY and parameter.is_complex():
        return "complex"
    if name in MATRIX_ONLY and parameter.dim() < 2:
        return "not a matrix"
    return None


class Routed(torch.optim.Optimizer):
    """Two optimizers on disjoint parameters that step together.

    Args:
        main: Optimizer of the parameters it can treat; None if there are none.
        fallback: Adam for the rest.
    """

    def __init__(self, main: torch.optim.Optimizer | None, fallback: torch.optim.Adam) -> None:
        self.parts = [part for part in (main, fallback) if part is not None]
        super().__init__([p for part in self.parts for p in _parameters(part)], {})
        self._join()

    def _join(self) -> None:
        # The groups themselves, so that a schedule changes the parts' learning rates.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step of each; the closure is called once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the parts' states in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the parts."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._join()


def _parameters(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    return (p for group in optimizer.param_groups for p in group["params"])


def curvature_of(optimizer: object) -> CurvatureOptimizer | None:
    """Return the curvature optimizer behind a wrapper (Lightning's), or None if it is none."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer if isinstance(optimizer, CurvatureOptimizer) else None
