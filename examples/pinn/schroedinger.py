"""The nonlinear Schroedinger equation, periodic: real and imaginary part.

python examples/pinn/schroedinger.py
"""

from sciml.pinn import Initial, Interval, System, Time, solve, torch


class Schroedinger(System):
    """i h_t + h_xx / 2 + |h|^2 h = 0, h = u + i v, h(0, x) = 2 / cosh(x)."""

    outputs = ("u", "v")
    domain = Interval(-5, 5) * Time(0, torch.pi / 2)
    periodic = ("x",)
    conditions = {"start": Initial(u=lambda x: 2 / torch.cosh(x), v=0, weight=100)}

    def residual(self, u, v):
        """Return zero for a solution."""
        square = u**2 + v**2
        return {"real": u.t + v.xx / 2 + square * v, "imaginary": v.t - u.xx / 2 - square * u}


if __name__ == "__main__":
    solution = solve(Schroedinger(), "data.modes=5", seconds=90, width=30)
    print(solution(x=0.0, t=[0.0, 0.4, 0.8]))
