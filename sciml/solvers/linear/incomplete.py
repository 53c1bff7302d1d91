"""Incomplete Cholesky factors of stencil matrices without fill: IC(0) and modified IC(0).

    M = (E - L) E^-1 (E - L)^T,    L the weights of the faces to lower neighbours

with one unknown diagonal E, found cell by cell in the order of the array,

    e_c = a_cc - sum over lower neighbours n of w_cn (w_cn + tau * other upper faces of n) / e_n

tau = 0 makes the diagonals of M and A equal (IC), tau = 1 their row sums (MIC), which has half the
exponent in the condition number; 0.97 is safe where 1 is not. Where e_c falls below a quarter of
a_cc it is set to a_cc.

A cell depends on its lower neighbours alone, so all cells with one sum of indices (a wavefront) are
found at once: that is how factors are made, for whole batches and on any device. Triangular solves
follow wavefronts as well, or go through SuperLU of SciPy, one problem after the other, which is ten
times as fast on a CPU.

Sources: Meijerink & van der Vorst 1977; Gustafsson 1978; Bridson, Fluid Simulation for Computer
Graphics, 2nd ed. 2015, section 5.1 (tau = 0.97, the quarter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.nn.functional import pad

from sciml.errors import InvalidArgument
from sciml.solvers.linear.stencil import Stencil
from sciml.solvers.linear.stencil_preconditioner import StencilPreconditioner
from sciml.typed_arguments import typed

SAFE = 0.25  # of the diagonal, below which e is not trusted


@dataclass(frozen=True)
class _Order:
    """Cells of a grid sorted by wavefront.

    Attributes:
        cells: `(n,)` places in the array, in the order of wavefronts.
        bounds: First and last place of every wavefront in that order.
        lower: Per axis `(n,)`: where the lower neighbour of each cell stands in that order.
        upper: Per axis, likewise the upper neighbour.
    """

    cells: Tensor
    bounds: list[tuple[int, int]]
    lower: list[Tensor]
    upper: list[Tensor]


def wavefronts(grid: tuple[int, ...], device: torch.device) -> _Order:
    """Return the order; neighbours beyond the grid are the cell itself, with a weight of zero."""
    axes = [torch.arange(n, device=device) for n in grid]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # (d, n)
    total = index.sum(0)
    cells = torch.argsort(total, stable=True)
    place = torch.empty_like(cells)
    place[cells] = torch.arange(len(cells), device=device)
    ends = torch.bincount(total).cumsum(0).tolist()
    bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    strides = np.cumprod([1, *reversed(grid[1:])])[::-1].tolist()
    lower, upper = [], []
    for a, stride in enumerate(strides):
        here = index[a][cells]
        lower.append(place[cells - stride * (here > 0)])
        upper.append(place[cells + stride * (here < grid[a] - 1)])
    return _Order(cells, bounds, lower, upper)


@typed
class IncompleteCholesky(StencilPreconditioner):
    """IC(0) or modified IC(0) of a batch of stencil matrices.

    Args:
        stencil: The matrices.
        modified: tau; 0 is IC(0).
        solves: `scipy` (SuperLU, on a CPU, one problem after the other), `wavefront` (torch,
            batched, any device), or `auto`: the first on a CPU and for more than 64 cells.

    Raises:
        InvalidArgument: For tau outside [0, 1], or SciPy with matrices on another device.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import FlexibleCG, IncompleteCholesky, Stencil
        >>> faces = torch.ones(1, 15, 16), torch.ones(1, 16, 15)
        >>> stencil = Stencil(faces, torch.ones(1, 16, 16) * 0.01, torch.ones(1, 16, 16) > 0)
        >>> solver = FlexibleCG(preconditioner=IncompleteCholesky(stencil))
        >>> b = torch.linspace(-1, 1, 16).expand(1, 16, 16)
        >>> bool(stencil.solve(b, linear=solver, on_failure="raise").iterations < 20)
        True
    """

    def __init__(
        self,
        stencil: Stencil,
        *,
        modified: float = 0.97,
        solves: Literal["auto", "scipy", "wavefront"] = "auto",
    ) -> None:
        super().__init__(stencil)
        if not 0 <= modified <= 1 or solves not in ("auto", "scipy", "wavefront"):
            raise InvalidArgument(
                f"modified={modified}, solves={solves!r}",
                "a number in [0, 1], and auto, scipy or wavefront",
                "Type modified=0.97, solves='auto'",
            )
        cpu = stencil.shift.device.type == "cpu"
        if solves == "auto":
            solves = "scipy" if cpu and stencil.grid.numel() > 64 else "wavefront"
        if solves == "scipy" and not cpu:
            raise InvalidArgument(
                f"solves='scipy' for matrices on {stencil.shift.device}",
                "matrices on the CPU",
                "Type solves='wavefront'",
            )
        self.solves = solves
        with torch.no_grad():
            self._order = wavefronts(tuple(stencil.grid), stencil.shift.device)
            below, above = self._weights()
            pivots = self._pivots(below, above, modified)
            # a matrix that is not positive definite has no factor: M = 1, and CG says what is wrong
            whole = ((pivots > 0) & pivots.isfinite()).all(-1, keepdim=True)
            pivots = torch.where(whole, pivots, 1.0)
            below, above = ([torch.where(whole, w, 0.0) for w in ws] for ws in (below, above))
            if solves == "scipy":
                self._factors = self._scipy_factors(below, pivots)
            else:
                self._below, self._above, self._pivot = below, above, pivots

    # --- the factor -------------------------------------------------------------------------
    def _sorted(self, x: Tensor) -> Tensor:
        """Return `(..., *grid)` as `(..., n)` in the order of wavefronts."""
        return x.flatten(-self.stencil.ndim)[..., self._order.cells]

    def _weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return per axis the weights to lower and to upper neighbours, `(*P, n)`, sorted."""
        d, below, above = self.stencil.ndim, [], []
        for a, w in enumerate(self.stencil.faces):
            width = [0, 0] * (d - 1 - a)
            below.append(self._sorted(pad(w, [*width, 1, 0])))
            above.append(self._sorted(pad(w, [*width, 0, 1])))
        return below, above

    def _pivots(self, below: list[Tensor], above: list[Tensor], tau: float) -> Tensor:
        """Return e, `(*P, n)`, sorted."""
        diagonal = self._sorted(self.stencil.diagonal)
        pivots = diagonal.clone()
        total = sum(above)
        # w (w + tau * other upper faces of the neighbour), gathered at the cell it is taken from
        parts = [
            w * (w + tau * (total - up)[..., at])
            for w, up, at in zip(below, above, self._order.lower, strict=True)
        ]
        for first, last in self._order.bounds[1:]:
            e = diagonal[..., first:last].clone()
            for part, at in zip(parts, self._order.lower, strict=True):
                e -= part[..., first:last] / pivots[..., at[first:last]]
            whole = diagonal[..., first:last]
            pivots[..., first:last] = torch.where(e < SAFE * whole, whole, e)
        return pivots

    def _scipy_factors(self, below: list[Tensor], pivots: Tensor) -> list:
        """Return SuperLU objects of (E - L) E^(-1/2), one per problem, in the array's order."""
        n, order = pivots.shape[-1], self._order
        columns = order.cells[torch.cat([*order.lower, torch.arange(n)])].numpy()
        rows = order.cells.repeat(len(below) + 1).numpy()
        root = pivots.sqrt()
        values = [-w / root[..., at] for w, at in zip(below, order.lower, strict=True)]
        values = torch.cat([*values, root], -1).double().reshape(-1, len(rows)).numpy()
        factors = []
        for one in values:
            kept = one != 0
            entries = one[kept], (rows[kept], columns[kept])
            lower = sparse.coo_array(entries, shape=(n, n)).tocsc()
            # triangular already: nothing is permuted, nothing fills in
            factors.append(
                splu(
                    lower,
                    permc_spec="NATURAL",
                    diag_pivot_thresh=0.0,
                    options={"SymmetricMode": True, "Equil": False},
                )
            )
        return factors

    def _keep(self, places: slice) -> None:
        if self.solves == "scipy":
            self._factors = self._factors[places]
        else:
            self._below = [w[places] for w in self._below]
            self._above = [w[places] for w in self._above]
            self._pivot = self._pivot[places]

    # --- the product ------------------------------------------------------------------------
    def product(self, r: Tensor) -> Tensor:
        """Return M^-1 r by a forward and a backward solve."""
        if self.solves == "scipy":
            out = self._by_scipy(r.flatten(-self.stencil.ndim))
        else:
            v = self._by_wavefront(self._sorted(r))
            out = torch.empty_like(v)
            out[..., self._order.cells] = v
        out = out.reshape(*out.shape[:-1], *self.stencil.grid)
        return torch.where(self.stencil.unknown, out, 0.0)

    def _by_scipy(self, v: Tensor) -> Tensor:
        n = v.shape[-1]
        wide = torch.broadcast_shapes(v.shape[:-1], self.stencil.problems)
        given = v.expand(*wide, n).reshape(-1, len(self._factors), n).double().numpy()
        out = np.empty_like(given)
        for k, factor in enumerate(self._factors):
            half = factor.solve(np.ascontiguousarray(given[:, k].T))
            out[:, k] = factor.solve(half, trans="T").T
        return torch.from_numpy(out).to(v.dtype).reshape(*wide, n)

    def _by_wavefront(self, v: Tensor) -> Tensor:
        order, y = self._order, v.clone()
        y = y.expand(torch.broadcast_shapes(y.shape, self._pivot.shape)).contiguous()
        for first, last in order.bounds:
            part = y[..., first:last]
            for w, at in zip(self._below, order.lower, strict=True):
                part = torch.addcmul(part, w[..., first:last], y[..., at[first:last]])
            y[..., first:last] = part / self._pivot[..., first:last]
        y = y * self._pivot
        for first, last in reversed(order.bounds):
            part = y[..., first:last]
            for w, at in zip(self._above, order.upper, strict=True):
                part = torch.addcmul(part, w[..., first:last], y[..., at[first:last]])
            y[..., first:last] = part / self._pivot[..., first:last]
        return y
