"""Periodic problems whose references are Fourier series in space: fronts, chaos, patterns.

    kuramoto_sivashinsky   u_t + a u u_x + b u_xx + c u_xxxx = 0,   a = 100/16, b = 100/16^2,
                           c = 100/16^4, x in [0, 2 pi], u = cos x (1 + sin x) at the start
    gray_scott             u_t = 1e-5 Lap u + 0.04 (1 - u) - u v^2,
                           v_t = 5e-6 Lap v - 0.1 v + u v^2
                           on [-1, 1]^2, two bumps off each other at the start

The benchmark gives neither of them boundary conditions; both are periodic here, which the first
one's reference is and the second one's boundary, where nothing happens, does not tell apart.

Small errors of the first grow like e^(25 t): it is solved to `final_time` = 0.3, not to 1.

References: Cox and Matthews 2002, "Exponential time differencing for stiff systems"; Kassam and
Trefethen 2005, "Fourth-order time-stepping for stiff PDEs", whose contour integrals these are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciml.physics.checks import check_positive
from sciml.physics.systems import Interval, Rectangle, System, Time
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field


def etdrk4(
    start: np.ndarray,
    linear: np.ndarray,
    nonlinear: Callable[[np.ndarray], np.ndarray],
    step: float,
    steps: int,
    keep_every: int,
) -> np.ndarray:
    """Return Fourier coefficients of u_t = L u + N(u) at equal times, the first one the start.

    Args:
        start: Coefficients.
        linear: Eigenvalues of L, of the same shape.
        nonlinear: N of coefficients.
        step: Length of a time step.
        steps: Their number.
        keep_every: Steps between two kept times.
    """
    roots = np.exp(2j * np.pi * (np.arange(16) + 0.5) / 16)
    z = step * linear[..., None] + roots
    full, half = np.exp(step * linear), np.exp(step * linear / 2)

    def mean(values: np.ndarray) -> np.ndarray:
        return step * values.mean(-1).real

    q = mean((np.exp(z / 2) - 1) / z)
    first = mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3)
    middle = mean((2 + z + np.exp(z) * (z - 2)) / z**3)
    last = mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3)
    found, v = [start], start
    for k in range(1, steps + 1):
        n0 = nonlinear(v)
        a = half * v + q * n0
        n1 = nonlinear(a)
        b = half * v + q * n1
        n2 = nonlinear(b)
        c = half * a + q * (2 * n2 - n0)
        v = full * v + n0 * first + 2 * (n1 + n2) * middle + nonlinear(c) * last
        if k % keep_every == 0:
            found.append(v)
    return np.stack(found)


@typed
class KuramotoSivashinsky(System):
    """Chaos in one dimension, periodic.

    Args:
        final_time: To which it is solved.

    Example:
        >>> from sciml.physics.suite import KuramotoSivashinsky
        >>> chaos = KuramotoSivashinsky(final_time=0.1)
        >>> chaos.region.variables, chaos.periodic, chaos.term_names
        (('x', 't'), ('x',), ('residual',))
    """

    periodic = ("x",)
    a, b, c = 100 / 16, 100 / 16**2, 100 / 16**4
    modes, saved = 256, 60  # of the reference
    reference_accuracy = 1e-7

    def __init__(self, *, final_time: float = 0.3) -> None:
        self.final_time = check_positive("problem.final_time", final_time)
        self.domain = Interval(0, 2 * math.pi) * Time(0, self.final_time)

    def residual(self, u: Field) -> Tensor:
        """Return the equation over the size of its terms."""
        return (u.t + self.a * u * u.x + self.b * u.xx + self.c * u.xxxx) / 10

    def hard(self, u: Differentiable, x: Differentiable, t: Differentiable) -> Differentiable:
        """Return the ansatz."""
        return torch.cos(x) * (1 + torch.sin(x)) + t / self.final_time * u

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the Fourier series at random places and 20 times each."""
        coefficients = chaos(self.final_time, self.modes, self.saved)
        places = torch.rand(20_000 // self.saved, generator=generator, dtype=torch.float64)
        x = 2 * math.pi * places
        wave = np.exp(1j * np.outer(x.numpy(), np.arange(coefficients.shape[1])))
        doubled = coefficients * np.where(np.arange(coefficients.shape[1]) > 0, 2, 1)
        values = (wave @ doubled[1:].T).real / self.modes
        t = torch.linspace(0, self.final_time, self.saved + 1, dtype=torch.float64)[1:]
        points = torch.stack(torch.meshgrid(x, t, indexing="ij"), -1).reshape(-1, 2)
        return points, {"u": torch.from_numpy(values.reshape(-1))}


@functools.cache
def chaos(final_time: float, modes: int, saved: int, refine: int = 1) -> np.ndarray:
    """Return the coefficients at equal times of the Kuramoto-Sivashinsky equation.

    Args:
        final_time: T.
        modes: Nodes in space.
        saved: Times after the start.
        refine: Factor of the number of time steps.
    """
    cls = KuramotoSivashinsky
    x, k = 2 * np.pi * np.arange(modes) / modes, np.arange(modes // 2 + 1)
    smooth = k < modes / 3

    def nonlinear(v: np.ndarray) -> np.ndarray:
        u = np.fft.irfft(v, modes)
        return -0.5j * cls.a * k * np.fft.rfft(u * u) * smooth

    every = refine * max(1, math.ceil(final_time / saved / 2.5e-4))
    start = np.fft.rfft(np.cos(x) * (1 + np.sin(x)))
    linear = cls.b * k**2 - cls.c * k**4
    step = final_time / saved / every
    return etdrk4(start, linear, nonlinear, step, every * saved, every)


@typed
class GrayScott(System):
    """Two reacting substances; the network sees them as departures from their start.

    Args:
        final_time: To which it is solved.

    Example:
        >>> from sciml.physics.suite import GrayScott
        >>> pattern = GrayScott()
        >>> pattern.outputs, pattern.region.variables, pattern.term_names
        (('u', 'v'), ('x', 'y', 't'), ('u', 'v'))
    """

    outputs = ("u", "v")
    periodic = ("x", "y")
    modes, saved = 192, 20
    reference_accuracy = 2e-4

    def __init__(self, *, final_time: float = 200.0) -> None:
        self.final_time = check_positive("problem.final_time", final_time)
        self.domain = Rectangle((-1, -1), (1, 1)) * Time(0, self.final_time)

    def residual(self, u: Field, v: Field) -> dict[str, Tensor]:
        """Return both equations over a rate of 0.1."""
        reaction = u * v**2
        return {
            "u": 10 * (u.t - 1e-5 * u.lap - 0.04 * (1 - u) + reaction),
            "v": 10 * (v.t - 5e-6 * v.lap + 0.1 * v - reaction),
        }

    def hard(
        self,
        u: Differentiable,
        v: Differentiable,
        x: Differentiable,
        y: Differentiable,
        t: Differentiable,
    ) -> Differentiable:
        """Return the ansatz, which has left its start after about twenty units of time."""
        a, b = _bumps(x, y)
        share = t / (t + 20.0)
        return {"u": 1 - a + share * u, "v": b + share * v}

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the Fourier series on its grid, thinned, at equal times."""
        values = pattern(self.final_time, self.modes, self.saved)
        n, s = self.modes, torch.linspace(0, self.final_time, self.saved + 1).double()[1:]
        x = -1 + 2 * torch.arange(0, n, 4).double() / n
        points = torch.stack(torch.meshgrid(s, x, x, indexing="ij"), -1).reshape(-1, 3)
        found = torch.from_numpy(values[1:, :, ::4, ::4])
        return points[:, [1, 2, 0]], {"u": found[:, 0].reshape(-1), "v": found[:, 1].reshape(-1)}


def _bumps(x: Any, y: Any) -> Any:
    exp = np.exp if isinstance(x, np.ndarray) else torch.exp
    first = exp(-80 * ((x + 0.05) ** 2 + (y + 0.02) ** 2))
    return first, exp(-80 * ((x - 0.05) ** 2 + (y - 0.02) ** 2))


@functools.cache
def pattern(final_time: float, modes: int, saved: int, refine: int = 1) -> np.ndarray:
    """Return u and v on the grid at equal times, `(saved + 1, 2, modes, modes)`.

    Args:
        final_time: T.
        modes: Nodes along each axis.
        saved: Times after the start.
        refine: Factor of the number of time steps.
    """
    x = -1 + 2 * np.arange(modes) / modes
    a, b = _bumps(*np.meshgrid(x, x, indexing="ij"))
    k = np.pi * np.fft.fftfreq(modes, 1 / modes)[:, None] ** 2 * np.pi
    k = k + (np.pi * np.arange(modes // 2 + 1)) ** 2
    linear = np.stack([-1e-5 * k - 0.04, -5e-6 * k - 0.1])

    def nonlinear(w: np.ndarray) -> np.ndarray:
        u, v = np.fft.irfft2(w, (modes, modes))
        reaction = u * v * v
        found = np.fft.rfft2(np.stack([-reaction, reaction]))
        found[0, 0, 0] += 0.04 * modes**2
        return found

    every = refine * max(1, math.ceil(final_time / saved))
    start = np.fft.rfft2(np.stack([1 - a, b]))
    found = etdrk4(start, linear, nonlinear, final_time / saved / every, every * saved, every)
    return np.fft.irfft2(found, (modes, modes))
