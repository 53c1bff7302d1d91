"""Poisson's equation in an L with mixed conditions.

python examples/pinn/l_shape.py
"""

from sciml.pinn import On, Rectangle, System, solve


class LShape(System):
    """-Lap u = 1; u = 0 on the outer sides, no flux through the sides of the notch."""

    domain = Rectangle((-1, -1), (1, 1)) - Rectangle((0, 0), (1, 1), name="notch")
    conditions = {"notch": On(domain.notch, u_n=0), "outside": On(domain.rest, u=0)}

    def residual(self, u):
        """Return zero for a solution."""
        return u.lap + 1


if __name__ == "__main__":
    solution = solve(LShape(), seconds=30)
    print(solution(x=-0.5, y=-0.5)["u"])
