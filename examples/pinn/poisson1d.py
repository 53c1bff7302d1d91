"""u'' = 2 with Dirichlet, Neumann, Robin or periodic data.

python examples/pinn/poisson1d.py
"""

from sciml.pinn import Interval, On, Same, System, solve, torch


class Dirichlet(System):
    """u'' = -pi^2 sin(pi x), u = 0 at both ends."""

    domain = Interval(-1, 1)
    conditions = {"ends": On(domain.boundary, u=0)}

    def residual(self, u, x):
        """Return zero for a solution."""
        return u.xx + torch.pi**2 * torch.sin(torch.pi * x)

    def exact(self, x):
        """Return the solution."""
        return torch.sin(torch.pi * x)


class Neumann(System):
    """u'' = 2, u(-1) = 0, u'(1) = 4."""

    domain = Interval(-1, 1)
    conditions = {"left": On(domain.left, u=0), "right": On(domain.right, u_n=4)}

    def residual(self, u):
        """Return zero for a solution."""
        return u.xx - 2

    def exact(self, x):
        """Return the solution."""
        return (x + 1) ** 2


class Robin(Neumann):
    """The same with u' = u at the right end."""

    domain = Neumann.domain
    conditions = {"left": On(domain.left, u=0), "right": On(domain.right, lambda u: u.n - u)}


class Periodic(System):
    """u'' = -pi^2 sin(pi x) with u(-1) = 0, u and u' the same at both ends."""

    domain = Interval(-1, 1)
    conditions = {"left": On(domain.left, u=0), "ends": Same("x", u=1)}
    residual, exact = Dirichlet.residual, Dirichlet.exact


if __name__ == "__main__":
    for problem in (Dirichlet(), Neumann(), Robin(), Periodic()):
        print(solve(problem, steps=100, points=64))
