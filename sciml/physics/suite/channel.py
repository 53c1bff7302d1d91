"""A channel whose inflow swings and turns round, over five units of time.

    u_t + u u_x + v u_y + p_x = nu Lap u,   v_t + u v_x + v v_y + p_y = nu Lap v + g,
    u_x + v_y = 0
    in [0, 2] x [0, 1], t in [0, 5], nu = 1/100, from rest,  g = -sin(pi x) sin(pi y) sin(pi t)

    u = sin(pi y) (sin pi t + sin 3 pi t + sin 5 pi t), v = 0 at the inflow, no slip on the walls

The benchmark prescribes p = 0 alone at the outflow, one condition too few, and its code has g in
both equations; here nu u_x = p and v_x = 0 hold there, and g is in the second.

The reference is quadratic finite elements (`elements`) and the second-order backward formula, with
the convection extrapolated.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from sciml.physics.suite.reference_elements import GradedGrid, graded
from sciml.physics.systems import On, Rectangle, System, Time

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field

NU = 0.01
CELLS, STEPS, MOMENTS = 16, 1000, 40  # of the reference: across the channel, in time, kept


class ChannelLong(System):
    """Flow through a channel whose inflow swings and turns round.

    Example:
        >>> from sciml.physics.suite import ChannelLong
        >>> channel = ChannelLong()
        >>> channel.outputs, channel.region.variables
        (('u', 'v', 'p'), ('x', 'y', 't'))
        >>> channel.term_names
        ('x-momentum', 'y-momentum', 'continuity', 'outflow.u', 'outflow.v')
    """

    outputs = ("u", "v", "p")
    domain = Rectangle((0, 0), (2, 1)) * Time(0, 5)
    conditions = {"outflow": On(domain.right, lambda u, v, p: {"u": NU * u.x - p, "v": NU * v.x})}
    reference_accuracy = 1e-2

    def residual(
        self, u: Field, v: Field, p: Field, x: Tensor, y: Tensor, t: Tensor
    ) -> dict[str, Tensor]:
        """Return the equations over the size of u_t."""
        g = -torch.sin(math.pi * x) * torch.sin(math.pi * y) * torch.sin(math.pi * t)
        return {
            "x-momentum": (u.t + u * u.x + v * u.y + p.x - NU * u.lap) / 10,
            "y-momentum": (v.t + u * v.x + v * v.y + p.y - NU * v.lap - g) / 10,
            "continuity": u.x + v.y,
        }

    def hard(
        self,
        u: Differentiable,
        v: Differentiable,
        p: Differentiable,
        x: Differentiable,
        y: Differentiable,
        t: Differentiable,
    ) -> Differentiable:
        """Return velocities that start at rest, stick to the walls and enter as prescribed.

        The pressure, which accelerates the whole channel, is of the size of 30.
        """
        swing = sum(torch.sin(n * math.pi * t) for n in (1, 3, 5))
        walls, share = 4 * y * (1 - y), t / (t + 0.1)
        mask = walls * x / (x + 0.5) * share
        return {"u": torch.sin(math.pi * y) * swing + mask * u, "v": mask * v, "p": 30 * p}

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the finite element solution at 500 places and 40 times."""
        places = self.region.sample(500, generator)[:, :2]
        velocity, pressure, found = channel()
        a, b = velocity.at_points(places.numpy()), pressure.at_points(places.numpy())
        values = [np.stack([m @ w for w in f]) for m, f in zip((a, a, b), found, strict=True)]
        t = torch.linspace(0, 5, MOMENTS + 1, dtype=torch.float64)[1:]
        x = torch.cat([places.repeat(MOMENTS, 1), t.repeat_interleave(500)[:, None]], 1)
        return x, {k: torch.from_numpy(v.ravel()) for k, v in zip("uvp", values, strict=True)}


@functools.cache
def channel(cells: int = CELLS, steps: int = STEPS) -> tuple[GradedGrid, GradedGrid, tuple]:
    """Return grids of velocity and pressure, and u, v, p at their nodes and 40 times.

    Args:
        cells: Across the channel.
        steps: In time.
    """
    y = graded((0, 0.5, cells // 2, 3), (0.5, 1, cells // 2, 1 / 3))
    x = graded((0, 1, cells, 2), (1, 2, cells, 1 / 2))
    g, pressure = GradedGrid(x, y), GradedGrid(x, y, order=1)
    n, m, step = len(g.nodes), len(pressure.nodes), 5 / steps
    mass, stiff = g.mass(), NU * g.stiffness()
    gx, gy = g.form(g.dx, pressure.value), g.form(g.dy, pressure.value)
    a, b = g.nodes.T
    wall = (a == 0) | (b == 0) | (b == 1)
    held = np.concatenate([wall, wall, np.zeros(m, bool)])
    free = np.flatnonzero(~held)
    shape = np.where((a == 0) & (b > 0) & (b < 1), np.sin(np.pi * b), 0.0)
    force = g.value.T @ (g.weight * np.sin(np.pi * g.at[:, 0]) * np.sin(np.pi * g.at[:, 1]))

    def system(factor: float) -> sp.csr_matrix:
        block = factor / step * mass + stiff
        rows = [[block, None, -gx], [None, block, -gy], [-gx.T, -gy.T, None]]
        return sp.bmat(rows, "csr")

    def convection(w: np.ndarray) -> np.ndarray:
        u, v = w[:n], w[n : 2 * n]
        uq, vq = g.weight * (g.value @ u), g.weight * (g.value @ v)
        parts = [g.value.T @ (uq * (g.dx @ z) + vq * (g.dy @ z)) for z in (u, v)]
        return np.concatenate(parts)

    both = sp.block_diag([mass, mass])
    now = before = np.zeros(2 * n + m)
    found = []
    matrix = system(1.0)
    solve = splu(matrix[free][:, free].tocsc()).solve
    for k in range(1, steps + 1):
        t = k * step
        if k == 1:
            known = both @ now[: 2 * n] / step
        else:
            known = both @ (2 * now - 0.5 * before)[: 2 * n] / step
            known -= convection((2 * now - before)[: 2 * n])
        known[n:] -= force * math.sin(math.pi * t)
        if k == 2:
            matrix = system(1.5)
            solve = splu(matrix[free][:, free].tocsc()).solve
        new = np.zeros(2 * n + m)
        new[:n] = shape * sum(math.sin(j * math.pi * t) for j in (1, 3, 5))
        right = np.concatenate([known, np.zeros(m)]) - matrix @ new
        new[free] = solve(right[free])
        now, before = new, now
        if k % (steps // MOMENTS) == 0:
            found.append((new[:n], new[n : 2 * n], new[2 * n :]))
    return g, pressure, tuple(zip(*found, strict=True))
