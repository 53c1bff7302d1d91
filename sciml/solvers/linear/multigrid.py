"""Geometric multigrid for stencil matrices on any domain, batched, as an SPD preconditioner.

Grids and transfers are those of `coarsening`; the cycle, and why it is symmetric positive definite,
are in `v_cycle`.

The smoother is a Chebyshev polynomial of G D^-1 A, D the diagonal, 0 < G <= 1 a factor per cell
(1 here, learned in `sciml.networks`). Its eigenvalues lie in (0, 2], as off-diagonals add up to D
at most; the polynomial is below 1 there, so a smoothing step reduces the A-norm of every error.

Sources: Trottenberg, Oosterlee & Schueller, Multigrid, 2001; McAdams, Sifakis & Teran 2010 (SCA;
multigrid-PCG on voxel domains, with another interpolation and smoother); Adams, Brezina, Hu &
Tuminaro 2003, JCP 188 (polynomial smoothers).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.bookkeeping import check_counts
from sciml.solvers.linear.stencil import Stencil
from sciml.solvers.linear.stencil_preconditioner import StencilPreconditioner
from sciml.solvers.linear.v_cycle import Level, cycles_of_slice, group_cycles, v_cycles
from sciml.typed_arguments import typed


@typed
class Multigrid(StencilPreconditioner):
    """A preconditioner of conjugate gradients: one V-cycle of geometric multigrid.

    Args:
        stencil: The matrices.
        degree: Smoothing steps before and after the correction.
        ratio: The smoother is made for eigenvalues of D^-1 A from 2 / ratio to 2.
        dtype: In which it computes, that of the stencil by default; float32 is twice as fast.

    Raises:
        InvalidArgument: If `degree` is below 1 or `ratio` not above 1.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import Multigrid, Stencil
        >>> faces = torch.ones(1, 31, 32), torch.ones(1, 32, 31)
        >>> s = Stencil(faces, torch.ones(1, 32, 32) * 0.01, torch.ones(1, 32, 32) > 0)
        >>> Multigrid(s).grids
        [[(32, 32), (16, 16), (8, 8)]]
    """

    def __init__(
        self,
        stencil: Stencil,
        *,
        degree: int = 2,
        ratio: float = 4.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(stencil, dtype)
        check_counts(degree=degree)
        if degree < 1 or not ratio > 1:
            raise InvalidArgument(
                f"degree={degree}, ratio={ratio}", "one smoothing step or more, and a ratio above 1"
            )
        steps = chebyshev_steps(degree, 2 / ratio, 2.0)
        with torch.no_grad():
            self.cycles = group_cycles(
                self.stencil.to(self.dtype),
                lambda stencils, transfers: [
                    Level(s, s.unknown / s.diagonal, steps, t)
                    for s, t in zip(stencils, transfers, strict=True)
                ],
            )

    @property
    def grids(self) -> list[list[tuple[int, ...]]]:
        """Return the cells per axis of every level, for every group that is coarsened alike."""
        return [[tuple(level.stencil.grid) for level in c.levels] for c in self.cycles]

    def _keep(self, places: slice) -> None:
        self.cycles = cycles_of_slice(self.cycles, places, self.stencil.problems[0])

    def product(self, r: Tensor) -> Tensor:
        """Return one V-cycle from zero."""
        return v_cycles(self.cycles, self.stencil, r)


def chebyshev_steps(degree: int, least: float, most: float) -> list[float]:
    """Return the steps whose polynomial is smallest on an interval of eigenvalues."""
    centre, half = (most + least) / 2, (most - least) / 2
    roots = (math.cos(math.pi * (2 * k + 1) / (2 * degree)) for k in range(degree))
    return [1 / (centre + half * root) for root in roots]
