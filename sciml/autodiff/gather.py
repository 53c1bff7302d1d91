"""First layer of a network together with the columns that one-hot directions need.

Written as two operations, `x W^T` and `W[:, j]` cost a backward pass that fills a zero matrix as
large as W for the columns and adds it to the gradient of the product. From 100 000 dimensions on
that is as expensive as the product itself. Here one function returns both and its backward adds
the few columns in place.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.autodiff.fused import differentiable_multiply, is_plain_reverse_mode, multiply


class LinearWithColumns(torch.autograd.Function):
    """`(x, W, j) -> (x W^T, W[:, j])`, differentiable any number of times.

    Shapes: x `(N, d)`, W `(h, d)`, j integers `(M,)` to `(N, h)` and `(M, h)`.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the product and the columns."""
        return multiply(x, weight), weight.t()[index]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Keep what the gradient needs."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, product: Tensor, columns: Tensor) -> tuple:
        """Return the gradients of x and W; plain tensor code, so it can be differentiated again."""
        x, weight, index = ctx.saved_tensors
        times = differentiable_multiply if torch.is_grad_enabled() else multiply
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            for_x = times(product, weight.t())
        if ctx.needs_input_grad[1]:
            for_weight = times(product.t(), x.t())
            # In place: the result of the product is ours. Indices may repeat.
            for_weight.t().index_put_((index,), columns, accumulate=True)
        return for_x, for_weight, None


def linear_with_columns(x: Tensor, weight: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x W^T` `(N, h)` and the columns `W[:, index]` `(*, h)` for an index of any shape."""
    if torch.compiler.is_compiling() or is_plain_reverse_mode(x):
        product, columns = LinearWithColumns.apply(x, weight, index.reshape(-1))
        return product, columns.reshape(*index.shape, len(weight))
    return F.linear(x, weight), F.embedding(index, weight.t())
