"""Hares and lynxes: two ordinary differential equations.

python examples/pinn/lotka_volterra.py
"""

from sciml.pinn import Initial, System, Time, solve


class LotkaVolterra(System):
    """r' = 20 (0.1 U r - 0.02 U r p), p' = 20 (0.02 U r p - 1.06 p), U = 200."""

    outputs = ("r", "p")
    domain = Time(0, 1)
    conditions = {"start": Initial(r=100 / 200, p=15 / 200)}

    def residual(self, r, p):
        """Return zero for a solution."""
        hares = r.t - 20 * (2 * r - 0.04 * 200 * r * p)
        return hares / 20, (p.t - 20 * (0.02 * 200 * r * p - 1.06 * p)) / 20


if __name__ == "__main__":
    solution = solve(LotkaVolterra(), "data.fixed_for=100000", steps=500, points=400, width=40)
    print(solution(t=[0.0, 0.5, 1.0]))
