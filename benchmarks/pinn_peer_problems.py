"""What the sides of `pinn_peers.py` have in common: sizes, points, reference solutions."""

from __future__ import annotations

import numpy as np

PROBLEMS = ("burgers", "l_shape", "helmholtz", "allen_cahn", "kovasznay")
POINTS = {
    "burgers": (2540, {"start": 160, "ends": 80}),
    "l_shape": (1200, {"outside": 120}),
    "helmholtz": (2000, {}),
    "allen_cahn": (2500, {}),
    "kovasznay": (1500, {"sides": 320, "outflow": 80}),
}
WIDTH, DEPTH = 20, 4  # hidden layers of twenty; linear layers
RE = 20
DECAY = RE / 2 - (RE**2 / 4 + 4 * np.pi**2) ** 0.5


def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return points `(N, D)` and the solution `(N, K)`."""
    rng = np.random.default_rng(0)
    if name == "burgers":
        import torch

        from sciml.physics.suite import Burgers1D

        x = np.stack([rng.uniform(-1, 1, 5000), rng.uniform(0, 1, 5000)], 1)
        u = Burgers1D().exact(*torch.as_tensor(x).unbind(1)).numpy()
        return x, u[:, None]
    if name == "helmholtz":
        x = rng.uniform(-1, 1, (5000, 2))
        return x, (np.sin(np.pi * x[:, :1]) * np.sin(4 * np.pi * x[:, 1:]))
    if name == "kovasznay":
        x = np.stack([rng.uniform(-0.5, 1, 5000), rng.uniform(-0.5, 1.5, 5000)], 1)
        return x, np.stack(kovasznay(np, x[:, 0], x[:, 1]), 1)
    return l_shape() if name == "l_shape" else allen_cahn()


def kovasznay(lib, x, y) -> tuple:
    """Return u, v, p, by numpy or torch."""
    e, phase = lib.exp(DECAY * x), 2 * np.pi * y
    return (
        1 - e * lib.cos(phase),
        DECAY / (2 * np.pi) * e * lib.sin(phase),
        (1 - e**2) / 2,
    )


def l_shape() -> tuple[np.ndarray, np.ndarray]:
    """Return -lap u = 1 in the square without its upper right quarter, on a grid."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import spsolve

    def solved(n: int) -> np.ndarray:
        h, line = 2 / n, np.linspace(-1, 1, n + 1)
        x, y = np.meshgrid(line, line, indexing="ij")
        inside = (abs(x) < 1 - h / 2) & (abs(y) < 1 - h / 2) & ~((x > -h / 2) & (y > -h / 2))
        number = np.full(inside.shape, -1)
        number[inside] = np.arange(inside.sum())
        rows, columns, values = [], [], []
        for step in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            there = np.roll(number, (-step[0], -step[1]), (0, 1))[inside]
            keep = there >= 0
            rows.append(number[inside][keep])
            columns.append(there[keep])
            values.append(np.full(keep.sum(), 4.0 if step == (0, 0) else -1.0) / h**2)
        parts = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        u = np.zeros(inside.shape)
        u[inside] = spsolve(coo_matrix(parts).tocsc(), np.ones(inside.sum()))
        return u

    coarse, fine = solved(128)[::4, ::4], solved(256)[::8, ::8]
    order = 4 / 3  # of the corner
    u = fine + (fine - coarse) / (2**order - 1)
    line = np.linspace(-1, 1, len(u))
    x, y = np.meshgrid(line, line, indexing="ij")
    keep = ~((x > 0) & (y > 0))
    return np.stack([x[keep], y[keep]], 1), u[keep][:, None]


def allen_cahn() -> tuple[np.ndarray, np.ndarray]:
    """Return u_t = 0.001 u_xx + 5 (u - u^3), u = -1 at both ends, on a grid."""
    from scipy.integrate import solve_ivp

    times = np.linspace(0, 1, 21)

    def solved(n: int) -> np.ndarray:
        x, h = np.linspace(-1, 1, n + 1), 2 / n

        def slope(_, v):
            u = np.concatenate([[-1.0], v, [-1.0]])
            return 1e-3 * (u[2:] - 2 * v + u[:-2]) / h**2 + 5 * (v - v**3)

        found = solve_ivp(
            slope, (0, 1), (x**2 * np.cos(np.pi * x))[1:-1], method="LSODA", t_eval=times,
            lband=1, uband=1, rtol=1e-9, atol=1e-10,
        ).y  # fmt: skip
        return np.pad(found, ((1, 1), (0, 0)), constant_values=-1.0)

    coarse, fine = solved(800)[::8], solved(1600)[::16]
    u = fine + (fine - coarse) / 3
    x, t = np.meshgrid(np.linspace(-1, 1, len(u)), times, indexing="ij")
    return np.stack([x.ravel(), t.ravel()], 1), u.reshape(-1, 1)
