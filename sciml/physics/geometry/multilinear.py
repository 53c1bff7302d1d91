"""Multilinear interpolation on regular grids in any dimension: corners, values and gradients."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def reduce_corners(corners: list[Tensor], share: Tensor, axis: int | None = None) -> Tensor:
    """Interpolate 2^d corner values along one axis after the other; differentiate along `axis`."""
    for a in range(len(share)):
        half = len(corners) // 2
        pairs = zip(corners[:half], corners[half:], strict=True)
        if a == axis:
            corners = [upper - lower for lower, upper in pairs]
        else:
            corners = [torch.lerp(lower, upper, share[a]) for lower, upper in pairs]
    return corners[0]


def corners_of(values: Tensor) -> list[Tensor]:
    """Return the 2^d corner values of all cells, each `(B, n_1 - 1, ..., n_d - 1)`."""
    corners = [values]
    for axis in range(1, values.ndim):
        n = values.shape[axis]
        corners = [c.narrow(axis, k, n - 1) for c in corners for k in (0, 1)]
    return corners


def largest_slopes(values: Tensor, spacing: Tensor) -> Tensor:
    """Return the largest squared gradient of the interpolant in each cell, `(B, cells)`.

    Each component of a gradient is affine in every other coordinate, so that the norm is convex
    along the axes and largest at the corners of a cell.

    Args:
        values: `(B, n_1, ..., n_d)`.
        spacing: Sides of the cells `(B, d)`.
    """
    dim, sizes = values.ndim - 1, values.shape[1:]
    slopes = [values.diff(dim=a + 1) for a in range(dim)]
    largest = torch.zeros_like(values[(slice(None), *[slice(1, None)] * dim)].flatten(1))
    for bits in itertools.product((0, 1), repeat=dim):
        square = 0
        for axis, slope in enumerate(slopes):
            cut = [
                slice(None) if a == axis else slice(bit, size - 1 + bit)
                for a, (bit, size) in enumerate(zip(bits, sizes, strict=True))
            ]
            per_unit = slope[(slice(None), *cut)].flatten(1) / spacing[:, axis, None]
            square = square + per_unit**2
        largest = torch.maximum(largest, square)
    return largest
