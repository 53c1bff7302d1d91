"""Taylor rule for any torch function, by nested forward-mode differentiation.

Used for operations without a rule of their own. Because it is applied operation by operation, the
first layer has already reduced the directions to hidden width: nothing of size d enters here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger("sciml.autodiff")
_seen: set[str] = set()


def announce(name: str, text: str) -> None:
    """Log a remark once per process."""
    if name not in _seen:
        _seen.add(name)
        logger.info("%s %s", name, text)


def push_through(function: Callable, args: tuple, kwargs: dict, jet_type: type) -> Any:
    """Return the jet of `function(*args, **kwargs)` where some arguments are jets.

    Args:
        function: Any torch function that supports forward-mode differentiation and returns a
            tensor whose first axis is the points.
        args: Positional arguments, jets or others; jets inside lists are found too.
        kwargs: Keyword arguments, taken as constants.
        jet_type: The jet class.
    """
    name = getattr(function, "__name__", str(function))
    announce(name, "has no Taylor rule: using nested forward-mode differentiation for it")
    flat, spec = torch.utils._pytree.tree_flatten(args)
    slots = [i for i, a in enumerate(flat) if isinstance(a, jet_type)]
    jets = [flat[i] for i in slots]
    frame = jets[0].frame
    collapsed = frame.weights is not None

    def call(*values: Tensor) -> Tensor:
        full = list(flat)
        for i, v in zip(slots, values, strict=True):
            full[i] = v
        return function(*torch.utils._pytree.tree_unflatten(full, spec), **kwargs)

    base = [j.value for j in jets]
    # The collapsed top order enters linearly; it gets its own product with the Jacobian.
    free = frame.order - 1 if collapsed else frame.order
    paths = [
        [j.derivatives[m].expand(frame.num, *j.value.shape) for m in range(free)] for j in jets
    ]

    def along(coefficients: list[list[Tensor]]) -> tuple[Tensor, ...]:
        """Derivatives one to k at zero of `call` along one polynomial path."""
        orders = []

        def curve(s: Tensor) -> Tensor:
            points = []
            for value, path in zip(base, coefficients, strict=True):
                power = 1.0
                for m, z in enumerate(path, 1):
                    power = power * s
                    value = value + power / math.factorial(m) * z
                points.append(value)
            return call(*points)

        derivative = curve
        for _ in range(frame.order):
            derivative = _differentiate(derivative)
            orders.append(derivative(base[0].new_zeros(())))
        return tuple(orders)

    value = call(*base)
    derivatives = list(torch.func.vmap(along)(paths))
    if collapsed:
        tops = tuple(j.derivatives[-1].expand_as(j.value) for j in jets)
        _, linear_part = torch.func.jvp(call, tuple(base), tops)
        derivatives[-1] = frame.collapse(derivatives[-1]) + linear_part
    return jet_type(value, derivatives, frame)


def _differentiate(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the derivative of a function of one scalar."""
    return lambda s: torch.func.jvp(function, (s,), (torch.ones_like(s),))[1]
