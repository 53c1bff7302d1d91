"""Equations on an interval: derivatives in space by Fourier series, ends periodic or zero.

With zero ends a field is continued oddly, and the functions that the weights multiply carry a
factor that vanishes at both ends: the boundary condition is exact and needs no rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.constraints.evolution_constraint import EvolutionEquation
from sciml.physics.constraints.grid_derivatives import spectral
from sciml.typed_arguments import typed


@typed
class IntervalEquation(EvolutionEquation):
    """An equation in one direction of space; arguments as in `EvolutionEquation`.

    Where the problem is not periodic its grid holds both ends.

    Example:
        >>> from sciml.physics.constraints import BurgersConstraint, IntervalEquation
        >>> from sciml.physics.evolution import Burgers
        >>> equation = BurgersConstraint(Burgers(points=32, time_count=6))
        >>> isinstance(equation, IntervalEquation), equation.length
        (True, 1.0)
    """

    @property
    def length(self) -> float:
        """Length of the interval, the period of periodic problems."""
        grid, period = self.problem.grids[0], self.problem.periods[0]
        return float(grid[-1] - grid[0]) if period is None else float(period)

    def columns(self, basis: Tensor, inputs: Tensor) -> Tensor:
        """Return the basis, times 4 s (1 - s) for s from 0 to 1 between zero ends."""
        if not self.periodic[1]:
            n = basis.shape[-1]
            s = torch.linspace(0, 1, n, dtype=basis.dtype, device=basis.device)
            basis = basis * (4 * s * (1 - s))
        return super().columns(basis, inputs)

    def derivatives(self, field: Tensor, orders: tuple[int, ...]) -> list[Tensor]:
        """Return derivatives in space, one per order."""
        if self.periodic[1]:
            return spectral(field, self.length, orders)
        n = field.shape[-1]
        odd = torch.cat([field[..., :-1], -field.flip(-1)[..., :-1]], -1)
        return [d[..., :n] for d in spectral(odd, 2 * self.length, orders)]
