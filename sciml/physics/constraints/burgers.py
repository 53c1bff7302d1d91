"""Burgers' equation as a constraint: u_t + u u_x = nu u_xx, periodic or with zero ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from sciml.physics.checks import check_positive
from sciml.physics.constraints.differences import TimeScheme
from sciml.physics.constraints.interval import IntervalEquation


class BurgersConstraint(IntervalEquation):
    """u_t + u u_x = nu u_xx; see the base class.

    Args:
        problem: A `sciml.physics.evolution.Burgers`; knows `viscosity`.
        initial: As in the base class, as all that follow.
        time_scheme: Scheme in time.
        t_min: Time up to which the equation is not imposed.
        ramp: Exponent of the factor t / horizon of the rows.
        condition_weight: Weight of the initial condition against the equation.
    """

    picard = True

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
        self.viscosity = check_positive("problem.viscosity", float(problem.viscosity))

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D u and, of V u: u, u_x, u_xx."""
        slope, value = self.in_time(field)
        return [slope, value, *self.derivatives(value, (1, 2))]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return u_t + u u_x - nu u_xx, per horizon."""
        slope, u, u_x, u_xx = values
        return slope + self.horizon * (u * u_x - self.viscosity * u_xx)

    def frozen(
        self, values: Sequence[Tensor], at: Sequence[Tensor], aux: Sequence[Tensor]
    ) -> Tensor:
        """Return the formula with the last velocity."""
        slope, _, u_x, u_xx = values
        return slope + self.horizon * (at[1] * u_x - self.viscosity * u_xx)
