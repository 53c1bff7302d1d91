"""Quadratic finite elements on graded grids of rectangles: where references of the suite come from.

A `GradedGrid` is a product of two sets of break points, from which cells may be left out (a step).
Its matrices take nodal values to values and derivatives at Gauss points, so forms are products,

    (grad u, grad v) = Bx^T W Bx + By^T W By ,      (a u_x, v) = B^T W diag(a) Bx ,

and `flow` solves the stationary Navier-Stokes equations by Newton's method with quadratic
velocities and bilinear pressure (Taylor and Hood 1973).

Reference: Elman, Silvester and Wathen, "Finite Elements and Fast Iterative Solvers", 2nd edition
(2014), chapters 3 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

GAUSS = np.polynomial.legendre.leggauss(3)


def graded(*parts: tuple[float, float, int, float]) -> np.ndarray:
    """Return break points of intervals in a row.

    Args:
        parts: For each (start, end, cells, ratio): ratio is the last cell's width over the first's.
    """
    found = []
    for start, end, cells, ratio in parts:
        widths = ratio ** (np.arange(cells) / max(cells - 1, 1))
        inner = start + (end - start) * widths.cumsum()[:-1] / widths.sum()
        found.append(np.concatenate([[start], inner, [end]]))  # ends exactly
    return np.concatenate([found[0], *(f[1:] for f in found[1:])])


def _shapes(s: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return shape functions and their derivatives on [0, 1] at s, `(n, order + 1)`."""
    one = np.ones_like(s)
    if order == 1:
        return np.stack([1 - s, s], -1), np.stack([-one, one], -1)
    values = np.stack([(1 - s) * (1 - 2 * s), 4 * s * (1 - s), s * (2 * s - 1)], -1)
    return values, np.stack([4 * s - 3, 4 - 8 * s, 4 * s - 1], -1)


def _line(breaks: np.ndarray, order: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return the matrices to values and derivatives at the Gauss points of all cells."""
    n, width = len(breaks) - 1, np.diff(breaks)
    s = (GAUSS[0] + 1) / 2
    values, slopes = _shapes(s, order)
    rows = np.repeat(np.arange(3 * n), order + 1)
    columns = (order * np.arange(n)[:, None, None] + np.arange(order + 1)).repeat(3, 1).ravel()
    size = (3 * n, order * n + 1)
    slopes = (slopes[None] / width[:, None, None]).ravel()
    return (
        sp.csr_matrix((np.tile(values, (n, 1, 1)).ravel(), (rows, columns)), size),
        sp.csr_matrix((slopes, (rows, columns)), size),
    )


def _points(breaks: np.ndarray, order: int) -> np.ndarray:
    if order == 1:
        return breaks
    return np.insert(breaks, np.arange(1, len(breaks)), (breaks[1:] + breaks[:-1]) / 2)


class GradedGrid:
    """Cells, nodes and Gauss points.

    Args:
        x: Break points along x.
        y: Break points along y.
        keep: Whether the cell around a point (x, y) belongs to the domain; None for all.
        order: Of the elements, 1 or 2.

    Attributes:
        value, dx, dy: Sparse matrices `(quadrature points, nodes)`.
        weight: Weights of the quadrature points.
        at: Quadrature points `(q, 2)`.
        nodes: `(n, 2)`.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        keep: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        order: int = 2,
    ) -> None:
        self.x, self.y, self.order = x, y, order
        lines = [_line(b, order) for b in (x, y)]
        gauss = [(b[:-1, None] + np.diff(b)[:, None] * (GAUSS[0] + 1) / 2).ravel() for b in (x, y)]
        weights = [(np.diff(b)[:, None] * GAUSS[1] / 2).ravel() for b in (x, y)]
        at = np.stack(np.meshgrid(*gauss, indexing="ij"), -1).reshape(-1, 2)
        inside = np.ones(len(at), bool) if keep is None else keep(*at.T)
        (ax, dx), (ay, dy) = lines
        value = sp.kron(ax, ay, "csr")[inside]
        self.used = np.asarray(abs(value).sum(0)).ravel() > 0
        self.number = np.cumsum(self.used) - 1  # of every node of the full grid
        self.value = value[:, self.used]
        self.dx = sp.kron(dx, ay, "csr")[inside][:, self.used]
        self.dy = sp.kron(ax, dy, "csr")[inside][:, self.used]
        self.weight = np.outer(*weights).ravel()[inside]
        self.at = at[inside]
        points = [_points(b, order) for b in (x, y)]
        nodes = np.stack(np.meshgrid(*points, indexing="ij"), -1).reshape(-1, 2)
        self.nodes = nodes[self.used]

    def form(
        self, left: sp.csr_matrix, right: sp.csr_matrix, factor: float | np.ndarray = 1.0
    ) -> sp.csr_matrix:
        """Return the matrix of the integral of factor times both functions."""
        return (left.T @ sp.diags(self.weight * factor) @ right).tocsr()

    def stiffness(self, factor: float | np.ndarray = 1.0) -> sp.csr_matrix:
        """Return the matrix of the integral of factor times the product of gradients."""
        return self.form(self.dx, self.dx, factor) + self.form(self.dy, self.dy, factor)

    def mass(self, factor: float | np.ndarray = 1.0) -> sp.csr_matrix:
        """Return the matrix of the integral of factor times the product of values."""
        return self.form(self.value, self.value, factor)

    def edge(self, axis: int, end: int) -> tuple[sp.csr_matrix, sp.csr_matrix, np.ndarray]:
        """Return values at the Gauss points of one side of the whole rectangle.

        Args:
            axis: 0 for a side x = const, 1 for y = const.
            end: 0 for the lower one, -1 for the upper one.

        Returns:
            Matrix to values, weights, coordinate along the side.
        """
        along = self.y if axis == 0 else self.x
        line, _ = _line(along, self.order)
        across = len(_points(self.x if axis == 0 else self.y, self.order))
        pick = sp.csr_matrix(([1.0], ([0], [end % across])), (1, across))
        value = sp.kron(pick, line, "csr") if axis == 0 else sp.kron(line, pick, "csr")
        where = (along[:-1, None] + np.diff(along)[:, None] * (GAUSS[0] + 1) / 2).ravel()
        weight = (np.diff(along)[:, None] * GAUSS[1] / 2).ravel()
        inside = np.asarray(value[:, ~self.used].sum(1)).ravel() == 0
        return value[inside][:, self.used], weight[inside], where[inside]

    def at_points(self, points: np.ndarray) -> sp.csr_matrix:
        """Return the matrix from nodal values to values at points `(m, 2)` of the domain."""
        found = []
        for c, b in zip(points.T, (self.x, self.y), strict=True):
            cell = np.clip(np.searchsorted(b, c, "right") - 1, 0, len(b) - 2)
            values, _ = _shapes((c - b[cell]) / (b[cell + 1] - b[cell]), self.order)
            found.append((values, self.order * cell[:, None] + np.arange(self.order + 1)))
        (vx, cx), (vy, cy) = found
        across = self.order * (len(self.y) - 1) + 1
        columns = (cx[:, :, None] * across + cy[:, None, :]).reshape(len(points), -1)
        values = (vx[:, :, None] * vy[:, None, :]).reshape(len(points), -1)
        rows = np.repeat(np.arange(len(points)), columns.shape[1])
        full = sp.csr_matrix(
            (values.ravel(), (rows, columns.ravel())), (len(points), len(self.used))
        )
        return full[:, self.used]


