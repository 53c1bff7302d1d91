"""Lorenz' system: three coefficients from a trajectory.

python examples/pinn/lorenz.py
"""

import numpy as np
from scipy.integrate import solve_ivp

from sciml.pinn import Observed, System, Time, Unknown, solve


def measured():
    """Return the trajectory at 80 times."""
    t = np.linspace(0, 3, 80)

    def slope(t, s):
        x, y, z = s
        return 10 * (y - x), x * (15 - z) - y, x * y - 8 / 3 * z

    found = solve_ivp(slope, (0, 3), (-8, 7, 27), t_eval=t, rtol=1e-10, atol=1e-10).y
    return {"t": t, **dict(zip("xyz", found, strict=True))}


class Lorenz(System):
    """x' = a (y - x), y' = x (b - z) - y, z' = x y - c z."""

    outputs = ("x", "y", "z")
    domain = Time(0, 3)
    a, b, c = Unknown(1.0), Unknown(1.0), Unknown(1.0)
    conditions = {"data": Observed(measured(), sigma=0.1)}

    def residual(self, x, y, z):
        """Return zero for a solution."""
        return (
            x.t - self.a * (y - x),
            y.t - x * (self.b - z) + y,
            z.t - x * y + self.c * z,
        )


if __name__ == "__main__":
    print(solve(Lorenz(), "data.fixed_for=100000", steps=400, points=400, width=40).unknowns)
