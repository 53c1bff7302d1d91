"""Reference solver for radial semilinear parabolic problems in any dimension.

For radial data `u_t + Lap u + F(u) = 0`, `u(T, x) = g(|x|^2)` is one-dimensional. With time to go
`tau = T - t` and `|x|^2 = d y`

    v_tau = (4 y / d) v_yy + 2 v_y + F(v),      v(0, y) = g(d y),      0 <= y < infinity.

The map `y = L (1 + z) / (1 - z)` takes the half line to [-1, 1]. Both ends are degenerate: at
y = 0 the second derivative drops out and information flows out; at infinity both derivatives drop
out and v follows `v' = F(v)`. Neither takes a boundary condition and nothing is truncated, so
Chebyshev collocation in z needs no further choice. At many dimensions g is a narrow spike in y
that flattens at once, on the time scale `pole / (2 d)`; the logarithmic time w with
`tau + c = c e^(kappa w)`, `c = pole / (2 d)`, 0 <= w <= 1, spreads that out. In w: Radau IIA
collocation with Newton's method (stiffly accurate, order 2s - 1). The result is a polynomial in
(w, z), evaluated by recurrences at any (t, x) and differentiable by autograd.

Reference: Hairer and Wanner, "Solving Ordinary Differential Equations II", IV.5 and IV.8;
Boyd, "Chebyshev and Fourier Spectral Methods", 17.7 (rational Chebyshev functions).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import chebyshev, legendre
from torch import Tensor

from sciml.errors import ConvergenceError

Scalar = Callable[[np.ndarray], np.ndarray]

STAGES = 8
TIME_TERMS = 64
# More points than the solution needs do harm: near the ends of [-1, 1] the second derivative of
# the degree-n term, and with it the term's rounding error, grows like n^4.
MOST_POINTS = 128


def radau(stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes c `(s,)` and matrix A `(s, s)` of the Radau IIA method on [0, 1]."""
    coefficients = np.zeros(stages + 1)
    coefficients[-1], coefficients[-2] = 1.0, -1.0
    c = np.sort(0.5 * (legendre.legroots(coefficients).real + 1.0))
    powers = np.arange(stages)
    vandermonde = c[:, None] ** powers
    integrals = c[:, None] ** (powers + 1) / (powers + 1)
    return c, np.linalg.solve(vandermonde.T, integrals.T).T


