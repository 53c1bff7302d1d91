"""An integral equation of Fredholm's second kind: no derivative, no condition.

python examples/pinn/fredholm.py
"""

from sciml.pinn import Integral, Interval, System, solve, torch


class Fredholm(System):
    """u(x) = sin(pi x) + 1/2 int_0^1 x s u(s) ds."""

    domain = Interval(0, 1)
    total = Integral(lambda u, s, x: x * s * u, "x", 0, 1)

    def residual(self, u, total, x):
        """Return zero for a solution."""
        return u - torch.sin(torch.pi * x) - total / 2

    def exact(self, x):
        """Return the solution."""
        return torch.sin(torch.pi * x) + 3 / (5 * torch.pi) * x


if __name__ == "__main__":
    print(solve(Fredholm(), optimizer="ssbroyden", steps=300, points=40, width=20, depth=3))
