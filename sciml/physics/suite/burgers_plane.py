"""Burgers' equations in the plane, periodic, from random smooth fields.

    u_t + u u_x + v u_y = nu Lap u,    v_t + u v_x + v v_y = nu Lap v,    nu = 1/1000, t in [0, 1]

The start is c + grad phi: phi a sum of waves exp(2 pi i (j x + k y)), |j|, |k| <= 3, with normal
amplitudes of the velocity, scaled to a largest speed of 2 along an axis, and c a constant within
(-1, 1)^2. The benchmark draws both components on their own, from sums of such waves, and reads them
from tables on [0, 4]^2; these have the period 1 in x and y, so that its domain is sixteen copies of
the unit square, which is the domain here. A gradient has a closed solution, by which errors are
measured; fronts form at t = 0.1 here as there.

Reference: with u = c + U(x - c t, t), Cole and Hopf's formula for U = grad Phi,

    U = E[x - y] / t,    weights of y in the plane: exp(-(|x - y|^2 / 2 t + phi(y)) / 2 nu)

by sums over a grid, one axis after the other, with logarithms of weights, which differ by e^200.
The trapezoidal rule is exact up to exp(-2 (pi s / h)^2) for a Gaussian of width s over the cells'
width h.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.physics.checks import check_positive, check_seed
from sciml.physics.systems import Initial, Rectangle, System, Time
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field

HARMONICS, SPEED = 3, 2.0  # of the start: most waves along an axis, largest component
CELLS, REACH = 384, 2.5  # of the reference: nodes along an axis; distance of y from x
PLACES, MOMENTS = 32, 10  # places along an axis and times at which errors are measured


@functools.cache
def start_waves(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return wave vectors `(m, 2)`, amplitudes of sine and cosine in phi `(m,)` and c `(2,)`.

    Args:
        seed: Of the draw.
    """
    random = np.random.default_rng(seed)
    span = range(-HARMONICS, HARMONICS + 1)
    waves = 2 * np.pi * np.array([(j, k) for j in span for k in span if (j, k) > (0, 0)])
    sines, cosines = random.normal(size=(2, len(waves))) / np.linalg.norm(waves, axis=1)
    drift = random.uniform(-1, 1, 2)
    grid = np.stack(np.meshgrid(*[np.arange(128) / 128] * 2, indexing="ij"), -1)
    phase = grid @ waves.T
    slopes = (sines * np.cos(phase) - cosines * np.sin(phase)) @ waves
    scale = SPEED / np.abs(slopes).max()
    return waves, sines * scale, cosines * scale, drift


def velocity(
    seed: int, t: float, places: np.ndarray, viscosity: float, cells: int = CELLS
) -> np.ndarray:
    """Return u and v at all pairs of places along both axes at one time, `(2, n, n)`.

    Args:
        seed: Of the start.
        t: Time, positive.
        places: Coordinates `(n,)`.
        viscosity: nu.
        cells: Nodes of the sums along a period.
    """
    waves, sines, cosines, drift = start_waves(seed)
    grid = np.stack(np.meshgrid(*[np.arange(cells) / cells] * 2, indexing="ij"), -1)
    phase = grid @ waves.T
    potential = (np.sin(phase) @ sines + np.cos(phase) @ cosines) / (-2 * viscosity)
    far = round(REACH * cells)
    steps = np.arange(-far, cells + far)
    # distances (n, nodes) from every place, in the frame that drifts
    x, y = ((places - c * t)[:, None] - steps / cells for c in drift)
    x, y = ((d - np.floor(places - c * t)[:, None]) for d, c in zip((x, y), drift, strict=True))
    weight = [-(d**2) / (4 * viscosity * t) for d in (x, y)]
    rows, mean = (np.empty((cells, len(places))) for _ in range(2))
    for k in range(len(places)):
        share = potential[:, steps % cells] + weight[1][k]
        largest = share.max(1, keepdims=True)
        share = np.exp(share - largest)
        total = share.sum(1)
        rows[:, k], mean[:, k] = largest[:, 0] + np.log(total), share @ y[k] / total
    found = np.empty((2, len(places), len(places)))
    for k in range(len(places)):
        share = rows[steps % cells] + weight[0][k][:, None]
        share = np.exp(share - share.max(0))
        share /= share.sum(0)
        found[:, k] = x[k] @ share, (share * mean[steps % cells]).sum(0)
    return found / t + drift[:, None, None]


