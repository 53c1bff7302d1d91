"""Screened Poisson equation in a square with four disks cut out.

    -Lap u + k^2 u = f in [-1, 1]^2 minus disks,  u = 0.2 outside, 1 on the disks,  k = 8,
    f = 10 (17 + x^2 + y^2) S,  S = sin(pi x) sin(4 pi y)

The reference is u = P + W + V + H with four parts of which all but the last are exact:

    P  a particular solution among S, x^2 S, y^2 S, x S_x, y S_y, which -Lap + k^2 maps into itself;
    W  minus P on the sides, sin(4 pi y) sinh(a x) and sin(pi x) sinh(b y) with the right factors;
    V  0.2 on the sides, by a sine series;
    H  zero on the sides, what is missing on the disks: the best fit there by Bessel functions I_n
       around the middle and K_n around every disk, which continue across the sides.

By the maximum principle the error of H is at most its misfit on the boundary. At the corners the
value 0.2 contradicts the equation (k^2 0.2 where f = 0): u is not twice differentiable there, and
the residual counts less within `NEAR` of them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import ive, kve
from torch import Tensor

from sciml.physics.systems import Disk, On, Rectangle, System
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.physics.systems.named_shapes import Shape
    from sciml.physics.systems.system_fields import Field

DISKS = ((0.5, 0.5, 0.2), (0.4, -0.4, 0.4), (-0.2, -0.7, 0.1), (-0.6, 0.5, 0.3))
K, OUTSIDE, INSIDE = 8.0, 0.2, 1.0
NEAR = 0.1  # of the corners
REGULAR, POLES, SINES = 24, 30, 600  # terms of the series


def _domain() -> Shape:
    shape = Rectangle((-1, -1), (1, 1), name="outside")
    for x, y, radius in DISKS:
        shape = shape - Disk((x, y), radius, name="disks")
    return shape


@typed
class PoissonBoltzmann2D(System):
    """A screened Poisson equation in a square with four disks cut out.

    Args:
        constraint: "hard" builds boundary values into the ansatz, "soft" makes terms of them.

    Example:
        >>> from sciml.physics.suite import PoissonBoltzmann2D
        >>> PoissonBoltzmann2D(constraint="soft").term_names
        ('residual', 'outside', 'disks')
        >>> PoissonBoltzmann2D(constraint="hard").term_names  # boundary values are built in
        ('residual',)
    """

    domain = _domain()
    conditions = {"outside": On(domain.outside, u=OUTSIDE), "disks": On(domain.disks, u=INSIDE)}
    reference_accuracy = 1e-6

    def __init__(self, *, constraint: str = "hard") -> None:
        self.constraint = constraint
        self.hard_conditions = ("outside", "disks") if constraint == "hard" else ()

    def residual(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        """Return the equation over the size of f, less of it at the corners."""
        square = (1 - x.abs()) ** 2 + (1 - y.abs()) ** 2
        return square / (square + NEAR**2) * (-u.lap + K**2 * u - source(x, y)) / 170

    def exact(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the series."""
        a, b = (c.detach().double().cpu().numpy() for c in (x, y))
        return torch.from_numpy(_known(a, b) + _basis(a, b) @ series()[0]).to(x.device)


def source(x: Any, y: Any) -> Any:
    """Return f; tensors, jets or arrays."""
    sin = np.sin if isinstance(x, np.ndarray) else torch.sin
    return 10 * (17 + x**2 + y**2) * sin(np.pi * x) * sin(4 * np.pi * y)


@functools.cache
def _particular() -> np.ndarray:
    """Return the coefficients of S, x^2 S, y^2 S, x S_x, y S_y in P."""
    m2, n2 = np.pi**2, 16 * np.pi**2
    own = m2 + n2 + K**2  # -Lap + k^2 of S
    # columns: what -Lap + k^2 makes of each, in the same functions
    matrix = own * np.eye(5)
    matrix[0, 1] = matrix[0, 2] = -2
    matrix[3, 1] = matrix[4, 2] = -4
    matrix[0, 3], matrix[0, 4] = 2 * m2, 2 * n2
    return np.linalg.solve(matrix, [170.0, 10.0, 10.0, 0.0, 0.0])


