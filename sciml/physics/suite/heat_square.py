"""Heat in the unit square, zero on its sides: a rough coefficient, and a source that never rests.

    heat2d_varying   u_t - a Lap u = 200 sin(pi x) sin(5 pi y) sin(pi t),  t in [0, 5],  u(0) = 0,
                     a = e^g, g a random field of variance 1 whose amplitudes fall like 1 / |k|^2
    heat2d_long      u_t = Lap u / 1000 + 5 sin(u^2) (1 + 2 sin(pi t / 4)) sin(4 pi x) sin(2 pi y),
                     t in [0, 100],  u(0) = sin(4 pi x) sin(3 pi y)

The benchmark's field a is one draw of the same law, read from a table on 256 x 256 points; here it
is drawn by `seed`. The second problem forgets its start within two periods of its source.

References: central differences and the trapezoidal rule for the first; a sine series in space with
exponential and Runge-Kutta steps in turn (Strang 1968) for the second.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.fft import dstn, idstn
from scipy.sparse.linalg import splu
from torch import Tensor

from sciml.physics.checks import check_positive, check_seed
from sciml.physics.systems import Rectangle, System, Time
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field

TABLE = 256  # points of the coefficient along each axis
CELLS, STEP = 128, 0.0125  # of the first reference
SINES, SPLIT = 96, 0.02  # of the second
MOMENTS = 20


@functools.cache
def coefficient(seed: int) -> np.ndarray:
    """Return a on the grid of 256 x 256 points, corners included."""
    random = np.random.default_rng(seed)
    k = np.fft.fftfreq(TABLE, 1 / TABLE)
    size = np.hypot(k[:, None], k)
    size[0, 0] = np.inf
    noise = random.normal(size=(2, TABLE, TABLE))
    g = np.fft.ifft2((noise[0] + 1j * noise[1]) / size**2).real
    return np.exp(g / g.std())


@typed
class Heat2DVarying(System):
    """Heat with a rough coefficient.

    Args:
        seed: Seed of the coefficient.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Heat2DVarying
        >>> heat = Heat2DVarying(seed=0)
        >>> heat.region.variables, heat.term_names
        (('x', 'y', 't'), ('residual',))
        >>> tuple(heat.coefficient(torch.rand(5), torch.rand(5)).shape)
        (5,)
    """

    domain = Rectangle((0, 0), (1, 1)) * Time(0, 5)
    reference_accuracy = 3e-3

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = check_seed("problem.seed", seed)
        self.table = torch.from_numpy(coefficient(self.seed))

    def coefficient(self, x: Tensor, y: Tensor) -> Tensor:
        """Return a at points `(N,)`: of the nearest point of the table."""
        i, j = ((v * (TABLE - 1)).round().long().clamp(0, TABLE - 1) for v in (x, y))
        return self.table.to(x)[i, j]

    def residual(self, u: Field, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Return the equation over a and over the size of Lap u."""
        shape = torch.sin(math.pi * x) * torch.sin(5 * math.pi * y) * torch.sin(math.pi * t)
        return ((u.t - 200 * shape) / self.coefficient(x, y) - u.lap) / 200

    def hard(
        self, u: Differentiable, x: Differentiable, y: Differentiable, t: Differentiable
    ) -> Differentiable:
        """Return the ansatz."""
        return (1 - torch.exp(-5 * t)) * (16 * x * (1 - x) * y * (1 - y)) * u

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the solution of finite differences at 1000 nodes and 20 times."""
        return _chosen(varying(self.seed), 5.0, generator)


@typed
class Heat2DLong(System):
    """Heat from a source that swings and saturates, over a long time.

    Args:
        final_time: To which it is solved.

    Example:
        >>> from sciml.physics.suite import Heat2DLong
        >>> heat = Heat2DLong(final_time=10.0)
        >>> heat.region.variables, heat.region.high.tolist()
        (('x', 'y', 't'), [1.0, 1.0, 10.0])
    """

    reference_accuracy = 5e-3

    def __init__(self, *, final_time: float = 100.0) -> None:
        self.final_time = check_positive("problem.final_time", final_time)
        self.domain = Rectangle((0, 0), (1, 1)) * Time(0, self.final_time)

    def residual(self, u: Field, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Return the equation over a rate of 5."""
        return u.t / 5 - u.lap / 5000 - torch.sin(u**2) * swing(x, y, t)

    def hard(
        self, u: Differentiable, x: Differentiable, y: Differentiable, t: Differentiable
    ) -> Differentiable:
        """Return the ansatz."""
        start = torch.sin(4 * math.pi * x) * torch.sin(3 * math.pi * y)
        mask, share = 16 * x * (1 - x) * y * (1 - y), t / (t + 0.5)
        return (1 - share) * start + share * mask * u

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sine series at 1000 nodes and at equal times."""
        return _chosen(long(self.final_time), self.final_time, generator)


def swing(x: Any, y: Any, t: Any) -> Any:
    """Return the source of heat2d_long without its saturation."""
    m = np if isinstance(x, np.ndarray) else torch
    shape = m.sin(4 * math.pi * x) * m.sin(2 * math.pi * y)
    return (1 + 2 * m.sin(math.pi / 4 * t)) * shape


def _chosen(
    values: np.ndarray, final_time: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return points and values at 1000 inner nodes of `(T, n, n)` values at equal times."""
    n = values.shape[1]
    where = torch.randint(n, (1000, 2), generator=generator)
    t = torch.linspace(0, final_time, len(values) + 1, dtype=torch.float64)[1:]
    found = torch.from_numpy(values)[:, where[:, 0], where[:, 1]]
    x = ((where + 1).double() / (n + 1)).repeat(len(t), 1)
    return torch.cat([x, t.repeat_interleave(1000)[:, None]], 1), {"u": found.reshape(-1)}


