"""Kovasznay's flow behind a grid, at Reynolds number 20.

python examples/pinn/kovasznay.py
"""

from sciml.pinn import On, Rectangle, System, solve, torch

RE = 20
DECAY = RE / 2 - (RE**2 / 4 + 4 * torch.pi**2) ** 0.5


class Kovasznay(System):
    """Stationary Navier-Stokes equations; velocity on the sides, pressure at the outflow."""

    outputs = ("u", "v", "p")
    domain = Rectangle((-0.5, -0.5), (1, 1.5))

    def conditions(self):
        """Return the exact values on the boundary."""
        u, v = (lambda x, y, k=k: self.exact(x, y)[k] for k in "uv")
        p = On(self.domain.right, p=lambda x, y: self.exact(x, y)["p"])
        return {"sides": On(self.domain.boundary, u=u, v=v), "outflow": p}

    def residual(self, u, v, p):
        """Return zero for a solution."""
        return {
            "x-momentum": u * u.x + v * u.y + p.x - u.lap / RE,
            "y-momentum": u * v.x + v * v.y + p.y - v.lap / RE,
            "continuity": u.x + v.y,
        }

    def exact(self, x, y):
        """Return the solution."""
        e, phase = torch.exp(DECAY * x), 2 * torch.pi * y
        return {
            "u": 1 - e * torch.cos(phase),
            "v": DECAY / (2 * torch.pi) * e * torch.sin(phase),
            "p": (1 - e**2) / 2,
        }


if __name__ == "__main__":
    print(solve(Kovasznay(), seconds=30, points=1000))
