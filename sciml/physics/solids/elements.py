"""Quadratic elements: the eight-node quadrilateral (Q8) and the six-node triangle (T6).

Shape functions come from the monomials an element spans and its nodes, by solving for the
polynomials that are 1 at one node and 0 at the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Element:
    """A reference element with its quadrature; k nodes, corners first, then midside nodes.

    The midside node k_c + i lies between corner i and the next one.

    Attributes:
        name: `Q8` or `T6`.
        corners: Number of corner nodes, k/2.
        nodes: `(k, 2)` coordinates.
        powers: `(k, 2)` exponents of the monomials.
        points: `(Q, 2)` quadrature points.
        weights: `(Q,)` quadrature weights; they sum to the area.
    """

    name: str
    corners: int
    nodes: np.ndarray
    powers: np.ndarray
    points: np.ndarray
    weights: np.ndarray

    @cached_property
    def coefficients(self) -> np.ndarray:
        """Return `(k, k)`: column j holds the monomial coefficients of shape function j."""
        return np.linalg.inv(self._monomials(self.nodes, self.powers))

    @staticmethod
    def _monomials(points: np.ndarray, powers: np.ndarray) -> np.ndarray:
        return (points[:, None, :] ** powers).prod(-1)

    def shapes(self, points: np.ndarray) -> np.ndarray:
        """Return the shape functions `(Q, k)` at reference points `(Q, 2)`."""
        return self._monomials(points, self.powers) @ self.coefficients

    def gradients(self, points: np.ndarray) -> np.ndarray:
        """Return the derivatives `(Q, 2, k)` along the two reference axes at points `(Q, 2)`."""
        out = []
        for axis in range(2):
            lower = self.powers.copy()
            lower[:, axis] = np.maximum(lower[:, axis] - 1, 0)
            slope = self.powers[:, axis] * self._monomials(points, lower)
            out.append(slope @ self.coefficients)
        return np.stack(out, 1)


def _quadrilateral() -> Element:
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    x, w = np.polynomial.legendre.leggauss(3)
    powers = [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2], [2, 1], [1, 2]]
    return Element(
        "Q8",
        4,
        np.vstack([corners, (corners + np.roll(corners, -1, 0)) / 2]),
        np.array(powers),
        np.stack(np.meshgrid(x, x, indexing="ij"), -1).reshape(-1, 2),
        np.outer(w, w).ravel(),
    )


def _triangle() -> Element:
    # three points: exact to degree 2, which is det J of curved sides and the stiffness of
    # straight ones, and no more constraints on a nearly incompressible phase than needed
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    powers = [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    return Element(
        "T6",
        3,
        np.vstack([corners, (corners + np.roll(corners, -1, 0)) / 2]),
        np.array(powers),
        np.array([[1 / 6, 1 / 6], [2 / 3, 1 / 6], [1 / 6, 2 / 3]]),
        np.full(3, 1 / 6),
    )


Q8 = _quadrilateral()
T6 = _triangle()
ELEMENTS = {8: Q8, 6: T6}  # by the number of nodes
