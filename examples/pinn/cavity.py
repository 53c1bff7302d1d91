"""Flow in a square under a moving lid, at Reynolds number 100.

python examples/pinn/cavity.py
"""

from sciml.pinn import At, On, Rectangle, System, solve


class Cavity(System):
    """Stationary Navier-Stokes equations."""

    outputs = ("u", "v", "p")
    domain = Rectangle((0, 0), (1, 1))
    nu = 0.01
    conditions = {
        "lid": On(domain.top, u=lambda x: 4 * x * (1 - x), v=0),
        "walls": On(domain.rest, u=0, v=0),
        "gauge": At(x=0, y=0, p=0),
    }

    def residual(self, u, v, p):
        """Return zero for a solution."""
        return {
            "x-momentum": u * u.x + v * u.y + p.x - self.nu * u.lap,
            "y-momentum": u * v.x + v * v.y + p.y - self.nu * v.lap,
            "continuity": u.x + v.y,
        }


if __name__ == "__main__":
    solution = solve(Cavity(), seconds=120)
    print(solution(x=0.5, y=[0.25, 0.5, 0.75])["u"])
