"""An integro-differential equation of Volterra's kind.

python examples/pinn/volterra.py
"""

from sciml.pinn import Initial, Integral, System, Time, solve, torch


class Volterra(System):
    """u' + u = int_0^t e^{s - t} u(s) ds, u(0) = 1."""

    domain = Time(0, 5)
    memory = Integral(lambda u, s, t: torch.exp(s - t) * u, "t", 0, lambda t: t)
    conditions = {"start": Initial(u=1)}

    def residual(self, u, memory):
        """Return zero for a solution."""
        return u.t + u - memory

    def exact(self, t):
        """Return the solution."""
        return torch.exp(-t) * torch.cosh(t)


if __name__ == "__main__":
    print(solve(Volterra(), optimizer="ssbroyden", steps=300, points=40, width=20, depth=3))
