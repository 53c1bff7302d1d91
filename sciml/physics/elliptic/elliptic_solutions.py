"""Fields in closed form that the solutions and coefficients of elliptic families are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.physics.elliptic.star_reference import Gaussians
from sciml.physics.geometry.domain_rows import uniform


class Angular:
    """`b0 + sum_k (b_k cos k theta + b_k' sin k theta)` of the angle around the origin.

    Args:
        coefficients: `(B, 5)`: b0, b1, b1', b2, b2'.
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (2, N)`."""
        b0, b1, c1, b2, c2 = self.coefficients.to(x).T.index_select(1, i)
        r = torch.hypot(x[0], x[1]).clamp_min(torch.finfo(x.dtype).tiny)
        c, s = x[0] / r, x[1] / r
        return b0 + b1 * c + c1 * s + b2 * (2 * c * c - 1) + c2 * (2 * s * c)


class Exponentials:
    """`sum_k a_k exp(q (e_k . x - 1))`: every term obeys `Laplacian h = q^2 h`.

    Args:
        height: a `(B, K)`.
        direction: Unit vectors e `(B, K, d)`.
        rate: q `(B,)`.
    """

    def __init__(self, height: Tensor, direction: Tensor, rate: Tensor) -> None:
        self.height, self.direction, self.rate = height, direction, rate

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (d, N)`."""
        q, total = self.rate.to(x)[i], torch.zeros_like(x[0])
        for k in range(self.height.shape[1]):
            along = (self.direction[:, k].to(x).T.index_select(1, i) * x).sum(0)
            total += self.height[:, k].to(x)[i] * (q * (along - 1)).exp()
        return total


class Polynomial:
    """The real part of `sum_k (a_k - i b_k) z^k`, z = x + i y, k = 0..3: harmonic.

    Args:
        coefficients: `(B, 8)`: a_0..a_3, b_0..b_3.
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (2, N)`."""
        return self._sum(x, i, lambda z, k: z**k).real

    def gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the gradient `(2, N)`."""
        slope = self._sum(x, i, lambda z, k: k * z ** max(k - 1, 0))
        return torch.stack([slope.real, -slope.imag])

    def _sum(self, x: Tensor, i: Tensor, power: Callable[[Tensor, int], Tensor]) -> Tensor:
        c = self.coefficients.to(x).T.index_select(1, i)
        z = torch.complex(x[0], x[1])
        return sum(torch.complex(c[k], -c[k + 4]) * power(z, k) for k in range(4))


class LogSine:
    """`alpha = exp(contrast sin(k . x + phase))` with what delta tracking needs.

    Args:
        contrast: `(B,)`.
        wave: k `(B, 2)`.
        phase: `(B,)`.
    """

    def __init__(self, contrast: Tensor, wave: Tensor, phase: Tensor) -> None:
        self.contrast, self.wave, self.phase = contrast, wave, phase

    @classmethod
    def draw(cls, count: int, contrast: float, generator: torch.Generator) -> LogSine:
        """Return random coefficients, see `StarDiffusion`."""
        u = uniform((count, 4), generator, torch.float64)
        angle, size = 2 * math.pi * u[:, 0], 1 + u[:, 1]
        wave = torch.stack([size * angle.cos(), size * angle.sin()], 1)
        return cls(contrast * u[:, 2], wave, 2 * math.pi * u[:, 3])

    def _parts(self, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wave = self.wave.to(x).T.index_select(1, i)
        return self.contrast.to(x)[i], wave, (wave * x).sum(0) + self.phase.to(x)[i]

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return alpha `(N,)` at `x (2, N)`."""
        contrast, _, angle = self._parts(x, i)
        return (contrast * angle.sin()).exp()

    def log_gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the gradient of log alpha `(2, N)`."""
        contrast, wave, angle = self._parts(x, i)
        return contrast * angle.cos() * wave

    def reduced(self, x: Tensor, i: Tensor) -> Tensor:
        """Return `Laplacian(log alpha) / 2 + |grad log alpha|^2 / 4`, `(N,)`."""
        contrast, wave, angle = self._parts(x, i)
        square = wave.square().sum(0)
        return square * (-contrast * angle.sin() / 2 + (contrast * angle.cos()) ** 2 / 4)

    def bound(self) -> Tensor:
        """Return a bound of `|reduced|` `(B,)` for delta tracking.

        With c the contrast `c |sin| / 2 + c^2 cos^2 / 4 <= c / 2 + c^2 / 4`; a tracking rate far
        below 1 costs nothing, so it is kept away from 0.
        """
        c = self.contrast
        return (self.wave.square().sum(1) * (c / 2 + c**2 / 4)).clamp_min(0.05)


class Charges:
    """`sum_k q_k / |x - p_k|`.

    Args:
        charge: q `(B, K)`.
        place: p `(B, K, 3)`.
    """

    def __init__(self, charge: Tensor, place: Tensor) -> None:
        self.charge, self.place = charge, place

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (3, N)`."""
        total = torch.zeros_like(x[0])
        for k in range(self.charge.shape[1]):
            gap = x - self.place[:, k].to(x).T.index_select(1, i)
            total += self.charge[:, k].to(x)[i] * gap.square().sum(0).rsqrt()
        return total


def gaussians(count: int, dim: int, generator: torch.Generator) -> Gaussians:
    """Return `count` sums of 2 Gaussians, centres and amplitudes normal."""
    amplitude = normal((count, 2), generator)
    return Gaussians(amplitude, normal((count, 2, dim), generator))


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return standard normal numbers in float64."""
    kind = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    return torch.randn(shape, **kind)