def _known(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return P + W + V."""
    sx, cx, sy = np.sin(np.pi * x), np.cos(np.pi * x), np.sin(4 * np.pi * y)
    cy = np.cos(4 * np.pi * y)
    c = _particular()
    found = (c[0] + c[1] * x**2 + c[2] * y**2) * sx * sy
    found += c[3] * x * np.pi * cx * sy + c[4] * y * 4 * np.pi * sx * cy
    # on x = +-1 only x S_x is left, -+pi sin(4 pi y); on y = +-1 only y S_y, +-4 pi sin(pi x)
    a, b = np.sqrt(K**2 + 16 * np.pi**2), np.sqrt(K**2 + np.pi**2)
    found += c[3] * np.pi * sy * _ratio(a, x, -1) - c[4] * 4 * np.pi * sx * _ratio(b, y, -1)
    # 0.2 on all sides: the solution that depends on x alone, and what it lacks on y = +-1
    found += OUTSIDE * _ratio(K, x, 1)
    m = np.arange(1, 2 * SINES, 2) * (np.pi / 2)
    root = np.sqrt(K**2 + m**2)
    for part in np.array_split(np.arange(len(x)), max(1, len(x) // 500)):
        sines = np.sin((x[part, None] + 1) * m) * (2 * K**2 * OUTSIDE / (m * root**2))
        found[part] += (sines * _ratio(root, y[part, None], 1)).sum(1)
    return found


def _ratio(a: Any, x: Any, sign: int) -> Any:
    """Return cosh(a x) / cosh(a), or of sinh for sign = -1, without overflow."""
    total = np.exp(a * (x - 1)) + sign * np.exp(-a * (x + 1))
    return total / (1 + sign * np.exp(-2 * a))


def _basis(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return solutions of -Lap h + k^2 h = 0, each of size one where it is largest."""
    columns = list(_regular(x, y))
    mirrors = [(1, 0.0), (-1, 2.0), (-1, -2.0)]
    for disk in DISKS:
        # with their mirror images in the sides, where the sum nearly vanishes
        columns.append(
            sum(a * c * _pole(a * x + b, c * y + d, *disk) for a, b in mirrors for c, d in mirrors)
        )
    return np.concatenate(columns, 1)


def _regular(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, r, angle = np.arange(REGULAR), np.hypot(x, y)[:, None], np.arctan2(y, x)[:, None]
    edge = np.sqrt(2)
    size = ive(n, K * r) / ive(n, K * edge) * np.exp(K * (r - edge))
    return size * np.cos(n * angle), size[:, 1:] * np.sin(n[1:] * angle)


def _pole(x: np.ndarray, y: np.ndarray, cx: float, cy: float, radius: float) -> np.ndarray:
    """Return K_n(k r) / K_n(k radius) times cosines and sines, `(N, 2 POLES - 1)`."""
    z = np.maximum(np.hypot(x - cx, y - cy), radius)
    angle, both = np.arctan2(y - cy, x - cx)[:, None], np.append(K * z, K * radius)
    found = [kve(0, both), kve(1, both)]
    for n in range(1, POLES - 1):  # upwards: stable
        found.append(found[-2] + 2 * n / both * found[-1])
    size = np.stack(found, 1)
    size = size[:-1] / size[-1] * np.exp(K * (radius - z))[:, None]
    n = np.arange(POLES)
    return np.concatenate([size * np.cos(n * angle), size[:, 1:] * np.sin(n[1:] * angle)], 1)


@functools.cache
def series() -> tuple[np.ndarray, float]:
    """Return the coefficients of H and the largest misfit on the boundary between nodes."""

    def boundary(n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
        s = np.cos(np.pi * (np.arange(n) + shift) / n)
        angle = 2 * np.pi * (np.arange(n) + shift) / n
        one = np.ones(n)
        x = [one, -one, s, s] + [a + r * np.cos(angle) for a, _, r in DISKS]
        y = [s, s, one, -one] + [b + r * np.sin(angle) for _, b, r in DISKS]
        x, y = np.concatenate(x), np.concatenate(y)
        wanted = np.zeros(len(x))
        wanted[4 * n :] = INSIDE - _known(x[4 * n :], y[4 * n :])
        return x, y, wanted

    x, y, wanted = boundary(200, 0.5)
    found = np.linalg.lstsq(_basis(x, y), wanted, rcond=1e-14)[0]
    x, y, wanted = boundary(397, 0.25)
    return found, float(np.abs(_basis(x, y) @ found - wanted).max())
