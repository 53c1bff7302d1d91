"""Keeping torch.compile out of loops it would unroll and of rules it would drop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as the compiler leaves it alone, with all it calls.

    `torch.compiler.disable` does that, but imports the compiler (seconds); here the first call
    does, not the definition.
    """

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        disabled = getattr(function, "_uncompiled", None)
        if disabled is None:
            disabled = function._uncompiled = torch.compiler.disable(function)
        return disabled(*args)

    return inner
