"""Heat in a rod, data built into the ansatz.

python examples/pinn/heat.py
"""

from sciml.pinn import Interval, System, Time, solve, torch


class Heat(System):
    """u_t = 0.4 u_xx, u = 0 at the ends, u(0, x) = sin(pi x)."""

    domain = Interval(0, 1) * Time(0, 1)

    def residual(self, u):
        """Return zero for a solution."""
        return u.t - 0.4 * u.xx

    def hard(self, u, x, t):
        """Return the ansatz."""
        return torch.sin(torch.pi * x) + t * x * (1 - x) * u

    def exact(self, x, t):
        """Return the solution."""
        return torch.exp(-0.4 * torch.pi**2 * t) * torch.sin(torch.pi * x)


if __name__ == "__main__":
    print(solve(Heat(), steps=100, points=500))
