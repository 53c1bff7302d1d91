"""From element matrices and vectors to those of all unknowns, by a pattern found once."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array
from scipy.sparse.linalg import SuperLU, splu

REFINEMENTS = 8  # with factors of another matrix; as many solves are cheaper than new factors
SLOW = 0.3  # factors that leave more of the residual than this are too far off


class Assembly:
    """Where the entries of element matrices go.

    Args:
        dofs: `(E, d)` numbers of unknowns; `size` for those that are held, which are left out.
        size: Number of unknowns.
    """

    def __init__(self, dofs: np.ndarray, size: int) -> None:
        self.dofs, self.size = dofs, size
        rows, columns = np.broadcast_arrays(dofs[:, :, None], dofs[:, None, :])
        entry = columns.astype(np.int64) * (size + 1) + rows  # column-major order
        places, self._places = np.unique(entry.ravel(), return_inverse=True)
        self._places = self._places.ravel()
        column, row = np.divmod(places, size + 1)
        self._kept = (row < size) & (column < size)
        self._rows = row[self._kept].astype(np.int32)
        counts = np.bincount(column[self._kept], minlength=size)
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)

    def matrix(self, local: np.ndarray) -> csc_array:
        """Return the sparse sum of element matrices `(E, d, d)`; they need not be symmetric."""
        entries = np.bincount(self._places, local.ravel(), minlength=len(self._kept))
        shape = (self.size, self.size)
        return csc_array((entries[self._kept], self._rows, self._starts), shape=shape)

    def vector(self, local: np.ndarray) -> np.ndarray:
        """Return the sum `(size,)` of element vectors `(E, d)`."""
        return np.bincount(self.dofs.ravel(), local.ravel(), minlength=self.size + 1)[:-1]


def factorised(matrix: csc_array) -> SuperLU | None:
    """Return the factors of a matrix with a positive symmetric part, None if it is singular."""
    try:
        return splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
    except RuntimeError as error:  # SuperLU has no class of its own for this
        if "singular" in str(error):
            return None
        raise


def refined(factor: SuperLU, matrix: csc_array, load: np.ndarray, rtol: float) -> np.ndarray | None:
    """Return the solution by factors of a matrix close by, None where they are not close enough.

    Args:
        factor: Of another matrix.
        matrix: The matrix itself.
        load: Right-hand side `(size,)`.
        rtol: Norm of what may be left of it, relative.
    """
    x, left = np.zeros_like(load), load
    size = norm = float(np.linalg.norm(load))
    for _ in range(REFINEMENTS):
        x = x + factor.solve(left)
        left = load - matrix @ x
        before, norm = norm, float(np.linalg.norm(left))
        if norm <= rtol * size:
            return x
        if not norm <= SLOW * before:
            break
    return None