def chebyshev_points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Chebyshev points of the second kind `(n,)`, ascending, and the first-derivative
    matrix `(n, n)` (barycentric form, negative-sum diagonal).
    """  # noqa: D205
    angle = np.pi * np.arange(n) / (n - 1)
    z = -np.cos(angle)
    weight = np.where(np.arange(n) % 2, -1.0, 1.0)
    weight[[0, -1]] *= 0.5
    # differences by the product form: no cancellation near the ends
    half = 0.5 * (angle[:, None] + angle), 0.5 * (angle[:, None] - angle)
    difference = 2.0 * np.sin(half[0]) * np.sin(half[1])
    np.fill_diagonal(difference, 1.0)
    matrix = weight[None, :] / weight[:, None] / difference
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(1))
    return z, matrix


class RadialSolution:
    """Solution of one radial problem on the whole range 0 <= t <= T, x in R^d.

    Args:
        dim: Number of space dimensions d of the original problem.
        final_time: T.
        terminal: g as a function of |x|^2.
        reaction: F.
        reaction_prime: F'.
        pole: Distance `|x|^2 = -pole` of the nearest singularity of g; sets the map.
        points: Chebyshev points in z; None for what g needs to be resolved to rounding.
        steps: Steps in logarithmic time.
    """

    def __init__(
        self,
        *,
        dim: int,
        final_time: float,
        terminal: Scalar,
        reaction: Scalar,
        reaction_prime: Scalar,
        pole: float,
        points: int | None = None,
        steps: int = 16,
    ) -> None:
        self.dim, self.final_time = dim, final_time
        # The pole starts at y = -pole/d and drifts to -pole/d - 2 T: stay apart from both.
        self.length = math.sqrt(pole / dim * (2.0 * final_time + pole / dim))
        points = points or _enough_points(self.length, pole / dim, final_time)
        z, first = chebyshev_points(points)
        y = self.length * (1.0 + z[:-1]) / (1.0 - z[:-1])
        slope = (1.0 - z) ** 2 / (2.0 * self.length)  # dz/dy
        d_y = slope[:, None] * first
        operator = 2.0 * d_y
        operator[:-1] += (4.0 / dim) * y[:, None] * (d_y @ d_y)[:-1]
        infinity = terminal(np.array([1e300]))
        v = np.concatenate([terminal(dim * y), infinity])
        self.shift = pole / (2.0 * dim)
        self.kappa = math.log1p(final_time / self.shift)

        def speed(w: np.ndarray) -> np.ndarray:
            return self.kappa * self.shift * np.exp(self.kappa * w)  # d tau / d w

        values = _integrate(operator, reaction, reaction_prime, v, speed, steps)
        # (time, z) Chebyshev coefficients
        in_z = _interpolation(z, values.T)
        angle = np.pi * (np.arange(TIME_TERMS) + 0.5) / TIME_TERMS
        at_nodes = _dense_output(in_z.T, 0.5 + 0.5 * np.cos(angle), steps)
        self.coefficients = torch.from_numpy(
            chebyshev.chebfit(np.cos(angle), at_nodes, TIME_TERMS - 1)
        )

    def __call__(self, squared_norm: Tensor, tau: Tensor) -> Tensor:
        """Return u `(N,)` from |x|^2 `(N,)` and the time to go `(N,)`, float64."""
        y = squared_norm / self.dim
        z = (y - self.length) / (y + self.length)
        rows, columns = self.coefficients.shape
        w = torch.log1p(tau / self.shift) / self.kappa
        in_time = _polynomials(2.0 * w - 1.0, rows)
        weights = in_time @ self.coefficients.to(z.device)
        return (weights * _polynomials(z, columns)).sum(-1)


def _enough_points(length: float, pole: float, final_time: float) -> int:
    """Return how many points resolve a pole at y = -pole to rounding, as far as 128 do.

    Coefficients of g fall like r^-n for the Bernstein ellipse through the image of its pole. The
    reaction, of order one, makes poles of its own as time goes on.
    """
    far, near = math.sqrt(length), math.sqrt(pole)
    decay = math.log((far + near) / (far - near))
    return min(MOST_POINTS, math.ceil(max(36.0 / decay, 32.0 * (1.0 + final_time))))


def _polynomials(z: Tensor, n: int) -> Tensor:
    """Return Chebyshev polynomials T_0 ... T_(n-1) at z, `(N, n)`."""
    rows = [torch.ones_like(z), z]
    for _ in range(n - 2):
        rows.append(2.0 * z * rows[-1] - rows[-2])
    return torch.stack(rows[:n], -1)


def _interpolation(z: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return Chebyshev coefficients `(n, m)` from values `(n, m)` at the points z of 2nd kind."""
    n = len(z)
    basis = np.cos(np.arange(n)[:, None] * np.arccos(z))  # (degree, point)
    weight = np.full(n, 2.0 / (n - 1))
    weight[[0, -1]] *= 0.5
    coefficients = (basis * weight) @ values
    coefficients[[0, -1]] *= 0.5
    return coefficients


def _integrate(
    operator: np.ndarray,
    reaction: Scalar,
    reaction_prime: Scalar,
    v: np.ndarray,
    speed: Scalar,
    steps: int,
) -> np.ndarray:
    """Return v at the start and at all stages of all steps, `(1 + steps * s, n)`."""
    c, matrix = radau(STAGES)
    n, h = len(v), 1.0 / steps
    eye = np.eye(STAGES * n)
    out = [v[None]]
    for step in range(steps):
        weights = h * matrix * speed(h * (step + c))
        linear = np.kron(weights, operator)
        stages = np.tile(v, (STAGES, 1))
        for _ in range(30):
            force = stages @ operator.T + reaction(stages)
            defect = stages - v - weights @ force
            jacobian = eye - linear - np.kron(weights, np.eye(n)) * reaction_prime(stages).ravel()
            change = np.linalg.solve(jacobian, defect.ravel()).reshape(STAGES, n)
            stages = stages - change
            size = np.abs(change).max()
            if size < 1e-11 * max(1.0, np.abs(stages).max()):
                break
        else:
            raise ConvergenceError(
                f"the radial reference stopped at time step {step + 1} of {steps} with a Newton "
                f"change of {size:.1e}",
                "a change below 1e-11",
                "Use more time steps",
            )
        out.append(stages)
        v = stages[-1]
    return np.concatenate(out)


def _dense_output(values: np.ndarray, w: np.ndarray, steps: int) -> np.ndarray:
    """Return values `(m, n)` at the times w from stage values, by the collocation polynomials."""
    c = np.concatenate([[0.0], radau(STAGES)[0]])
    out = np.empty((len(w), values.shape[1]))
    for row, time in enumerate(w):
        step = min(int(time * steps), steps - 1)
        theta = time * steps - step
        lagrange = [
            np.prod((theta - np.delete(c, i)) / (c[i] - np.delete(c, i))) for i in range(len(c))
        ]
        first = step * STAGES
        out[row] = lagrange @ values[first : first + STAGES + 1]
    return out
