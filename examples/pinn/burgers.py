"""Burgers' equation: a shock from a sine wave.

python examples/pinn/burgers.py
"""

from sciml.pinn import Initial, Interval, On, System, Time, solve, torch


class Burgers(System):
    """u_t + u u_x = 0.01/pi u_xx."""

    domain = Interval(-1, 1) * Time(0, 1)
    conditions = {
        "start": Initial(u=lambda x: -torch.sin(torch.pi * x)),
        "ends": On(domain.boundary, u=0),
    }

    def residual(self, u):
        """Return zero for a solution."""
        return u.t + u * u.x - 0.01 / torch.pi * u.xx


if __name__ == "__main__":
    solution = solve(Burgers(), seconds=60)
    print(solution(x=[-0.5, 0.0, 0.5], t=1.0)["u"])
