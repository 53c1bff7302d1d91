"""Diffusion and sorption in a porous column as a constraint.

    u_t = (D u_x)_x / R(u)

with the finite volumes and the ghost values of `sciml.physics.evolution.DiffusionSorption`, so the
rows vanish for its solution up to the scheme in time. The walls enter through the ghost values of
the first and last cell; every expert imposes the equation there, wherever its block is, and the
initial condition: without them a block inside the column knows no data at all.

R is constant for u <= 0 but for the shift that keeps it finite, which makes plateaus of the
objective; Picard's iteration, with R frozen at the last values between 0 and 1, starts the solver
beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sciml.physics.constraints.equation import over_grid
from sciml.physics.constraints.evolution import EvolutionEquation


class DiffusionSorptionConstraint(EvolutionEquation):
    """u_t = (D u_x)_x / R(u) with walls by ghost values; further arguments as in the base class.

    Features are the slope in time (per horizon), the divergence (D u_x)_x and u itself.

    Args:
        problem: A `DiffusionSorption`, also the heterogeneous one.
    """

    picard = True

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D u, (D (V u)_x)_x per horizon, and V u."""
        slope, value = self.in_time(field)
        between = [1] * (value.dim() - 2)
        lower, main, upper, source = (
            (self.horizon * part).view(-1, *between, part.shape[-1])
            for part in self.problem.stencil(inputs)
        )
        wide = F.pad(value, (1, 1))  # the walls are in the coefficients
        flux = lower * wide[..., :-2] + main * value + upper * wide[..., 2:]
        return [slope, flux + source if data else flux, value]

    def aux(self, inputs: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return the porosity."""
        _, porosity = self.problem.coefficients(inputs)
        return [over_grid(porosity.expand(len(inputs), -1)[:, None], sizes)[:, 0]]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return u_t - (D u_x)_x / R(u)."""
        slope, flux, u = values
        return slope - flux / self.problem.retardation(u, aux[0])

    def frozen(
        self, values: Sequence[Tensor], at: Sequence[Tensor], aux: Sequence[Tensor]
    ) -> Tensor:
        """Return the formula with R at the last u, between 0 and 1."""
        return values[0] - values[1] / self.problem.retardation(at[2].clamp(0, 1), aux[0])

    def shared(self, sizes: Sequence[int]) -> Tensor:
        """Return the cells at both walls."""
        out = torch.zeros(*sizes, dtype=torch.bool)
        out[:, 0] = out[:, -1] = True
        return out
