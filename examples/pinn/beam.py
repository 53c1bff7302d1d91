"""A clamped beam under its own weight: a fourth derivative.

python examples/pinn/beam.py
"""

from sciml.pinn import Interval, On, System, solve


class Beam(System):
    """u'''' = -1; clamped on the left, free on the right."""

    domain = Interval(0, 1)
    conditions = {
        "clamped": On(domain.left, u=0, u_x=0),
        "free": On(domain.right, u_xx=0, u_xxx=0),
    }

    def residual(self, u):
        """Return zero for a solution."""
        return u.xxxx + 1

    def exact(self, x):
        """Return the solution."""
        return -(x**4) / 24 + x**3 / 6 - x**2 / 4


if __name__ == "__main__":
    print(solve(Beam(), steps=60, points=64))
