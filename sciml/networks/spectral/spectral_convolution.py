"""The convolution of Fourier neural operators, in any dimension, by matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciml.errors import InvalidArgument


class SpectralMix(nn.Module):
    """`F^-1(R . F z)` over the modes |k_a| <= m, and 0 <= k_d < m along the last axis; no bias.

    Only (2 m)^(d-1) m modes are kept, so each transform is a product with the few rows of the
    Fourier matrix that belong to them; at up to a hundred points per axis that beats an FFT.
    Weights are pairs of real numbers: all optimizers and precisions treat them like others.

    Args:
        channels: Channels in and out, C.
        modes: m.
        dim: d.
        scale: Standard deviation of the initial weights, times 1 / C.
    """

    def __init__(self, channels: int, modes: int, dim: int = 2, scale: float = 1.0) -> None:
        super().__init__()
        self.modes, self.dim = modes, dim
        count = (2 * modes) ** (dim - 1) * modes
        weight = torch.randn(count, channels, channels, 2) * (scale / channels)
        self.weight = nn.Parameter(weight)

    def forward(self, z: Tensor) -> Tensor:
        """Return the convolution of `z` `(N, C, n_1, ..., n_d)`."""
        m, shape = self.modes, z.shape
        if not z.numel():  # complex views of empty tensors may fail
            return z.clone()
        first, last, pairs = self.matrices(z)
        h = torch.view_as_complex((z @ first).unflatten(-1, (m, 2)))
        for axis, (there, _) in enumerate(pairs):
            h = (h.movedim(2 + axis, -1) @ there).movedim(-1, 2 + axis)
        modes = h.shape[2:]
        # real products: batches of complex ones run one by one on CPUs
        count, channels = shape[:2]
        h = torch.view_as_real(h.flatten(2)).permute(2, 0, 3, 1)
        h = h.reshape(len(h), count, 2 * channels)
        re, im = self.weight.unbind(-1)
        matrix = torch.cat([torch.cat([re, im], 2), torch.cat([-im, re], 2)], 1)
        h = torch.bmm(h, matrix).view(len(h), count, 2, channels).permute(1, 3, 0, 2).contiguous()
        h = torch.view_as_complex(h).reshape(count, channels, *modes)
        for axis, (_, back) in enumerate(pairs):
            h = (h.movedim(2 + axis, -1) @ back).movedim(-1, 2 + axis)
        return torch.view_as_real(h).flatten(-2) @ last

    def matrices(self, z: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the matrices of the last axis, there and back, and of the others.

        Raises:
            InvalidArgument: For a grid with fewer than 2 m points along an axis.
        """
        sizes, m = tuple(z.shape[2:]), self.modes
        if min(sizes) < 2 * m:
            raise InvalidArgument(
                f"a grid of {' x '.join(map(str, sizes))} for {m} modes",
                f"at least {2 * m} points per axis",
            )
        key = (sizes, z.dtype, z.device)
        if getattr(self, "_key", None) != key:
            with torch.inference_mode(False):  # kept for training steps too
                self._matrices, self._key = _matrices(sizes, m, z.dtype, z.device), key
        return self._matrices


def _matrices(
    sizes: tuple[int, ...], m: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Return `SpectralMix.matrices`, made in float64."""
    kind = {"dtype": torch.float64, "device": device}
    k = torch.arange(m, **kind)
    n = sizes[-1]
    phase = 2 * math.pi / n * torch.arange(n, **kind)[:, None] * k
    first = torch.stack([phase.cos(), -phase.sin()], 2).flatten(1)
    # modes of opposite sign along the last axis are the mirror images of those kept
    twice = (2 - (k == 0).to(k))[:, None] / math.prod(sizes)
    last = torch.stack([phase.T.cos() * twice, -phase.T.sin() * twice], 1).flatten(0, 1)
    both = torch.cat([k, k - m])
    pairs = []
    for size in sizes[:-1]:
        phase = 2 * math.pi / size * torch.arange(size, **kind)[:, None] * both
        wave = torch.complex(phase.cos(), -phase.sin()).to(dtype.to_complex())
        pairs.append((wave, wave.mH.contiguous()))
    return first.to(dtype), last.to(dtype), pairs
