"""Laplace's equation in a square with four holes.

    Lap u = 0 in [-1/2, 1/2]^2 minus disks at (+-0.3, +-0.3) of radius 0.1,  u = 1 outside, 0 inside

Data are constant on each boundary, so the solution continues analytically across the sides and, by
reflection, through the corners. The reference is the best fit of the boundary values by harmonic
functions, polynomials and poles in the holes,

    u = Re sum_k a_k z^k + sum_j ( b_j log|z - z_j| + Re sum_k c_jk (z - z_j)^-k ) ;

by the maximum principle its error is at most its misfit on the boundary.

Reference: Trefethen 2018, "Series solution of Laplace problems".
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.physics.systems import Disk, On, Rectangle, System
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.physics.systems.named_shapes import Shape
    from sciml.physics.systems.system_fields import Field

CENTERS = tuple(itertools.product((-0.3, 0.3), repeat=2))
RADIUS = 0.1
DEGREE, POLES = 80, 24  # of the series: the misfit on the boundary is 1.4e-10


def _domain() -> Shape:
    shape = Rectangle((-0.5, -0.5), (0.5, 0.5), name="outside")
    for center in CENTERS:
        shape = shape - Disk(center, RADIUS, name="holes")
    return shape


@typed
class Poisson2DHoles(System):
    """Laplace's equation in a square with four holes.

    Args:
        constraint: "hard" builds boundary values into the ansatz, "soft" makes terms of them.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Poisson2DHoles
        >>> holes = Poisson2DHoles(constraint="soft")
        >>> holes.term_names
        ('residual', 'outside', 'holes')
        >>> x = torch.zeros(1, dtype=torch.float64)
        >>> round(holes.exact(x, x).item(), 3)
        0.234
    """

    domain = _domain()
    conditions = {"outside": On(domain.outside, u=1), "holes": On(domain.holes, u=0)}
    reference_accuracy = 1e-9

    def __init__(self, *, constraint: str = "hard") -> None:
        self.constraint = constraint
        self.hard_conditions = ("outside", "holes") if constraint == "hard" else ()

    def residual(self, u: Field) -> Tensor:
        """Return the Laplacian."""
        return u.lap

    def exact(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the series."""
        z = torch.complex(x.double(), y.double()).cpu().numpy()
        return torch.from_numpy(_basis(z) @ series()[0]).to(x.device)


def _basis(z: np.ndarray) -> np.ndarray:
    """Return the harmonic functions `(N, M)` at points of the complex plane."""
    powers = (z[:, None] * np.sqrt(2)) ** np.arange(DEGREE + 1)
    columns = [powers.real, powers.imag[:, 1:]]
    for a, b in CENTERS:
        w = z - complex(a, b)
        poles = (RADIUS / w[:, None]) ** np.arange(1, POLES + 1)
        columns += [np.log(np.abs(w))[:, None], poles.real, poles.imag]
    return np.concatenate(columns, 1)


@functools.cache
def series() -> tuple[np.ndarray, float]:
    """Return the coefficients and the largest misfit at points of the boundary between nodes."""

    def boundary(n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
        s = np.cos(np.pi * (np.arange(n) + shift) / n) / 2  # dense at the corners
        sides = [complex(0.5) + 1j * s, -0.5 + 1j * s, s + 0.5j, s - 0.5j]
        angle = np.exp(2j * np.pi * (np.arange(n) + shift) / n)
        circles = [complex(a, b) + RADIUS * angle for a, b in CENTERS]
        values = np.repeat([1.0, 0.0], 4 * n)
        return np.concatenate([*sides, *circles]), values

    z, wanted = boundary(160, 0.5)
    coefficients = np.linalg.lstsq(_basis(z), wanted, rcond=1e-14)[0]
    z, wanted = boundary(397, 0.25)
    return coefficients, float(np.abs(_basis(z) @ coefficients - wanted).max())
