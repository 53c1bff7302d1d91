"""The boundary layer for every viscosity from 0.1 to 1.

python examples/pinn/parametric.py
"""

from sciml.pinn import Interval, Range, System, solve, torch


class Layer(System):
    """nu u'' + u' = 0, u(0) = 0, u(1) = 1, nu an input of the network."""

    domain = Interval(0, 1) * Range("nu", 0.1, 1.0)

    def residual(self, u, nu):
        """Return zero for a solution."""
        return nu * u.xx + u.x

    def hard(self, u, x):
        """Return the ansatz."""
        return x + x * (1 - x) * u

    def exact(self, x, nu):
        """Return the solution."""
        return (1 - torch.exp(-x / nu)) / (1 - torch.exp(-1 / nu))


if __name__ == "__main__":
    solution = solve(Layer(), steps=150, points=500)
    print(solution, solution(x=0.5, nu=[0.1, 0.5, 1.0])["u"])
