"""The reference of poisson3d_holes against finite elements on cut cells, an independent method.

Trilinear elements on a grid that ignores the balls; integrals over what is left of an element are
sums over points. Insulation is natural in them, where the volumes leave out faces.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import cg

from sciml.physics.suite import poisson3d_holes

BALLS = ((0.4, 0.3, 0.6, 0.2), (0.6, 0.7, 0.6, 0.2), (0.2, 0.8, 0.7, 0.1), (0.6, 0.2, 0.3, 0.1))
LOOKS = 4


def elements(cells: tuple[int, int, int]) -> np.ndarray:
    """Return the solution in the middles of whole elements, nan elsewhere."""
    h = 1 / np.array(cells)
    line = (np.arange(LOOKS) + 0.5) / LOOKS
    at = np.array(list(itertools.product(line, line, line)))  # (q, 3)
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    ramp = np.where(corners, at[:, None], 1 - at[:, None])  # (q, 8, 3)
    value = ramp.prod(2)
    slope = np.stack(
        [np.where(corners[:, a], 1, -1) / h[a] * np.delete(ramp, a, 2).prod(2) for a in range(3)]
    )
    weight = h.prod() / len(at)
    stiff = np.einsum("aqi,aqj->qij", slope, slope).reshape(len(at), 64)
    mass = np.einsum("qi,qj->qij", value, value).reshape(len(at), 64)
    index = np.array(list(itertools.product(*map(range, cells))))
    corner = index[:, None] + corners
    node = np.ravel_multi_index(np.moveaxis(corner, 2, 0), [c + 1 for c in cells])
    x = (index[:, None] + at) * h
    inside = np.ones(x.shape[:2], bool)
    for a, b, c, radius in BALLS:
        inside &= ((x - (a, b, c)) ** 2).sum(2) > radius**2
    k2 = np.where(x[:, :1, 2] < 0.5, 64.0, 100.0)
    r2 = (x**2).sum(2)
    f = 20 * (r2 - 1) / (r2 + 1) * np.exp(
        np.sin(np.pi * x[..., 0]) + np.sin(10 * np.pi * x[..., 1]) + np.sin(5 * np.pi * x[..., 2])
    ) + 100 * np.sin(np.pi * x[..., 0]) * np.sin(10 * np.pi * x[..., 1]) * np.sin(
        5 * np.pi * x[..., 2]
    )
    n = int(np.prod([c + 1 for c in cells]))
    own = weight * (inside @ stiff + k2 * (inside @ mass))
    places = (np.repeat(node, 8, 1).ravel(), np.tile(node, (1, 8)).ravel())
    matrix = sp.csr_matrix((own.ravel(), places), (n, n))
    right = np.bincount(node.ravel(), (weight * (f * inside) @ value).ravel(), n)
    used = matrix.diagonal() > 1e-9 * matrix.diagonal().max()
    matrix = matrix[used][:, used]
    u = np.zeros(n)
    u[used], failed = cg(
        matrix, right[used], rtol=1e-8, maxiter=4000, M=sp.diags(1 / matrix.diagonal())
    )
    assert not failed
    middle = np.where(inside.all(1), u[node].mean(1), np.nan)
    return middle.reshape(cells)


def difference(cells: tuple[int, int, int]) -> float:
    places, values = poisson3d_holes.solution(cells)
    volumes = np.full(cells, np.nan)
    volumes[tuple((places * cells).astype(int).T)] = values
    wanted = elements(cells)
    both = ~np.isnan(volumes + wanted)
    assert both.sum() > 0.85 * both.size
    return float(np.linalg.norm((volumes - wanted)[both]) / np.linalg.norm(wanted[both]))


def test_volumes_and_elements_around_balls_agree_the_better_the_finer() -> None:
    assert difference((10, 40, 20)) < 2.6e-2  # 2.36e-2
    assert difference((20, 80, 40)) < 6.6e-3  # 6.05e-3, 8.6e-3 if flow enters cells left out
