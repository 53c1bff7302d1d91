"""Kovasznay's flow, viscosity from noisy readings of velocity.

python examples/pinn/viscosity.py
"""

import numpy as np
import torch
from kovasznay import RE, Kovasznay

from sciml.pinn import Observed, Unknown, solve

SIGMA = 0.02


def readings(n=200, seed=0):
    """Return velocities at random places, with noise."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-0.5, 1, n), rng.uniform(-0.5, 1.5, n)
    flow = Kovasznay().exact(torch.as_tensor(x), torch.as_tensor(y))
    noisy = {k: flow[k].numpy() + SIGMA * rng.standard_normal(n) for k in "uv"}
    return {"x": x, "y": y, **noisy}


class Flow(Kovasznay):
    """The same equations; nothing is known on the boundary."""

    nu = Unknown(0.2, positive=True)
    gauge = ("p",)
    conditions = {"readings": Observed(readings(), sigma=SIGMA)}
    weights = {"x-momentum": 100, "y-momentum": 100, "continuity": 100}

    def residual(self, u, v, p):
        """Return zero for a solution."""
        return {
            "x-momentum": u * u.x + v * u.y + p.x - self.nu * u.lap,
            "y-momentum": u * v.x + v * v.y + p.y - self.nu * v.lap,
            "continuity": u.x + v.y,
        }


if __name__ == "__main__":
    solution = solve(Flow(), seconds=40, points=1000, width=20)
    print(solution, solution.unknowns, "true", 1 / RE)
