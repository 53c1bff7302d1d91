"""Burgers' equation as a constraint: u_t + u u_x = nu u_xx, periodic or with zero ends."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sciml.physics.constraints.interval_constraint import IntervalEquation


class BurgersConstraint(IntervalEquation):
    """u_t + u u_x = nu u_xx; options as in `EvolutionEquation`.

    Args:
        problem: A `sciml.physics.evolution.Burgers`; knows `viscosity`.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import BurgersConstraint, HardConstraint
        >>> from sciml.physics.evolution import Burgers
        >>> problem = Burgers(points=32, time_count=6)
        >>> layer = HardConstraint(BurgersConstraint(problem))
        >>> inputs = problem.sample(1, torch.Generator().manual_seed(0))
        >>> basis = torch.randn(1, 4, 6, 32, generator=torch.Generator().manual_seed(1))
        >>> tuple(layer(basis, inputs).value.shape)
        (1, 6, 32)
    """

    picard = True

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D u and, of V u: u, u_x, u_xx."""
        slope, value = self.in_time(field)
        return [slope, value, *self.derivatives(value, (1, 2))]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return u_t + u u_x - nu u_xx, per horizon."""
        slope, u, u_x, u_xx = values
        return slope + self.horizon * (u * u_x - self.problem.viscosity * u_xx)

    def frozen(
        self, values: Sequence[Tensor], at: Sequence[Tensor], aux: Sequence[Tensor]
    ) -> Tensor:
        """Return the formula with the last velocity."""
        slope, _, u_x, u_xx = values
        return slope + self.horizon * (at[1] * u_x - self.problem.viscosity * u_xx)
