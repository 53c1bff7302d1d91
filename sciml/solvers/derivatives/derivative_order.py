"""Counts how often a solution may still be differentiated.

A solution with its derivative attached is right up to a certain order; one derivative more would be
wrong without a word. A guard around the tensor counts and raises instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.compiler import uncompiled


class _Guard(torch.autograd.Function):
    """Identity in `x` that can be differentiated `left` times; then it raises.

    Its derivatives depend formally on `x` (with derivative zero), so the count goes on where the
    cotangent is a constant.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(left: int, g: Tensor, x: Tensor) -> Tensor:
        return g.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.left = inputs[0]
        ctx.save_for_backward(inputs[2])
        ctx.save_for_forward(inputs[2])

    @staticmethod
    @uncompiled
    def backward(ctx: Any, g: Tensor) -> tuple:
        if ctx.left == 0:
            _too_often()
        (x,) = ctx.saved_tensors
        down = _Guard.apply(ctx.left - 1, g, x)
        # a zero that keeps counting, only while a graph is being made
        zero = (
            _Guard.apply(ctx.left - 1, torch.zeros_like(x), x) if torch.is_grad_enabled() else None
        )
        return None, down, zero

    @staticmethod
    @uncompiled
    def jvp(ctx: Any, _left: None, g: Tensor | None, x: Tensor | None) -> Tensor:
        if ctx.left == 0:
            _too_often()
        (point,) = ctx.saved_tensors
        return _Guard.apply(ctx.left - 1, torch.zeros_like(point) if g is None else g, point)


def guarded(x: Tensor, order: int) -> Tensor:
    """Return `x`, which may then be differentiated `order` times; once more raises."""
    return _Guard.apply(order, x, x)


def final(x: Tensor, cause: Tensor) -> Tensor:
    """Return `x`, a derivative made from `cause` without a graph; differentiating it raises."""
    return _Guard.apply(0, x, cause) if torch.is_grad_enabled() else x


def _too_often() -> None:
    raise InvalidArgument(
        "a derivative of a solution of higher order than was attached",
        "at most `order` derivatives",
        "Type adjoint=Implicit(order=2) for second derivatives",
    )
