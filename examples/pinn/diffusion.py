"""Diffusion with an unknown coefficient, from ten readings.

python examples/pinn/diffusion.py
"""

import numpy as np

from sciml.pinn import Initial, Interval, Observed, On, System, Time, Unknown, solve, torch

PLACES = np.linspace(-0.9, 0.9, 10)
READ = {"x": PLACES, "t": np.ones(10), "u": np.sin(np.pi * PLACES) * np.exp(-1)}


class Diffusion(System):
    """u_t = c u_xx - e^{-t} (1 - pi^2) sin(pi x); c = 1."""

    domain = Interval(-1, 1) * Time(0, 1)
    c = Unknown(2.0, positive=True)
    conditions = {
        "start": Initial(u=lambda x: torch.sin(torch.pi * x)),
        "ends": On(domain.boundary, u=0),
        "readings": Observed(READ, sigma=0.01),
    }

    def residual(self, u, x, t):
        """Return zero for a solution."""
        source = torch.exp(-t) * (1 - torch.pi**2) * torch.sin(torch.pi * x)
        return u.t - self.c * u.xx + source

    def exact(self, x, t):
        """Return the solution."""
        return torch.exp(-t) * torch.sin(torch.pi * x)


if __name__ == "__main__":
    solution = solve(Diffusion(), steps=150, points=500)
    print(solution, solution.unknowns)
