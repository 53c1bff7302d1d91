"""A stiff front in windows of time, each from the end state of the one before.

python examples/pinn/windows.py
"""

from sciml.pinn import Initial, Interval, On, System, Time, solve, torch


class Fisher(System):
    """u_t = u_xx + 6 u (1 - u), a wave that runs to the right; flat at both ends."""

    domain = Interval(-5, 15) * Time(0, 2)

    def conditions(self):
        """Return the wave at the start and on the ends."""
        ends = On(self.domain.boundary, u=self.exact)
        return {"start": Initial(u=self.exact), "ends": ends}

    def residual(self, u):
        """Return zero for a solution."""
        return u.t - u.xx - 6 * u * (1 - u)

    def exact(self, x, t):
        """Return the solution."""
        return (1 + torch.exp(x - 5 * t)) ** -2


if __name__ == "__main__":
    print(solve(Fisher(), steps=200, points=500, width=16, windows=4))
