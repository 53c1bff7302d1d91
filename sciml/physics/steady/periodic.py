"""Fourier tools on the periodic square, and random fields that do not know the grid.

A field `(..., n, n)` holds values at the points x_j = j L / n of [0, L)^2. Random fields are drawn
as coefficients of a fixed set of modes, so one seed gives the same function on every grid; without
that, errors on two grids could not be compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.arguments import whole
from sciml.errors import InvalidArgument


@dataclass(frozen=True)
class Periodic:
    """Wave numbers of an n x n grid on [0, length)^2.

    Args:
        n: Points per side, even.
        length: Side.

    Raises:
        InvalidArgument: If `n` is odd or below 4.
    """

    n: int
    length: float = 1.0

    def __post_init__(self) -> None:
        """Check the grid."""
        if whole(self.n) or self.n < 4 or self.n % 2:
            raise InvalidArgument(f"n={self.n}", "an even number of points, at least 4")

    def points(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and y, each `(n, n)`; x runs along the first axis."""
        s = torch.arange(self.n, dtype=like.dtype, device=like.device) * (self.length / self.n)
        return torch.meshgrid(s, s, indexing="ij")

    def waves(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return k_x `(n, 1)` and k_y `(1, n/2 + 1)` in the order of `rfft2`, in 1/length."""
        unit, kind = 2 * math.pi / self.length, {"dtype": like.dtype, "device": like.device}
        kx = torch.fft.fftfreq(self.n, 1 / self.n, **kind) * unit
        ky = torch.fft.rfftfreq(self.n, 1 / self.n, **kind) * unit
        return kx[:, None], ky[None, :]

    def squares(self, like: Tensor) -> Tensor:
        """Return |k|^2 `(n, n/2 + 1)`: the symbol of minus the Laplacian."""
        kx, ky = self.waves(like)
        return kx**2 + ky**2

    def slopes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return i k_x and i k_y with the Nyquist mode left out: its derivative is not on the grid.

        Shapes as in `waves`.
        """
        kx, ky = self.waves(like)
        edge = math.pi * self.n / self.length * (1 - 1e-9)
        return 1j * kx * (kx.abs() < edge), 1j * ky * (ky.abs() < edge)

    def kept(self, like: Tensor) -> Tensor:
        """Return which modes the 2/3 rule keeps, `(n, n/2 + 1)` booleans.

        Products of two fields of kept modes alias only into modes that are not kept.
        """
        kx, ky = self.waves(like)
        bound = 2 * math.pi / self.length * self.n / 3 * (1 - 1e-9)
        return (kx.abs() < bound) & (ky.abs() < bound)


class Advection:
    """u . grad w in Fourier space without aliasing, u = (d_y psi, -d_x psi) with -Lap psi = w.

    Args:
        grid: The square.
        like: Precision and device.
    """

    def __init__(self, grid: Periodic, like: Tensor) -> None:
        self.shape, self.kept = (grid.n, grid.n), grid.kept(like)
        self.slopes = grid.slopes(like)
        self.square = grid.squares(like).clone()
        self.square[0, 0] = 1

    def velocities(self, spectrum: Tensor) -> Tensor:
        """Return u and v `(2, ..., n, n)` on the grid for the spectrum `(..., n, n/2 + 1)` of w."""
        return torch.fft.irfft2(torch.stack(self._velocity(spectrum)), s=self.shape)

    def __call__(self, spectrum: Tensor) -> Tensor:
        """Return the kept modes of u . grad w for a spectrum of kept modes of w."""
        kx, ky = self.slopes
        parts = torch.stack([*self._velocity(spectrum), kx * spectrum, ky * spectrum])
        u, v, wx, wy = torch.fft.irfft2(parts, s=self.shape)
        return torch.fft.rfft2(u * wx + v * wy) * self.kept

    def _velocity(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        kx, ky = self.slopes
        psi = spectrum / self.square
        return ky * psi, -kx * psi


def multiplied(symbol: Tensor, u: Tensor) -> Tensor:
    """Return the Fourier multiplier `symbol` `(n, n/2 + 1)` applied to a field `(..., n, n)`."""
    return torch.fft.irfft2(symbol * torch.fft.rfft2(u), s=u.shape[-2:])


def periodic_field(
    count: int,
    n: int,
    generator: torch.Generator,
    *,
    cutoff: float = 3.0,
    std: float = 1.0,
    mean: bool = True,
) -> Tensor:
    """Return stationary Gaussian fields `(count, n, n)` on the periodic square, float64.

    The mode k = (k_1, k_2) has a standard deviation proportional to exp(-|k|^2 / (2 cutoff^2));
    modes up to three times the cutoff are drawn. The same generator state gives the same functions
    on every grid that carries these modes.

    Args:
        count: Fields.
        n: Points per side.
        generator: Source of the coefficients, on the CPU.
        cutoff: Wave number at which the spectrum has fallen to exp(-1/2).
        std: Standard deviation at every point.
        mean: Whether the mode k = 0 is present.

    Raises:
        InvalidArgument: If the grid cannot carry the modes.
    """
    top = math.ceil(3 * cutoff)
    if n <= 2 * top:
        raise InvalidArgument(
            f"n={n} with cutoff={cutoff}", f"more than {2 * top} points per side for modes to {top}"
        )
    k1 = torch.arange(-top, top + 1, dtype=torch.float64)[:, None]
    k2 = torch.arange(0, top + 1, dtype=torch.float64)[None, :]
    size = torch.exp(-(k1**2 + k2**2) / (2 * cutoff**2))
    # k and -k are one real wave: on the line k_2 = 0 both are drawn, elsewhere one of them
    size = torch.where((k2 == 0) & (k1 != 0), size / math.sqrt(2), size)
    if not mean:
        size[top, 0] = 0
    size = size * (std / size.square().sum().sqrt())
    draws = torch.randn(count, *size.shape, 2, generator=generator, dtype=torch.float64)
    waves = torch.view_as_complex(draws) * size
    waves[..., 1:] /= 2  # irfft2 adds the mirrored half
    spectrum = torch.zeros(count, n, n // 2 + 1, dtype=torch.complex128)
    spectrum[:, k1[:, 0].long() % n, : top + 1] = waves
    return torch.fft.irfft2(spectrum, s=(n, n), norm="forward")


def cosine_field(
    count: int, n: int, generator: torch.Generator, *, tau: float = 3.0, alpha: float = 2.0
) -> Tensor:
    """Return Gaussian fields `(count, n, n)` of unit mean variance on the unit square, float64.

    Samples of N(0, (-Laplacian + tau^2)^-alpha) with no-flux conditions, at cell centres,

        m(x, y) = sum_k xi_k (pi^2 |k|^2 + tau^2)^(-alpha/2) cos(pi k_1 x) cos(pi k_2 y),

    over modes 0 < k_1 + k_2, k_i < 16, scaled so that the variance averaged over the square is 1.

    Args:
        count: Fields.
        n: Cells per side.
        generator: Source of the coefficients, on the CPU.
        tau: Inverse correlation length; larger is rougher.
        alpha: Decay of the spectrum; smaller is rougher.
    """
    k = torch.arange(16, dtype=torch.float64)
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    unit = torch.full_like(k, math.sqrt(2.0))
    unit[0] = 1
    waves = torch.cos(math.pi * k[:, None] * x) * unit[:, None]
    size = (math.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** (-alpha / 2)
    size[0, 0] = 0
    size = size / size.square().sum().sqrt()
    draws = torch.randn(count, 16, 16, generator=generator, dtype=torch.float64)
    return waves.T @ (draws * size) @ waves