def flow(
    velocity: GradedGrid,
    pressure: GradedGrid,
    nu: float,
    fixed: np.ndarray,
    values: Sequence[np.ndarray],
    pinned: Sequence[int] = (),
    steps: int = 12,
    tolerance: float = 1e-11,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return velocities and pressure of a stationary flow, by Newton's method from rest.

    Where velocities are not prescribed, nu du/dn - p n = 0 holds.

    Args:
        velocity: Quadratic elements.
        pressure: Bilinear ones of the same cells.
        nu: Viscosity.
        fixed: Numbers of the nodes where both velocities are prescribed.
        values: Their values there, u and v.
        pinned: Nodes of the pressure that are zero: one, where velocities are given all around.
        steps: Most Newton steps.
        tolerance: Largest change of the last one, relative to the largest value above 1.

    Raises:
        ArithmeticError: If Newton's method does not converge.
    """
    g, n, m = velocity, len(velocity.nodes), len(pressure.nodes)
    stiff = nu * g.stiffness()
    gx, gy = g.form(g.dx, pressure.value), g.form(g.dy, pressure.value)
    state = np.zeros(2 * n + m)
    state[fixed], state[n + fixed] = values
    held = np.concatenate([fixed, n + fixed, 2 * n + np.asarray(pinned, int)])
    free = np.setdiff1d(np.arange(len(state)), held)
    for _ in range(steps):
        u, v, p = state[:n], state[n : 2 * n], state[2 * n :]
        uq, vq = g.value @ u, g.value @ v
        convect = g.form(g.value, g.dx, uq) + g.form(g.value, g.dy, vq) + stiff
        slopes = [[g.mass(d @ w) for d in (g.dx, g.dy)] for w in (u, v)]
        matrix = sp.bmat(
            [
                [convect + slopes[0][0], slopes[0][1], -gx],
                [slopes[1][0], convect + slopes[1][1], -gy],
                [-gx.T, -gy.T, None],
            ],
            "csr",
        )
        residual = np.concatenate(
            [convect @ u - gx @ p, convect @ v - gy @ p, -gx.T @ u - gy.T @ v]
        )
        change = splu(matrix[free][:, free].tocsc()).solve(residual[free])
        state[free] -= change
        if abs(change).max() < tolerance * max(1.0, abs(state).max()):
            return state[:n], state[n : 2 * n], state[2 * n :]
    raise ArithmeticError(f"Newton's method: changes of {abs(change).max():.1e} in {steps} steps")
