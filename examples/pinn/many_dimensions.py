"""Poisson's equation in a ball in twenty dimensions, four of them drawn in every step.

python examples/pinn/many_dimensions.py
"""

from sciml.pinn import Ball, System, solve, torch

DIM = 20


class Poisson(System):
    """Lap u = f, u = 0 on the sphere; u = (1 - |x|^2) sin(s), s = sum_i x_i / sqrt(d)."""

    domain = Ball([0] * DIM, 1)

    def residual(self, u, position):
        """Return zero for a solution, divided by the number of dimensions."""
        s, square = position.sum(1) / DIM**0.5, (position**2).sum(1)
        f = -(2 * DIM + 1 - square) * torch.sin(s) - 4 * s * torch.cos(s)
        return (u.lap - f) / DIM

    def hard(self, u, position):
        """Return the ansatz."""
        return (1 - (position**2).sum(-1, keepdim=True)) * u

    def exact(self, position):
        """Return the solution."""
        return (1 - (position**2).sum(1)) * torch.sin(position.sum(1) / DIM**0.5)


if __name__ == "__main__":
    print(solve(Poisson(), optimizer="adam", steps=1000, points=200, sampled=4))
