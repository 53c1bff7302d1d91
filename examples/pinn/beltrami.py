"""Beltrami's flow: unsteady Navier-Stokes equations in a cube.

python examples/pinn/beltrami.py
"""

from sciml.pinn import Box, Initial, On, System, Time, solve, torch


class Beltrami(System):
    """u_t + (u grad) u + grad p = Lap u, div u = 0; Ethier and Steinman 1994, a = d = 1."""

    outputs = ("u", "v", "w", "p")
    domain = Box((-1, -1, -1), (1, 1, 1)) * Time(0, 1)
    gauge = ("p",)

    def conditions(self):
        """Return the exact velocity at the start and on the sides."""
        data = {k: lambda x, y, z, t, k=k: self.exact(x, y, z, t)[k] for k in "uvw"}
        return {"start": Initial(**data), "sides": On(self.domain.boundary, **data)}

    def residual(self, u, v, w, p):
        """Return zero for a solution."""

        def momentum(c, slope):
            return c.t + u * c.x + v * c.y + w * c.z + slope - c.lap

        return {
            "x": momentum(u, p.x),
            "y": momentum(v, p.y),
            "z": momentum(w, p.z),
            "continuity": u.x + v.y + w.z,
        }

    def exact(self, x, y, z, t):
        """Return the solution."""
        e, s, c, f = torch.exp, torch.sin, torch.cos, torch.exp(-t)

        def component(a, b, d):
            return -(e(a) * s(b + d) + e(d) * c(a + b)) * f

        def part(a, b, d):
            return e(2 * a) + 2 * s(a + b) * c(d + a) * e(b + d)

        p = -0.5 * (part(x, y, z) + part(y, z, x) + part(z, x, y)) * f**2
        return {"u": component(x, y, z), "v": component(y, z, x), "w": component(z, x, y), "p": p}


if __name__ == "__main__":
    print(solve(Beltrami(), seconds=120, points=1000))
