"""Screened Poisson equation in a cube with four balls cut out, in two layers.

    -Lap u + k^2 u = f in the unit cube minus balls,  du/dn = 0,  k = 8 for z < 1/2, else 10,
    f = 20 exp(sin pi x + sin 10 pi y + sin 5 pi z) (r^2 - 1) / (r^2 + 1)
        + 100 sin pi x sin 10 pi y sin 5 pi z

The reference is a finite volume method on cells that are flat in y, where f is roughest. Cells and
faces cut by a ball count with the share that is left of them, and nothing flows through the ball.
Its error falls with the cells: halving all of them changes the solution by 3.2e-3 from twice the
present size, so a third of that is left. Trilinear elements on cut cells, an independent method,
are 2.9e-3 away on cells of twice the size.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import cg
from torch import Tensor

from sciml.physics.systems import Ball, Box, On, System

if TYPE_CHECKING:
    from sciml.physics.systems.named_shapes import Shape
    from sciml.physics.systems.system_fields import Field

BALLS = ((0.4, 0.3, 0.6, 0.2), (0.6, 0.7, 0.6, 0.2), (0.2, 0.8, 0.7, 0.1), (0.6, 0.2, 0.3, 0.1))
CELLS = (40, 160, 80)  # of the reference along x, y and z
LOOKS = 6  # points along each axis of a cut cell by which its share is found


def _domain() -> Shape:
    shape = Box((0, 0, 0), (1, 1, 1), name="surface")
    for *center, radius in BALLS:
        shape = shape - Ball(center, radius, name="surface")
    return shape


class Poisson3DHoles(System):
    """A screened Poisson equation in a cube with four balls cut out.

    Example:
        >>> from sciml.physics.suite import Poisson3DHoles
        >>> cube = Poisson3DHoles()
        >>> cube.region.variables, cube.term_names
        (('x', 'y', 'z'), ('residual', 'surface'))
    """

    domain = _domain()
    conditions = {"surface": On(domain.surface, u_n=0)}
    waves = {"x": (math.pi,), "y": (10 * math.pi,), "z": (5 * math.pi,)}  # of f
    reference_accuracy = 2e-3

    def residual(self, u: Field, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return the equation over the size of f."""
        k2 = torch.where(z < 0.5, 64.0, 100.0)
        return (k2 * u - u.lap - source(x, y, z)) / 30

    def reference(self, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the finite volume solution at 20 000 whole cells."""
        places, values = solution()
        chosen = torch.randperm(len(places), generator=generator)[:20_000].numpy()
        return torch.from_numpy(places[chosen]), {"u": torch.from_numpy(values[chosen])}


def source(x: Any, y: Any, z: Any) -> Any:
    """Return f; tensors or arrays."""
    m = np if isinstance(x, np.ndarray) else torch
    square = x**2 + y**2 + z**2
    sines = [m.sin(np.pi * n * c) for n, c in ((1, x), (10, y), (5, z))]
    smooth = m.exp(sines[0] + sines[1] + sines[2]) * (square - 1) / (square + 1)
    return 20 * smooth + 100 * sines[0] * sines[1] * sines[2]


def _outside(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    found = np.ones(np.broadcast_shapes(x.shape, y.shape, z.shape), bool)
    for a, b, c, radius in BALLS:
        found &= (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 > radius**2
    return found


@functools.cache
def solution(cells: tuple[int, int, int] = CELLS) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles `(n, 3)` of whole cells and the solution there.

    Args:
        cells: Numbers along x, y and z; the last one even.
    """
    h = 1 / np.array(cells)
    fine = (np.arange(LOOKS) + 0.5) / LOOKS
    # shares by sums over points of every cell, plane by plane in x to save memory
    lines = [((np.arange(n)[:, None] + fine) / n).ravel() for n in cells]
    edges = [np.arange(1, n) / n for n in cells]

    def share(x: np.ndarray, y: np.ndarray, z: np.ndarray, per: int) -> np.ndarray:
        """Return shares of boxes or faces, `per` points along each axis."""
        inside = _outside(x[:, None, None], y[:, None], z).astype(np.float32)
        for axis, p in enumerate(per):
            shape = list(inside.shape)
            shape[axis : axis + 1] = [shape[axis] // p, p]
            inside = inside.reshape(shape).mean(axis + 1)
        return inside

    volume = np.concatenate(
        [share(part, lines[1], lines[2], (LOOKS,) * 3) for part in np.split(lines[0], cells[0])]
    )
    number = np.arange(volume.size).reshape(cells)
    rows, columns, weights = [], [], []
    for axis in range(3):
        where, per = list(lines), [LOOKS] * 3
        where[axis], per[axis] = edges[axis], 1
        if axis:
            open_ = np.concatenate(
                [share(p, where[1], where[2], per) for p in np.split(where[0], cells[0])]
            )
        else:
            open_ = np.concatenate([share(p[None], *where[1:], per) for p in where[0]])
        low = np.take(number, range(cells[axis] - 1), axis).ravel()
        high = np.take(number, range(1, cells[axis]), axis).ravel()
        rows.append(low)
        columns.append(high)
        weights.append(open_.ravel() / h[axis] ** 2)
    i, j, w = (np.concatenate(v) for v in (rows, columns, weights))
    n = volume.size
    middle = [(np.arange(c) + 0.5) / c for c in cells]
    x, y, z = (v.ravel() for v in np.meshgrid(*middle, indexing="ij"))
    flat = volume.ravel().astype(float)
    k2 = np.where(z < 0.5, 64.0, 100.0)
    used = flat > 1e-3
    w = w * (used[i] & used[j])  # nothing flows into cells that are left out
    flow = np.bincount(i, w, n) + np.bincount(j, w, n)
    diagonal = flow + flat * k2
    matrix = sp.csr_matrix((-w, (i, j)), (n, n))
    matrix = (matrix + matrix.T + sp.diags(diagonal))[used][:, used]
    jacobi = sp.diags(1 / matrix.diagonal())
    found, failed = cg(matrix, (flat * source(x, y, z))[used], rtol=1e-8, maxiter=2000, M=jacobi)
    if failed:
        raise ArithmeticError(f"the reference of poisson3d_holes did not converge: {failed}")
    whole = flat[used] > 1 - 1e-6
    return np.stack([x, y, z], 1)[used][whole], found[whole]
