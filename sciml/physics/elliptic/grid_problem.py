"""Elliptic problems given as fields on a grid, as walks need them: a domain, and data anywhere.

A grid of operators is coarse for walks, whose error should be smaller than the operator's. So every
field is interpolated by cubics to a grid FINER times as fine, to fourth order in the spacing, and
linearly from there on. Cubics see four nodes only: what closest-point values do at the medial axis
of a domain stays there. Corners of a domain are rounded within the spacing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain, SDFGrid

FINER = {2: 6, 3: 3}  # fine cells per coarse one, by the number of axes
ALIKE = 1e-5  # of a coefficient's size: differences that are rounding


class Sampled:
    """A field `(x (d, N), i (N,)) -> (N,)` by linear interpolation on a grid around the origin.

    Args:
        values: `(B, n, ..., n)`.
        half: Half the side of the grid's box; beyond it the field is that of its closest point.
    """

    def __init__(self, values: Tensor, half: float) -> None:
        self.values, self.half = values.flatten(1), half
        self.nodes, self.dim = values.shape[1], values.ndim - 1

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (d, N)` of the domains `i (N,)`."""
        cells = self.nodes - 1
        place = ((x / self.half + 1) * (cells / 2)).clamp(0, cells)
        corner = place.floor().clamp_max(cells - 1)
        share, index = place - corner, corner.long()
        strides = [self.nodes**k for k in reversed(range(self.dim))]
        base = i * self.values.shape[1] + sum(map(torch.mul, index, strides))
        flat, total = self.values.reshape(-1), torch.zeros_like(x[0])
        for bits in itertools.product((0, 1), repeat=self.dim):
            weight = torch.ones_like(total)
            for bit, part in zip(bits, share, strict=True):
                weight = weight * (part if bit else 1 - part)
            offset = sum(map(int.__mul__, bits, strides))
            total = total + weight * flat.index_select(0, base + offset).to(x)
        return total


class SampledDiffusion(Sampled):
    """A diffusion with the gradient of its logarithm.

    Args:
        values: `(B, n, ..., n)`.
        slopes: Derivatives of the logarithm along every axis, of the same shape.
        half: Half the side of the grid's box.
    """

    def __init__(self, values: Tensor, slopes: Sequence[Tensor], half: float) -> None:
        super().__init__(values, half)
        self.slopes = [Sampled(slope, half) for slope in slopes]

    def log_gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the gradient of the logarithm `(d, N)` at `x (d, N)`."""
        return torch.stack([slope(x, i) for slope in self.slopes])


def sampled_problem(inputs: Mapping[str, Tensor], half: float) -> tuple[Domain, Dirichlet]:
    """Return the B problems that an operator on grids is given, for walks.

    Args:
        inputs: `sdf`, `boundary` (g at the closest boundary point), `source`, and `screening` and
            `diffusion` where the equation has them, each `(B, n, ..., n)`.
        half: Half the side of the grid's box.

    Raises:
        InvalidArgument: If a domain is empty or reaches the edge of the grid.
    """
    dim, nodes = inputs["sdf"].ndim - 1, inputs["sdf"].shape[1]
    spacing, step = 2 * half / (nodes - 1), FINER[dim]

    def fine(field: Tensor, axis: int | None = None, derivative: int = 0) -> Tensor:
        found = field.double()
        for a in range(dim):
            order = derivative if a == axis else 0
            matrix = lagrange(nodes, step, 6 if derivative else 4, order).to(found)
            found = torch.movedim(found.movedim(a + 1, -1) @ matrix.T, -1, a + 1)
        return found / spacing**derivative

    sdf = fine(inputs["sdf"]).cpu()
    domain = SDFGrid(sdf, [-half] * dim, [half] * dim).to(inputs["sdf"].device)
    source, edge = (Sampled(fine(inputs[k]).float(), half) for k in ("source", "boundary"))
    sigma, alpha = inputs.get("screening"), inputs.get("diffusion")
    if alpha is None:
        if sigma is not None:
            low, high = sigma.flatten(1).amin(1), sigma.flatten(1).amax(1)
            alike = bool((high - low <= ALIKE * high.abs()).all())
            sigma = sigma.flatten(1).mean(1) if alike else Sampled(fine(sigma).float(), half)
        return domain, Dirichlet(edge, source, sigma)
    if not bool((alpha > 0).all()):
        raise InvalidArgument(f"diffusion with minimum {float(alpha.min()):g}", "positive numbers")
    log = alpha.double().log()
    slopes = [fine(log, axis, 1) for axis in range(dim)]
    left = torch.zeros_like(slopes[0]) if sigma is None else fine(sigma / alpha)
    for axis, slope in enumerate(slopes):
        left = left + fine(log, axis, 2) / 2 + slope.square() / 4
    smooth = SampledDiffusion(fine(log).exp().float(), [s.float() for s in slopes], half)
    return domain, Dirichlet(edge, source, diffusion=smooth, reduced=Sampled(left.float(), half))


def lagrange(nodes: int, step: int, count: int, derivative: int = 0) -> Tensor:
    """Return the matrix `((nodes - 1) step + 1, nodes)` that interpolates, or differentiates.

    Polynomials through the `count` nodes around each fine point, of the nodes' unit of length.
    """
    at = np.arange((nodes - 1) * step + 1) / step
    first = np.clip(np.floor(at).astype(int) - (count // 2 - 1), 0, nodes - count)
    powers = np.arange(count)
    base = np.arange(count, dtype=float)[:, None] ** powers  # (node, power)
    factor = np.array([np.prod(k - np.arange(derivative)) for k in powers], dtype=float)
    local = (at - first)[:, None] ** np.clip(powers - derivative, 0, None) * factor
    weights = np.linalg.solve(base.T, local.T).T
    matrix = np.zeros((len(at), nodes))
    np.put_along_axis(matrix, first[:, None] + powers, weights, 1)
    return torch.from_numpy(matrix)
