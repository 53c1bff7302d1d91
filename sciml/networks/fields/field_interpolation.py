"""Fields on another number of points: cubic interpolation, one direction after the other.

A grid is "left" (nodes i/n, the right end left out), "both" (nodes i/(n-1)) or "cells" (centres).
On "left" grids the first value is appended at the right end: right for periodic fields and for
those that vanish at both ends, which are the two kinds that are stored so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def interpolated(z: Tensor, size: Sequence[int], grid: Sequence[str], wraps: bool) -> Tensor:
    """Return fields on `size` points per direction.

    Args:
        z: `(B, C, *space)`.
        size: Points wanted.
        grid: Kind per direction.
        wraps: Whether "left" grids go on with their first value at the right end; else with
            their last.
    """
    for k, (n, kind) in enumerate(zip(size, grid, strict=True)):
        axis = 2 + k
        old = z.shape[axis]
        if old == n:
            continue
        matrix = torch.from_numpy(_matrix(old, n, kind, wraps)).to(z)
        z = (z.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return z


@lru_cache(64)
def _matrix(old: int, new: int, kind: str, wraps: bool) -> np.ndarray:
    """Return the matrix `(new, old)` of not-a-knot cubic splines through the old points."""
    from scipy.interpolate import make_interp_spline

    def places(n: int) -> np.ndarray:
        i = np.arange(n)
        return i / (n - 1) if kind == "both" else (i + 0.5 * (kind == "cells")) / n

    x, values = places(old), np.eye(old)
    if kind == "left":
        x = np.append(x, 1.0)
        values = np.concatenate([values, values[:1] if wraps else values[-1:]])
    degree = min(3, len(x) - 1)
    at = np.clip(places(new), x[0], x[-1])  # cells next to the ends are not extrapolated
    return make_interp_spline(x, values, k=degree)(at)
