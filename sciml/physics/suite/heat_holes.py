"""Heat in a rectangle with seventeen round holes that exchange heat with what is in them.

    u_t = Lap u  in [-8, 8] x [-12, 12] minus holes, t in [0, 3], u = 0 at the start,
    du/dn = 5 - u  on eleven holes of radius 1,  1 - u  on six of radius 0.4,  0.1 - u  outside

Domain and data are symmetric in x and y: one quarter is solved, x, y > 0, without flow through its
inner sides. Heat enters like sqrt(t), so the variable is s = sqrt(t) and the equation is
u_s = 2 s Lap u; conditions count less where s is small and what they say is confined to layers of
width s.

The reference is a Laplace transform. For complex s, the transform w solves s w = Lap w with the
data above over s: it is fitted on the boundary by Bessel functions K_n around the holes and K_0
around points outside, all made symmetric in x and y as the problem is. Values in time come back
from the quadrature of Weideman and Trefethen on a hyperbola,

    u(t) = (1 / 2 pi i) int e^{s t} w(s) ds ,   s = mu (1 + sin(i z - alpha)) / t .

References: Weideman and Trefethen 2007, "Parabolic and hyperbolic contours for computing the
Bromwich integral"; Trefethen 2018, "Series solution of Laplace problems".
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import kv
from torch import Tensor

from sciml.physics.systems import Disk, On, Range, Rectangle, System

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.named_shapes import Shape
    from sciml.physics.systems.system_fields import Field

HALF = (8.0, 12.0)
# centre and radius of one of each set of mirror images, and what flows in
HOLES = (*((c, 1.0, 5.0) for c in ((4, 3), (4, 9), (0, 0), (0, 6))),
         *((c, 0.4, 1.0) for c in ((3.2, 0), (3.2, 6))))  # fmt: skip
OUTSIDE = 0.1
POLES, CHARGES, AWAY = 9, 24, 1.2  # terms of a hole; points outside per side, and how far
CONTOUR, SPAN = 24, 3.1  # nodes of the inverse transform, half of them by symmetry; of its times
EARLY = 0.3  # s below which conditions count less
PLACES, MOMENTS = 500, 12  # of the reference


def _domain() -> Shape:
    shape = Rectangle((0, 0), HALF)
    for center, radius, given in HOLES:
        shape = shape - Disk(center, radius, name="large" if given == 5 else "small")
    return shape * Range("s", 0, math.sqrt(3))


class Heat2DHoles(System):
    """Heat in a rectangle with seventeen holes, each with a Robin condition.

    Example:
        >>> from sciml.physics.suite import Heat2DHoles
        >>> plate = Heat2DHoles()
        >>> plate.region.variables, plate.term_names
        (('x', 'y', 's'), ('residual', 'large', 'small', 'outside', 'symmetry'))
    """

    domain = _domain()
    conditions = {
        "large": On(domain.large, lambda u, s: s / (s + EARLY) * (u.n + u - 5)),
        "small": On(domain.small, lambda u, s: s / (s + EARLY) * (u.n + u - 1)),
        "outside": On(domain.right | domain.top, lambda u, s: s / (s + EARLY) * (u.n + u - 0.1)),
        "symmetry": On(domain.left | domain.bottom, u_n=0),
    }
    reference_accuracy = 1e-5

    def residual(self, u: Field, s: Tensor) -> Tensor:
        """Return u_s - 2 s Lap u."""
        return u.s - 2 * s * u.lap

    def hard(
        self, u: Differentiable, x: Differentiable, y: Differentiable, s: Differentiable
    ) -> Differentiable:
        """Return zero at the start."""
        return 2 * s * u

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the solution at random places, at 20 times each."""
        x = self.region.sample(PLACES, generator)[:, :2]
        t = torch.linspace(0, 3, MOMENTS + 1, dtype=torch.float64)[1:]
        u = torch.from_numpy(solution(x.numpy(), t.numpy()))
        both = [x.repeat_interleave(len(t), 0), t.sqrt().repeat(len(x))[:, None]]
        return torch.cat(both, 1), {"u": u.reshape(-1)}