@typed
class Burgers2D(System):
    """Burgers' equations in a periodic square.

    Args:
        seed: Seed of the fields at the start.
        viscosity: nu.
        training_viscosity: nu of the equations that are trained; errors are against `viscosity`.
        constraint: Whether the start is built into the ansatz, hard, or a term of the loss, soft,
            which is what windows of time need.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Burgers2D
        >>> fronts = Burgers2D(seed=0)
        >>> fronts.outputs, fronts.region.variables, fronts.term_names
        (('u', 'v'), ('x', 'y', 't'), ('u', 'v'))
        >>> at = fronts.start(torch.zeros(5, 1), torch.rand(5, 1))
        >>> tuple(at["v"].shape)
        (5, 1)
    """

    outputs = ("u", "v")
    periodic = ("x", "y")
    domain = Rectangle((0, 0), (1, 1)) * Time(0, 1)
    reference_accuracy = 1e-10

    def __init__(
        self,
        *,
        seed: int = 0,
        viscosity: float = 1e-3,
        training_viscosity: float = 1e-3,
        constraint: Literal["hard", "soft"] = "hard",
    ) -> None:
        self.seed = check_seed("problem.seed", seed)
        self.viscosity = check_positive("problem.viscosity", viscosity)
        name = "problem.training_viscosity"
        self.training_viscosity = check_positive(name, training_viscosity)
        if constraint == "soft":
            self.hard = None
            self.conditions = {"start": Initial(u=self._given("u"), v=self._given("v"), weight=10)}

    def _given(self, name: str) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a component of the start as a function of coordinates `(N,)`."""
        return lambda x, y: self.start(x[:, None], y[:, None])[name][:, 0]

    def residual(self, u: Field, v: Field) -> dict[str, Tensor]:
        """Return both equations over the size of u u_x."""
        nu = self.training_viscosity
        return {
            "u": (u.t + u * u.x + v * u.y - nu * u.lap) / 10,
            "v": (v.t + u * v.x + v * v.y - nu * v.lap) / 10,
        }

    def start(self, x: Differentiable, y: Differentiable) -> dict[str, Differentiable]:
        """Return u and v at t = 0, columns `(N, 1)`."""
        waves, sines, cosines, drift = start_waves(self.seed)
        like = {"dtype": x.dtype, "device": x.device}
        k, a, b = (torch.from_numpy(value).to(**like) for value in (waves, sines, cosines))
        phase = x * k[:, 0] + y * k[:, 1]
        slope = torch.cos(phase) * a - torch.sin(phase) * b
        return {
            name: (slope * k[:, axis]).sum(-1, keepdim=True) + float(drift[axis])
            for axis, name in enumerate(self.outputs)
        }

    def inputs(self, x: Differentiable, y: Differentiable) -> Differentiable:
        """Return the start over its size: a network finds it, and the fronts that come of it."""
        return torch.cat(list(self.start(x, y).values()), -1) * (1 / SPEED)

    def hard(
        self,
        u: Differentiable,
        v: Differentiable,
        x: Differentiable,
        y: Differentiable,
        t: Differentiable,
    ) -> Differentiable:
        """Return the ansatz, which has left its start when fronts form."""
        start, share = self.start(x, y), t / (t + 0.1)
        return {"u": start["u"] + share * u, "v": start["v"] + share * v}

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the formula on a grid of 32 x 32 places, moved at random, at 10 times."""
        offset = float(torch.rand((), generator=generator))
        places = (torch.arange(PLACES, dtype=torch.float64) + offset) / PLACES
        values = _solution(self.seed, self.viscosity, offset)
        t = torch.arange(1, MOMENTS + 1, dtype=torch.float64) / MOMENTS
        points = torch.stack(torch.meshgrid(t, places, places, indexing="ij"), -1).reshape(-1, 3)
        found = torch.from_numpy(values)
        return points[:, [1, 2, 0]], {"u": found[:, 0].reshape(-1), "v": found[:, 1].reshape(-1)}


@functools.cache
def _solution(seed: int, viscosity: float, offset: float) -> np.ndarray:
    places = (np.arange(PLACES) + offset) / PLACES
    times = np.arange(1, MOMENTS + 1) / MOMENTS
    return np.stack([velocity(seed, float(t), places, viscosity) for t in times])
