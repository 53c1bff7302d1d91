"""Poisson's equation on random stars in the plane, by finite elements, as a list of point clouds.

    -lap u = f  in the star  r < R(angle),    u = 0 on its edge,    f: three bumps of width .3

Each sample has the points of the edge and 500 to 800 random ones inside: `x` (P, 2), `f` (P,),
`edge` (P,) and the solution `u` (P,). Linear triangles between 20 rings and 64 rays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import spsolve

RINGS, RAYS, WAVES = 20, 64, 4


def mesh(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes `(n, 2)`, triangles `(m, 3)`, and whether nodes are of the edge, of a star."""
    angle = 2 * np.pi * np.arange(RAYS) / RAYS
    k = np.arange(1, WAVES + 1)
    size = 0.25 * draw.normal(size=(2, WAVES)) / k
    waves = size[0] @ np.cos(k[:, None] * angle) + size[1] @ np.sin(k[:, None] * angle)
    ray = np.clip(1 + waves, 0.4, None)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    share = np.arange(1, RINGS + 1) / RINGS
    nodes = np.concatenate([np.zeros((1, 2)), (share[:, None, None] * ray).reshape(-1, 2)])
    j = np.arange(RAYS)
    ring = [1 + i * RAYS + np.stack([j, (j + 1) % RAYS]) for i in range(RINGS)]
    faces = [np.stack([np.zeros(RAYS, int), *ring[0]], 1)]
    for inner, outer in zip(ring, ring[1:], strict=False):
        faces += [np.stack([inner[0], *outer], 1), np.stack([inner[0], outer[1], inner[1]], 1)]
    return nodes, np.concatenate(faces), np.arange(len(nodes)) >= 1 + (RINGS - 1) * RAYS


def solve(nodes: np.ndarray, faces: np.ndarray, edge: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return the solution at all nodes."""
    p, n = nodes[faces], len(nodes)
    a, b = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    area = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    side = np.roll(p, -1, 1) - np.roll(p, -2, 1)
    slope = np.stack([side[..., 1], -side[..., 0]], -1) / (2 * area)[:, None, None]
    local = np.einsum("tid,tjd->tij", slope, slope) * area[:, None, None]
    mass = (np.ones((3, 3)) + np.eye(3)) / 12 * area[:, None, None]
    place = np.repeat(faces, 3, 1).ravel(), np.tile(faces, (1, 3)).ravel()
    stiff, weigh = (sp.csr_matrix((v.ravel(), place), (n, n)) for v in (local, mass))
    u, free = np.zeros(n), ~edge
    u[free] = spsolve(stiff[free][:, free].tocsc(), (weigh @ f)[free])
    return u


def write_stars(path: Path, count: int = 400, seed: int = 0) -> None:
    """Write random stars with random sources."""
    draw, made = np.random.default_rng(seed), []
    for _ in range(count):
        nodes, faces, edge = mesh(draw)
        centre, weight = draw.uniform(-0.8, 0.8, (3, 1, 2)), 10 * draw.normal(size=(3, 1))
        f = (weight * np.exp(-((nodes - centre) ** 2).sum(-1) / (2 * 0.3**2))).sum(0)
        u = solve(nodes, faces, edge, f)
        inside = draw.choice(np.flatnonzero(~edge), draw.integers(500, 800), replace=False)
        kept = np.concatenate([np.flatnonzero(edge), inside])
        held = {"x": nodes, "f": f, "edge": edge.astype(float), "u": u}
        made.append({name: torch.tensor(v[kept]).float() for name, v in held.items()})
    torch.save(made, path)
