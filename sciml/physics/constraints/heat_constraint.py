"""The heat equation as a constraint: u_t = kappa u_xx, periodic or with zero ends, linear."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sciml.physics.constraints.interval_constraint import IntervalEquation


class HeatConstraint(IntervalEquation):
    """u_t = kappa u_xx; options as in `EvolutionEquation`.

    Args:
        problem: A `sciml.physics.evolution.Heat`; knows `diffusivity`.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import HardConstraint, HeatConstraint
        >>> from sciml.physics.evolution import Heat
        >>> problem = Heat(points=32, time_count=6)
        >>> layer = HardConstraint(HeatConstraint(problem))
        >>> inputs = problem.sample(1, torch.Generator().manual_seed(0))
        >>> basis = torch.randn(1, 4, 6, 32, generator=torch.Generator().manual_seed(1))
        >>> layer(basis, inputs).status.tolist()
        [[0]]
    """

    linear = True

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D u and (V u)_xx."""
        slope, value = self.in_time(field)
        return [slope, *self.derivatives(value, (2,))]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return u_t - kappa u_xx, per horizon."""
        return values[0] - self.horizon * self.problem.diffusivity * values[1]
