"""Random functions on an interval or a periodic box, drawn as modes: one seed, one function.

A finer grid shows more points of the same function, so solutions of two grids can be compared.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.errors import InvalidArgument

NEGLIGIBLE = 1e-8  # modes whose share of the variance is smaller are left out


def cosine_profiles(
    count: int, cells: int, generator: torch.Generator, *, tau: float = 3.0, alpha: float = 1.5
) -> Tensor:
    """Return Gaussian functions `(count, cells)` on [0, 1] at cell centres, float64.

    Samples of N(0, (-d^2/dx^2 + tau^2)^-alpha) with zero slope at the ends, over the modes 1 to 15,
    scaled so that the variance averaged over the interval is 1.

    Args:
        count: Functions.
        cells: Cells.
        generator: Source of the coefficients, on the CPU.
        tau: Inverse correlation length; larger is rougher.
        alpha: Decay of the spectrum; smaller is rougher.
    """
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    k, size = _modes(tau, alpha)
    draws = torch.randn(count, len(k), generator=generator, dtype=torch.float64)
    return (draws * size * math.sqrt(2)) @ torch.cos(math.pi * k[:, None] * x)


def sine_profiles(
    count: int, points: int, generator: torch.Generator, *, tau: float = 3.0, alpha: float = 2.0
) -> Tensor:
    """Return Gaussian functions `(count, points + 1)` that vanish at 0 and 1, float64.

    As `cosine_profiles`, with sines, at j / points.

    Args:
        count: Functions.
        points: Intervals, at least 16 to carry the modes.
        generator: Source of the coefficients, on the CPU.
        tau: Inverse correlation length; larger is rougher.
        alpha: Decay of the spectrum; smaller is rougher.

    Raises:
        InvalidArgument: If the grid cannot carry the modes.
    """
    if points < 16:
        raise InvalidArgument(f"{points} intervals", "at least 16, to carry 15 modes")
    x = torch.arange(points + 1, dtype=torch.float64) / points
    k, size = _modes(tau, alpha)
    draws = torch.randn(count, len(k), generator=generator, dtype=torch.float64)
    values = (draws * size * math.sqrt(2)) @ torch.sin(math.pi * k[:, None] * x)
    values[:, [0, -1]] = 0  # sin(pi k) is round-off
    return values


def _modes(tau: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Return wave numbers 1 to 15 and their standard deviations, of unit variance together."""
    k = torch.arange(1, 16, dtype=torch.float64)
    size = (math.pi**2 * k**2 + tau**2) ** (-alpha / 2)
    return k, size / size.square().sum().sqrt()


def periodic_kernel_fields(
    count: int,
    points: int,
    generator: torch.Generator,
    *,
    dimension: int = 2,
    length_scale: float = 0.8,
    std: float = 1.0,
) -> Tensor:
    """Return Gaussian fields of mean zero on the periodic unit box, `(count, points, ...)`.

    Their covariance is that of the periodic kernel, a product over the directions of

        k(r) = exp(-2 sin^2(pi r) / l^2) = e^-z sum_k I_k(z) exp(2 pi i k r),   z = 1 / l^2,

    with the constant mode left out; the rest is scaled to the standard deviation `std`. The modes
    are drawn one by one: the same generator state gives the same functions on every grid.

    Args:
        count: Fields.
        points: Points j / points per side.
        generator: Source of the coefficients, on the CPU.
        dimension: 1 or 2.
        length_scale: l, in sides of the box.
        std: Standard deviation at every point.

    Raises:
        InvalidArgument: If the grid cannot carry the modes.

    Source of the kernel: MacKay 1998, Introduction to Gaussian processes.
    """
    from scipy.special import ive

    z = 1 / length_scale**2
    line = torch.from_numpy(ive(range(1 + math.ceil(20 + 8 * math.sqrt(z))), z))
    top = int((line > NEGLIGIBLE * line[0]).nonzero().max())
    if points <= 2 * top:
        raise InvalidArgument(
            f"{points} points per side with length_scale={length_scale}",
            f"more than {2 * top} points per side for modes to {top}",
            "Type more points or a larger length_scale",
        )
    k = torch.arange(-top, top + 1)
    axes = torch.meshgrid([k] * dimension, indexing="ij")
    size = torch.stack([line[axis.abs()] for axis in axes]).prod(0)
    size[(top,) * dimension] = 0
    size = (size / size.sum()).sqrt() * std
    if count == 0:
        return torch.zeros(0, *[points] * dimension, dtype=torch.float64)
    # independent cosine and sine waves of every k; their real sum has the variance size^2 for k
    draws = torch.randn(count, *size.shape, 2, generator=generator, dtype=torch.float64)
    waves = torch.view_as_complex(draws) * size
    spectrum = torch.zeros(count, *[points] * dimension, dtype=torch.complex128)
    spectrum[(slice(None), *(axis % points for axis in axes))] = waves
    return torch.fft.fftn(spectrum, dim=tuple(range(1, dimension + 1))).real
