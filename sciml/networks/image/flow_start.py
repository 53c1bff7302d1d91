"""Starts of a flow that all samples share: one value per channel, fixed or learned.

A learned start follows the ends of the flows: every few steps one step of plain gradient descent on

    mean SmoothL1(z_0, z(1)),    z(1) held constant.

Its numbers are buffers, not parameters: the task's optimizer and its gradients never see them, and
they travel with the state of the network.

Source: arXiv 2310.09583 (shared initial point).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sciml.errors import InvalidArgument


class AlternatingStart(nn.Module):
    """`+size, -size, +size, ...` over the channels.

    Args:
        channels: Number of channels C.
        size: Absolute value.
    """

    def __init__(self, channels: int, size: float = 1.0) -> None:
        super().__init__()
        signs = 1.0 - 2.0 * (torch.arange(channels) % 2)
        self.register_buffer("value", size * signs, persistent=False)

    def forward(self) -> Tensor:
        """Return z_0 `(C,)`."""
        return self.value


class LearnedStart(nn.Module):
    """A 1x1 convolution of an image of ones, then group normalisation: C weights, 2 C of the norm.

    Args:
        channels: Number of channels C, even: groups of two.

    Raises:
        InvalidArgument: If the channels do not pair.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 2:
            raise InvalidArgument(
                f"network.width={channels} with a learned start", "an even number of channels"
            )
        self.register_buffer("weight", 2 * torch.rand(channels) - 1)
        self.register_buffer("gain", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))

    def forward(self) -> Tensor:
        """Return z_0 `(C,)`."""
        return self._value(self.weight, self.gain, self.shift)

    @staticmethod
    def _value(weight: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        channels = len(weight)
        return F.group_norm(weight[None], channels // 2, gain, shift)[0]

    def slopes(self, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient `(3, C)` for ends of flows `(N, C, h, w)`."""
        with torch.enable_grad():
            own = [
                b.detach().clone().requires_grad_() for b in (self.weight, self.gain, self.shift)
            ]
            start = self._value(*own)[:, None, None].expand_as(ends)
            loss = F.smooth_l1_loss(start, ends.detach().to(start.dtype))
            grads = torch.autograd.grad(loss, own)
        return loss.detach(), torch.stack(grads)

    @torch.no_grad()
    def descend(self, slopes: Tensor, lr: float) -> None:
        """Take one gradient step."""
        for value, slope in zip((self.weight, self.gain, self.shift), slopes, strict=True):
            value.sub_(lr * slope)
