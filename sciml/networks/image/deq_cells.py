"""Cells of equilibrium networks: maps f(z; x) of image features, x injected at every evaluation.

    contraction    f = x + c V relu(W z + x + b) + d,  |W| <= 1, |V| <= 1 as operators on images:
                   |df/dz| <= c < 1 whatever the weights, so the equilibrium exists, is unique, and
                   every start and every solver reach it
    normalised     f = c tanh(GN(V (relu(GN(W z)) + x))): bounded, but nothing bounds df/dz; watch
                   iterations and residuals, or penalise the Jacobian (`module.jacobian_weight`)

W and V are 3x3 convolutions. Source of the bound on them: Delattre et al. 2023, arXiv 2305.16173
(Gram iteration); zero padding, arXiv 2402.00240.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ContractionCell(nn.Module):
    """`f = x + c V relu(W z + x + b) + d` with |W|, |V| <= 1.

    Args:
        channels: Channels C of state and injection.
        bound: c in (0, 1).
        groups: Not used.
    """

    def __init__(self, channels: int, bound: float, groups: int = 1) -> None:
        super().__init__()
        # no modules: their weights are not used as they are, so no input and output belong to them
        first, second = (nn.Conv2d(channels, channels, 3) for _ in range(2))
        self.w, self.b = first.weight, first.bias
        self.v, self.d = second.weight, second.bias
        self.bound = bound

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what does not change during a solve: injection, normalised weights, biases."""
        w, v = (
            weight / convolution_bound(weight, x.shape[2:]).clamp_min(1.0)
            for weight in (self.w, self.v)
        )
        return x, w, self.b, self.bound * v, self.d

    def forward(self, z: Tensor, x: Tensor, *weights: Tensor) -> Tensor:
        """Return f(z; x), shape of z `(N, C, h, w)`."""
        w, b, v, d = weights
        return x + F.conv2d(F.relu(F.conv2d(z, w, b, padding=1) + x), v, d, padding=1)


class NormalisedCell(nn.Module):
    """`f = c tanh(GN(V (relu(GN(W z)) + x)))`.

    Args:
        channels: Channels C of state and injection.
        bound: c, the largest entry of a state.
        groups: Groups of the normalisations.
    """

    def __init__(self, channels: int, bound: float, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, channels)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.bound = bound

    def prepare(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return what does not change during a solve."""
        return (x,)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Return f(z; x), shape of z `(N, C, h, w)`."""
        y = F.relu(self.norm1(self.first(z))) + x
        return self.bound * torch.tanh(self.norm2(self.second(y)))


def convolution_bound(weight: Tensor, shape: Sequence[int], rounds: int = 4) -> Tensor:
    """Return an upper bound of a convolution's norm as an operator on images, differentiable.

    A convolution with zeros around is a part of the one on a torus that is larger by the kernel,
    whose norm is the largest over its frequencies k of |K_k|. With G_0 = K^H K and G_{i+1} = G_i^2
    the bound `|G_r|_F^(2^-r / 2)` is at most `C^(2^-r / 4)` times too large: 6 % for 32 channels.

    Args:
        weight: `(C, C, s, s)`.
        shape: Height and width of the images.
        rounds: r.
    """
    size = [n + weight.shape[-1] - 1 for n in shape]
    with torch.autocast(weight.device.type, enabled=False):
        real = weight if weight.dtype == torch.float64 else weight.float()
        tiny = torch.finfo(real.dtype).tiny
        unit = real.detach().abs().amax().clamp_min(tiny)  # squares must not leave the range
        k = torch.fft.rfft2(real / unit, s=size).permute(2, 3, 0, 1).flatten(0, 1)
        g, log, share = k.mH @ k, 0.0, 0.5
        for i in range(rounds + 1):
            # scaled by its norm each time, so that powers neither overflow nor vanish
            norm = torch.view_as_real(g).square().sum((1, 2, 3)).clamp_min(tiny).sqrt()
            log = log + share * norm.log()
            if i < rounds:
                g = g / norm[:, None, None]
                g, share = g @ g, share / 2
        return unit * log.amax().exp()
