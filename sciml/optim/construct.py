"""From a configured optimizer class and a module to an optimizer that treats every parameter.

Classes whose first argument is called `module` receive the module, all others its trained
parameters. Options of other libraries' classes are checked by what their signature says of them
and by `sciml.optim.option_ranges`, since some take nan for a learning rate. Parameters that a class
is known not to treat go to Adam, with one log line each, so that `optimizer=` never fails, or
worse, over one complex tensor in a network.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument, SciMLError
from sciml.optim.base import CurvatureOptimizer
from sciml.optim.option_ranges import (
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    RANGES,
    at_least,
    number,
    one_of,
    shares,
    switches,
)

log = logging.getLogger("sciml")

# Optimizers of other libraries that refuse complex tensors, or fail on them without a clear word.
REAL_ONLY = ("SOAP", "Shampoo", "ScalableShampoo", "Kron", "Muon", "AdaMuon", "GaLore")
# What constructors raise for settings they cannot use.
REFUSALS = (ValueError, TypeError, IndexError, RuntimeError, AssertionError)
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

    Raises:
        InvalidArgument, InvalidType: For options that cannot be used.
    """
    target = make.func if isinstance(make, functools.partial) else make
    first = next(iter(inspect.signature(target).parameters), "")
    if first == "module":
        return make(module)
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    name = getattr(target, "__name__", "")
    foreign = not getattr(target, "__module__", "").startswith("sciml.")  # ours say so themselves
    if foreign:
        check_foreign(target, getattr(make, "keywords", {}))
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
        return _made(make, groups)
    main = _made(make, groups) if treated else None
    return Routed(main, torch.optim.Adam(rest, lr=fallback_lr))


def check_foreign(target: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse options of another library's optimizer that are of the wrong kind or out of range.

    Args:
        target: The class.
        options: Given keyword arguments; those the class does not name pass.

    Raises:
        InvalidArgument, InvalidType: For the first one found.
    """
    known = inspect.signature(target).parameters
    for name, value in options.items():
        default = known[name].default if name in known else inspect.Parameter.empty
        said = str(known[name].annotation) if name in known else ""
        if value is None and (default is None or "None" in said):
            continue
        if isinstance(default, bool) or said.startswith("bool"):
            switches(**{name: value})
        elif name == "lr":
            # 0 freezes on purpose, as these libraries have it; a search divides by it
            number(POSITIVE if "line_search_fn" in known else NOT_NEGATIVE, lr=value)
        elif name == "betas":
            shares(value, len(default) if isinstance(default, tuple) else 2, one=True)
        elif name in RANGES:
            number(RANGES[name], **{name: value})
        elif isinstance(default, int) and "float" not in said:
            number(at_least(min(default, 1)), **{name: value})
        elif isinstance(default, int | float):
            number(FINITE, **{name: value})
        elif name == "line_search_fn":
            one_of(("strong_wolfe",), **{name: value})


def _made(make: Callable[..., torch.optim.Optimizer], groups: list) -> torch.optim.Optimizer:
    """Return the optimizer; what its class refuses is refused in our words and its own."""
    try:
        return make(groups)
    except SciMLError:
        raise
    except REFUSALS as error:
        name = getattr(getattr(make, "func", make), "__name__", "the optimizer")
        raise InvalidArgument(
            f"the settings of {name}: {error}", hint="See optimizer.* and the class's documentation"
        ) from error


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
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
