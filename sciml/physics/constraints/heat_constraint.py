"""The heat equation as a constraint: u_t = kappa u_xx, periodic or with zero ends, linear."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sciml.physics.constraints.interval_constraint import IntervalEquation


class HeatConstraint(IntervalEquation):
    """u_t = kappa u_xx; options as in `EvolutionEquation`.

    Args:
        problem: A `sciml.physics.evolution.Heat`; knows `diffusivity`.
    """

    linear = True

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D u and (V u)_xx."""
        slope, value = self.in_time(field)
        return [slope, *self.derivatives(value, (2,))]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return u_t - kappa u_xx, per horizon."""
        return values[0] - self.horizon * self.problem.diffusivity * values[1]
