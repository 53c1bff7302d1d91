"""Navier-Stokes equations with two unknown coefficients, from noisy velocities.

python examples/pinn/navier_stokes.py
"""

import numpy as np

from sciml.pinn import Observed, Rectangle, System, Time, Unknown, solve

NU, SIGMA = 0.05, 0.01


def measured(n=500, seed=0):
    """Return velocities of decaying vortices that drift in x, with noise."""
    rng = np.random.default_rng(seed)
    x, y, t = (rng.uniform(0, end, n) for end in (np.pi, np.pi, 1))
    decay = np.exp(-2 * NU * t)
    u = 1 + decay * np.cos(x - t) * np.sin(y) + SIGMA * rng.normal(size=n)
    v = -decay * np.sin(x - t) * np.cos(y) + SIGMA * rng.normal(size=n)
    return {"x": x, "y": y, "t": t, "u": u, "v": v}


class Flow(System):
    """u_t + a (u grad) u + grad p = b Lap u, div u = 0; a = 1, b = 0.05."""

    outputs = ("u", "v", "p")
    domain = Rectangle((0, 0), (np.pi, np.pi)) * Time(0, 1)
    a, b = Unknown(0.5), Unknown(0.2, positive=True)
    gauge = ("p",)
    conditions = {"readings": Observed(measured(), sigma=SIGMA)}
    weights = {"x": 100, "y": 100, "continuity": 100}

    def residual(self, u, v, p):
        """Return zero for a solution."""
        return {
            "x": u.t + self.a * (u * u.x + v * u.y) + p.x - self.b * u.lap,
            "y": v.t + self.a * (u * v.x + v * v.y) + p.y - self.b * v.lap,
            "continuity": u.x + v.y,
        }


if __name__ == "__main__":
    print(solve(Flow(), steps=150, points=1000, width=20).unknowns, "true 1,", NU)