def solution(x: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return u `(N, T)` at points `(N, 2)` and positive times."""
    found = np.empty((len(x), len(times)))
    alpha, h, mu = 1.1721, 1.0818 / (CONTOUR / 2), 4.4921 * CONTOUR / 2
    z = (np.arange(CONTOUR // 2) + 0.5) * h
    nodes, slopes = mu * (1 + np.sin(1j * z - alpha)), 1j * mu * np.cos(1j * z - alpha)
    left = sorted(times)
    while left:  # one contour serves times that differ by a factor
        group = [t for t in left if t <= SPAN * left[0]]
        left = left[len(group) :]
        middle = group[-1]
        total = np.zeros((len(x), len(group)))
        for s, slope in zip(nodes / middle, slopes / middle, strict=True):
            w = _functions(x, s, slopes=False)[0] @ fitted(s)
            total += (w[:, None] * np.exp(s * np.array(group)) * slope).imag
        for t, u in zip(group, total.T, strict=True):
            found[:, list(times).index(t)] = h / np.pi * u
    return found


@functools.cache
def _boundary(n: int, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points, normals out of the domain and data times s, of the quarter x, y >= 0."""
    angle = 2 * np.pi * (np.arange(n) + shift) / n
    out = np.stack([np.cos(angle), np.sin(angle)], 1)
    s = np.cos(np.pi * (np.arange(2 * n) + shift) / (2 * n)) / 2 + 0.5
    x = [np.asarray(c) + r * out for c, r, _ in HOLES]
    normals, data = [-out] * len(HOLES), [np.full(n, g) for *_, g in HOLES]
    for axis in (0, 1):
        side = np.zeros((len(s), 2))
        side[:, axis], side[:, 1 - axis] = HALF[axis], HALF[1 - axis] * s
        x.append(side)
        normals.append(np.eye(2)[axis] * np.ones((len(s), 1)))
        data.append(np.full(len(s), OUTSIDE))
    return np.concatenate(x), np.concatenate(normals), np.concatenate(data)


def _functions(x: np.ndarray, s: complex, slopes: bool = True) -> tuple[np.ndarray, ...]:
    """Return solutions of s w = Lap w at points `(N, 2)`, and their derivatives in x and y."""
    root, columns = np.sqrt(s), []
    for a, b in itertools.product((1, -1), (1, -1)):
        parts = []
        for center, radius, _ in HOLES:
            parts.append(_multipoles(x * (a, b) - center, root, radius, POLES))
        for axis in (0, 1):
            for c in (np.arange(CHARGES) + 0.5) / CHARGES:
                point = np.empty(2)
                point[axis], point[1 - axis] = HALF[axis] + AWAY, (HALF[1 - axis] + AWAY) * c
                parts.append(_multipoles(x * (a, b) - point, root, AWAY, 1))
        whole = np.concatenate(parts, 1)
        columns.append(whole * np.array([1, a, b])[:, None, None])
    return tuple(sum(c[k] for c in columns).T for k in range(3 if slopes else 1))


def _multipoles(x: np.ndarray, root: complex, radius: float, terms: int) -> np.ndarray:
    """Return K_n(root r) cos and sin of n angles over K_n(root radius), with slopes `(3, m, N)`."""
    r, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    both = root * np.append(r, radius)
    bessel = [kv(0, both), kv(1, both)]
    for n in range(1, terms + 1):  # upwards: stable
        bessel.append(bessel[-2] + 2 * n / both * bessel[-1])
    cos, sin = np.cos(angle), np.sin(angle)
    found = []
    for n in range(terms):
        size = bessel[n][:-1] / bessel[n][-1]
        less = bessel[abs(n - 1)][:-1] / bessel[n][-1]
        radial = -root * less - n / r * size
        for f, g in ((np.cos, -np.sin(n * angle)), (np.sin, np.cos(n * angle)))[: 1 + (n > 0)]:
            wave, around = f(n * angle), n / r * size * g
            slope = radial * wave
            found.append((size * wave, slope * cos - around * sin, slope * sin + around * cos))
    return np.asarray(found).transpose(1, 0, 2)


def _robin(x: np.ndarray, normals: np.ndarray, s: complex) -> np.ndarray:
    value, dx, dy = _functions(x, s)
    return normals[:, :1] * dx + normals[:, 1:] * dy + value


@functools.cache
def fitted(s: complex) -> np.ndarray:
    """Return the coefficients of w for one s."""
    x, normals, data = _boundary(28, 0.5)
    matrix = _robin(x, normals, s)
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1
    return np.linalg.lstsq(matrix / size, data / s, rcond=1e-13)[0] / size


def misfit(s: complex) -> float:
    """Return |s| times the largest error of the boundary data of w between the nodes."""
    x, normals, data = _boundary(53, 0.25)
    return float(abs(s * (_robin(x, normals, s) @ fitted(s)) - data).max())
