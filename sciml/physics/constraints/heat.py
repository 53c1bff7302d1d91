"""The heat equation as a constraint: u_t = kappa u_xx, periodic or with zero ends, linear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from sciml.physics.checks import check_positive
from sciml.physics.constraints.differences import TimeScheme
from sciml.physics.constraints.interval import IntervalEquation


class HeatConstraint(IntervalEquation):
    """u_t = kappa u_xx; see the base class.

    Args:
        problem: A `sciml.physics.evolution.Heat`; knows `diffusivity`.
        initial: As in the base class, as all that follow.
        time_scheme: Scheme in time.
        t_min: Time up to which the equation is not imposed.
        ramp: Exponent of the factor t / horizon of the rows.
        condition_weight: Weight of the initial condition against the equation.
    """

    linear = True

    def __init__(
        self,
        problem: Any,
        *,
        initial: Literal["rows", "lift"] = "rows",
        time_scheme: TimeScheme = "midpoint",
        t_min: float = 0.0,
        ramp: float = 0.0,
        condition_weight: float = 1.0,
    ) -> None:
        super().__init__(
            problem,
            initial=initial,
            time_scheme=time_scheme,
            t_min=t_min,
            ramp=ramp,
            condition_weight=condition_weight,
        )
        self.diffusivity = check_positive("problem.diffusivity", float(problem.diffusivity))

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D u and (V u)_xx."""
        slope, value = self.in_time(field)
        return [slope, *self.derivatives(value, (2,))]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return u_t - kappa u_xx, per horizon."""
        return values[0] - self.horizon * self.diffusivity * values[1]
