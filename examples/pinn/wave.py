"""A vibrating string, started at rest.

python examples/pinn/wave.py
"""

from sciml.pinn import Initial, Interval, On, System, Time, solve, torch


class Wave(System):
    """u_tt = 4 u_xx, u = 0 at the ends."""

    domain = Interval(0, 1) * Time(0, 1)
    conditions = {
        "ends": On(domain.boundary, u=0),
        "start": Initial(u=lambda x: torch.sin(torch.pi * x), u_t=0),
    }

    def residual(self, u):
        """Return zero for a solution."""
        return u.tt - 4 * u.xx

    def exact(self, x, t):
        """Return the solution."""
        return torch.sin(torch.pi * x) * torch.cos(2 * torch.pi * t)


if __name__ == "__main__":
    print(solve(Wave(), steps=200))