@functools.cache
def varying(seed: int, cells: int = CELLS, step: float = STEP) -> np.ndarray:
    """Return u of heat2d_varying at inner nodes and 20 times, `(20, n, n)`.

    Args:
        seed: Of the coefficient.
        cells: Of the grid along each axis.
        step: Length of a time step.
    """
    n = cells - 1
    x = np.arange(1, cells) / cells
    line = sp.diags([1.0, -2.0, 1.0], [-1, 0, 1], (n, n)) * cells**2
    laplace = sp.kron(line, sp.eye(n)) + sp.kron(sp.eye(n), line)
    i = np.rint(x * (TABLE - 1)).astype(int)
    mass = 1 / coefficient(seed)[np.ix_(i, i)].ravel()
    source = 200 * np.outer(np.sin(np.pi * x), np.sin(5 * np.pi * x)).ravel() * mass
    solve = splu((sp.diags(mass / step) - laplace / 2).tocsc()).solve
    u, found, steps = np.zeros(n * n), [], round(5 / step)
    for k in range(steps):
        middle = (np.sin(np.pi * k * step) + np.sin(np.pi * (k + 1) * step)) / 2
        u = solve(mass / step * u + laplace @ u / 2 + middle * source)
        if (k + 1) % (steps // MOMENTS) == 0:
            found.append(u.reshape(n, n))
    return np.stack(found)


@functools.cache
def long(final_time: float, sines: int = SINES, step: float = SPLIT) -> np.ndarray:
    """Return u of heat2d_long at inner nodes and equal times, `(T, n, n)`.

    Args:
        final_time: T.
        sines: Number of cells along each axis.
        step: Length of a time step.
    """
    k = np.arange(1, sines)
    x, y = np.meshgrid(k / sines, k / sines, indexing="ij")
    u = np.sin(4 * np.pi * x) * np.sin(3 * np.pi * y)
    shape = 5 * np.sin(4 * np.pi * x) * np.sin(2 * np.pi * y)
    # odd number of times: none of them at the same phase of the source
    moments = 2 * MOMENTS + 1
    every = max(1, round(final_time / moments / step))
    step, found = final_time / moments / every, []
    half = np.exp(-1e-3 * np.pi**2 * (k[:, None] ** 2 + k**2) * step / 2)

    def rate(u: np.ndarray, t: float) -> np.ndarray:
        return np.sin(u * u) * shape * (1 + 2 * math.sin(math.pi / 4 * t))

    for n in range(every * moments):
        t = n * step
        u = idstn(half * dstn(u, 1), 1)
        a = rate(u, t)
        b = rate(u + step / 2 * a, t + step / 2)
        c = rate(u + step / 2 * b, t + step / 2)
        u = u + step / 6 * (a + 2 * b + 2 * c + rate(u + step * c, t + step))
        u = idstn(half * dstn(u, 1), 1)
        if (n + 1) % every == 0:
            found.append(u)
    return np.stack(found)
