"""An unknown source field from readings of the solution.

python examples/pinn/source.py
"""

import numpy as np

from sciml.pinn import Interval, Observed, On, System, solve, torch

PLACES = np.linspace(-1, 1, 100)
READ = {"x": PLACES, "u": np.sin(np.pi * PLACES)}


class Source(System):
    """u'' = q with q unknown; u = sin(pi x), q = -pi^2 sin(pi x)."""

    outputs = ("u", "q")
    domain = Interval(-1, 1)
    conditions = {"ends": On(domain.boundary, u=0), "readings": Observed(READ, sigma=0.01)}

    def residual(self, u, q):
        """Return zero for a solution."""
        return u.xx - q

    def exact(self, x):
        """Return the solution and the source."""
        u = torch.sin(torch.pi * x)
        return {"u": u, "q": -(torch.pi**2) * u}


if __name__ == "__main__":
    print(solve(Source(), steps=200, points=200, width=20))
