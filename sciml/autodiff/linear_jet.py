"""The jet of a linear map of the input, whose second and higher derivatives are zero.

First layers of networks return one. The zeros are not stored, and the first derivatives stay in the
blocks they were computed in, until something other than an activation asks for them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.autodiff import fused
from sciml.autodiff.jet import Jet, unpack
from sciml.autodiff.taylor import Frame


class LinearJet(Jet):
    """The jet of a linear map of x: zero from the second derivative on.

    Attributes:
        blocks: First derivatives `(k, 1 or N, h)`, one block for each kind of directions. They
            are written out side by side where something other than an activation asks.
    """

    __slots__ = ("blocks",)

    def __init__(self, value: Tensor, blocks: list[Tensor], frame: Frame) -> None:
        self.value, self.blocks, self.frame, self.packed = value, blocks, frame, None

    @property
    def derivatives(self) -> list[Tensor]:
        """Orders one to k, as `Jet` has them."""
        blocks, frame, h = self.blocks, self.frame, self.value.shape[-1]
        if len(blocks) > 1:
            size = max(z.shape[1] for z in blocks)
            blocks = [torch.cat([z.expand(-1, size, -1) for z in blocks])]
        higher = [self.value.new_zeros(frame.num, 1, h) for _ in range(2, frame.order + 1)]
        if higher and frame.weights is not None:
            higher[-1] = torch.zeros_like(self.value)
        return [*blocks, *higher]

    def shift(self, value: Tensor) -> LinearJet:
        """Return the same with another value."""
        return LinearJet(value, self.blocks, self.frame)

    def apply(self, rule: Callable[[Tensor, int], list[Tensor]]) -> Jet:
        """Return the jet of an elementwise function given by its derivative rule."""
        if not self._can_fuse():
            return super().apply(rule)
        weights = self.frame.weights.to(self.value.dtype)
        packed = fused.FirstActivation.apply(self.value, weights, rule, *self.blocks)
        return unpack(packed, self.frame)
