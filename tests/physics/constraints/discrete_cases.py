"""Small problems for these tests, solved by the very scheme that the constraint imposes."""

import math
from types import SimpleNamespace

import torch

from sciml.physics.constraints import BurgersConstraint


def periodic(levels=11, points=24, horizon=0.5, viscosity=0.05):
    """Return the grid of a problem on [0, 1) with its viscosity."""
    x = torch.arange(points, dtype=torch.float64) / points
    return SimpleNamespace(
        times=torch.linspace(0, horizon, levels, dtype=torch.float64),
        grids=(x,),
        periods=(1.0,),
        channels=("initial",),
        viscosity=viscosity,
    )


def slopes(points):
    """Return the matrices of d/dx and d^2/dx^2 by trigonometric interpolation on [0, 1)."""
    eye = torch.eye(points, dtype=torch.float64)
    k = 2 * math.pi * torch.fft.fftfreq(points, 1 / points, dtype=torch.float64)
    odd = torch.where(k.abs() == k.abs().max(), 0.0, k) if points % 2 == 0 else k
    hat = torch.fft.fft(eye, dim=0)
    first = torch.fft.ifft(1j * odd[:, None] * hat, dim=0).real
    return first, torch.fft.ifft(-k[:, None].square() * hat, dim=0).real


def midpoint_burgers(problem, start):
    """Return u `(B, nt, nx)` of the implicit midpoint rule for Burgers' equation."""
    d1, d2 = slopes(len(problem.grids[0]))
    dt = float(problem.times[1])
    out = [start]

    def rate(v):
        return -v * (v @ d1.T) + problem.viscosity * v @ d2.T

    for _ in problem.times[1:]:
        old, new = out[-1], out[-1]
        for _ in range(12):
            mid = (old + new) / 2
            gap = new - old - dt * rate(mid)
            jac = torch.eye(len(d1)) - dt / 2 * (
                -torch.diag_embed(mid @ d1.T) - mid[:, :, None] * d1 + problem.viscosity * d2
            )
            new = new - torch.linalg.solve(jac, gap)
        out.append(new)
    return torch.stack(out, 1)


def burgers_case(samples=2, functions=6, levels=11, points=24, **settings):
    """Return a constraint, initial states, solutions, and bases that contain them first."""
    problem = periodic(levels, points)
    x = problem.grids[0]
    draw = torch.Generator().manual_seed(3)
    phase = torch.rand(samples, 1, generator=draw)
    start = 1 + 0.4 * torch.sin(2 * math.pi * (x + phase)) + 0.2 * torch.cos(4 * math.pi * x)
    u = midpoint_burgers(problem, start)
    others = smooth(samples, functions - 1, levels, points, draw)
    basis = torch.cat([u[:, None], others], 1)
    return BurgersConstraint(problem, **settings), start[:, None], u, basis


def smooth(samples, functions, levels, points, draw):
    """Return random smooth functions `(samples, functions, levels, points)`, periodic in x."""
    t = torch.linspace(0, 1, levels)[:, None]
    x = torch.arange(points) / points
    out = 0.0
    for j in range(3):
        a = torch.randn(2, samples, functions, 1, 1, generator=draw)
        wave = a[0] * torch.cos(2 * math.pi * j * x) + a[1] * torch.sin(2 * math.pi * j * x)
        out = out + wave * torch.cos(j * t + torch.randn(samples, functions, 1, 1, generator=draw))
    return out
