"""The Allen-Cahn equation, periodic in x.

python examples/pinn/allen_cahn.py
"""

from sciml.pinn import Initial, Interval, System, Time, solve, torch


class AllenCahn(System):
    """u_t = 1e-4 u_xx + 5 (u - u^3), u(0, x) = x^2 cos(pi x)."""

    domain = Interval(-1, 1) * Time(0, 1)
    periodic = ("x",)
    conditions = {"start": Initial(u=lambda x: x**2 * torch.cos(torch.pi * x), weight=100)}

    def residual(self, u):
        """Return zero for a solution."""
        return u.t - 1e-4 * u.xx - 5 * (u - u**3)


if __name__ == "__main__":
    words = ("data.modes=5", "data.candidates=4")
    solution = solve(AllenCahn(), *words, seconds=90)
    print(solution(x=[-1.0, 0.0, 0.5], t=1.0)["u"])
