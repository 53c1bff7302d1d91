"""A PDE of one's own in fifteen lines: Helmholtz equation in the unit ball of 20 dimensions.

    python examples/own_pde.py        # half a minute on one core; relative error about 0.02

Lap u + u = f, u = 0 on the sphere, with u = (1 - |x|^2) exp(x_1).
"""

import torch

from sciml import solve
from sciml.autodiff import squared_norm
from sciml.physics import PDE, Points
from sciml.physics.samplers import ball


class Helmholtz(PDE):
    """Equation, domain, boundary condition and, to know the error, the exact solution."""

    def sample(self, n, generator):
        """Return training points."""
        return Points(ball(n, self.dim, generator))

    def lift(self, x, t):
        """Return A and B of u = A n + B: u vanishes on the sphere."""
        return 1 - squared_norm(x), None

    def residual(self, u, p):
        """Return Lap u + u - f, scaled to order one."""
        rho, e = p.x.square().sum(-1), torch.exp(p.x[:, 0])
        f = e * (2 * (1 - rho) - 4 * p.x[:, 0] - 2 * self.dim)
        return (u.laplacian + u.value - f) / self.dim

    def exact(self, x, t):
        """Return the solution."""
        return (1 - x.square().sum(-1)) * torch.exp(x[:, 0])


if __name__ == "__main__":
    solution = solve(Helmholtz(dim=20), steps=1000)
    print(f"relative error {solution.metrics['test/rel_l2']:.3f}")
    print(f"error over the best constant's {solution.metrics['test/skill']:.3f}")
    print("u(0) =", float(solution(torch.zeros(1, 20))), "exact 1")
