"""The Helmholtz equation in a square.

python examples/pinn/helmholtz.py
"""

from sciml.pinn import Rectangle, System, solve, torch


class Helmholtz(System):
    """Lap u + u = f, u = 0 on the boundary; u = sin(pi x) sin(4 pi y)."""

    domain = Rectangle((-1, -1), (1, 1))

    def residual(self, u, x, y):
        """Return zero for a solution."""
        return u.lap + u - (1 - 17 * torch.pi**2) * self.exact(x, y)

    def hard(self, u, x, y):
        """Return the ansatz."""
        return (1 - x**2) * (1 - y**2) * u

    def exact(self, x, y):
        """Return the solution."""
        return torch.sin(torch.pi * x) * torch.sin(4 * torch.pi * y)


if __name__ == "__main__":
    print(solve(Helmholtz(), seconds=60, width=30, depth=3))
