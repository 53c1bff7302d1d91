"""Potentials in free space, and sums over the boundary, as convolutions on a grid.

    v(x) = sum over cells y of G(x - y) f(y),            -Lap G + q^2 G = delta,
    w(x) = sum over the boundary y of k(x - y) h(y) dy,  k = |x - y|^-p, for instance

    G    -log r / 2 pi or K_0(q r) / 2 pi in the plane, exp(-q r) / 4 pi r in space

The boundary is a layer a few cells wide. Kernels are sampled over twice the grid, so that nothing
comes back from the other side, and kept as transforms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LAYER = 0.11  # half width of the layer that stands for the boundary
CELLS = 1.6  # the same in cells, on coarse grids
# Mean of log r over the unit square around 0, and of 1 / r over the unit cube.
LOG_MEAN, INVERSE_MEAN = -1.0611754, 2.3800774
EULER = 0.5772156649


class FreeSpace:
    """Kernels over the grids of a box; those of the last grid are kept.

    Args:
        dim: d, 2 or 3.
        half: Half the side of the box.
        powers: p of the kernels `|x|^-p`.
    """

    def __init__(self, dim: int, half: float, powers: Sequence[int]) -> None:
        self.dim, self.half, self.powers = dim, half, tuple(powers)
        self._key: tuple | None = None

    def spacing(self, field: Tensor) -> list[float]:
        """Return the distance of neighbouring points of a field `(N, n_1, ..., n_d)`, per axis."""
        return [2 * self.half / (n - 1) for n in field.shape[1:]]

    def layer(self, field: Tensor) -> float:
        """Return half the width of the layer that stands for the boundary."""
        return max(LAYER, CELLS * max(self.spacing(field)))

    def kernels(
        self, like: Tensor, rate: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return transforms of kernels over twice the grid.

        Args:
            like: Any field `(N, n_1, ..., n_d)`.
            rate: Root q of the screening `(N,)`, or None.

        Returns:
            The potential of a cell; `|x|^-p` for every power p; and in place of `|x|^-d` what makes
            w the solution in a half-space with screening,
            `q r K_1(q r) / r^2` in two and `(1 + q r) exp(-q r) / r^3` in three dimensions.
        """
        cell, width = math.prod(self.spacing(like)), self.layer(like)
        key = (tuple(like.shape[1:]), like.dtype, like.device)
        if self._key != key:
            with torch.inference_mode(False):  # kept for training steps too
                square = squares(like.shape[1:], self.spacing(like), like.device)
                means = [cell / width * (square + width**2 / 4) ** (-p / 2) for p in self.powers]
                made = potential(square, cell, self.dim), torch.stack(means)
                kind = like.dtype.to_complex()
                self._kernels = tuple(transform(kernel, self.dim).to(kind) for kernel in made)
                self._square, self._key = square.to(like.dtype), key
        newton, means = self._kernels
        if rate is None:
            return newton, means, None
        q = rate.view(-1, *[1] * self.dim)
        r = (self._square + width**2 / 4).sqrt()
        if self.dim == 2:
            flat = q * r * _bessel(1, q * r) / r**2
        else:
            flat = (1 + q * r) * torch.exp(-q * r) / r**3
        newton = transform(potential(self._square, cell, self.dim, q), self.dim)
        return newton, means, transform(flat * (cell / width), self.dim)


def squares(sizes: Sequence[int], spacing: Sequence[float], device: torch.device) -> Tensor:
    """Return squared distances from 0 over twice the grid `(2 n_1, ..., 2 n_d)`, float64."""
    steps = [
        torch.fft.fftfreq(2 * n, 1 / (2 * n), dtype=torch.float64, device=device) * step
        for n, step in zip(sizes, spacing, strict=True)
    ]
    return sum(part.square() for part in torch.meshgrid(*steps, indexing="ij"))


def potential(square: Tensor, cell: float, dim: int, q: Tensor | None = None) -> Tensor:
    """Return the potential of a cell of unit source.

    Args:
        square: Squared distances from its centre; 0 stands for the mean over the cell.
        cell: Its volume.
        dim: d, 2 or 3.
        q: Root of the screening, against `square`; None without.
    """
    edge, origin = cell ** (1 / dim), square == 0
    r = torch.where(origin, 1.0, square).sqrt()
    if dim == 3:
        near, far = INVERSE_MEAN / edge, 1 / r
        if q is not None:
            near, far = near - q, torch.exp(-q * r) / r
        return torch.where(origin, near, far) * (cell / (4 * math.pi))
    near, far = -math.log(edge) - LOG_MEAN, -r.log()
    if q is not None:  # K_0(z) = -log(z / 2) - gamma + ...
        near, far = near - (q / 2).log() - EULER, _bessel(0, q * r)
    return torch.where(origin, near, far) * (cell / (2 * math.pi))


class _Bessel(torch.autograd.Function):
    """K_0 or K_1, which torch evaluates and does not differentiate, nor says so.

    K_0' = -K_1 and K_1' = -K_0 - K_1 / z.
    """

    @staticmethod
    def forward(ctx: Any, order: int, z: Tensor) -> Tensor:
        """Return the values."""
        ctx.order = order
        ctx.save_for_backward(z)
        return KINDS[order](z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        """Return the gradient, differentiable in its turn."""
        (z,) = ctx.saved_tensors
        slope = -_bessel(1, z)
        return None, grad * (slope if ctx.order == 0 else slope / z - _bessel(0, z))


KINDS = (torch.special.modified_bessel_k0, torch.special.modified_bessel_k1)


def _bessel(order: int, z: Tensor) -> Tensor:
    """Return K_0 or K_1 of positive numbers."""
    if torch.is_grad_enabled() and z.requires_grad:
        return _Bessel.apply(order, z)
    return KINDS[order](z)


def transform(kernel: Tensor, dim: int) -> Tensor:
    """Return the transform of a kernel over twice the grid, for `convolve`."""
    return torch.fft.rfftn(kernel, dim=tuple(range(-dim, 0)))


def convolve(field: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Return the convolution of `(..., n_1, ..., n_d)`, zero beyond the grid, with a kernel.

    Args:
        field: Values on the grid.
        kernel: Transform over twice the grid, `(..., 2 n_1, ..., n_d + 1)`.
        dim: d.
    """
    axes, sizes = tuple(range(-dim, 0)), field.shape[-dim:]
    if not field.numel():  # some transforms do not know empty batches
        batch = torch.broadcast_shapes(field.shape[:-dim], kernel.shape[:-dim])
        return field.expand(*batch, *sizes).contiguous()
    twice = [2 * n for n in sizes]
    product = torch.fft.rfftn(field, s=twice, dim=axes) * kernel
    whole = torch.fft.irfftn(product, s=twice, dim=axes)
    return whole[(..., *(slice(n) for n in sizes))]
