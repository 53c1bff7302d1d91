"""Base of constraints in space and time: the grid, the scheme in time, the initial state.

The equation is imposed as D u = F(V u) with a scheme of `differences`, in units of the field over
the time from 0 to the horizon. How well that can be done is decided by

    time_scheme       how the slope in time is told from stored levels
    t_min             time up to which nothing is imposed: differences between stored levels cannot
                      tell the first moments of a jump between initial and boundary data
    ramp              rows are multiplied by (t / horizon)^ramp: the error of differences in time
                      falls like a power of dt / t
    condition_weight  of the conditions against the equation
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.arguments import made, takes
from sciml.errors import InvalidArgument
from sciml.physics.checks import check_choice, check_number
from sciml.physics.constraints.equation import ConstrainedEquation, over_grid, per_field
from sciml.physics.constraints.grid_derivatives import (
    LEVELS,
    SCHEMES,
    TimeScheme,
    first_level,
    grading_of,
    in_time,
)
from sciml.typed_arguments import typed


@typed
class EvolutionEquation(ConstrainedEquation):
    """An equation u_t = F(u) with the grid of a problem of `sciml.physics.evolution`.

    The initial state u_0, the first channel of the inputs, is imposed in one of two ways:

        rows    (u(0) - u_0) / rms(u_0), one row per point of space, shared by all experts
        lift    u = u_0 + s b . w with s = (t / horizon)^(1 / grading), so that u(0) = u_0 exactly,
                and without rows

    Args:
        problem: Knows `times`, `grids`, `periods` and `channels`.
        initial: See above.
        time_scheme: See `differences`.
        t_min: Time up to which the equation is not imposed.
        ramp: See the top of this file.
        condition_weight: Weight of initial and boundary conditions against the equation.

    Raises:
        InvalidArgument: For an unknown scheme, times that are neither equally spaced nor graded, a
            scheme of three levels on graded ones, or a `t_min` that leaves no row.

    Example:
        >>> from sciml.physics.constraints import EvolutionEquation, HeatConstraint
        >>> from sciml.physics.evolution import Heat
        >>> equation = HeatConstraint(Heat(points=32, time_count=6), initial="lift")
        >>> isinstance(equation, EvolutionEquation), equation.axes, equation.sizes
        (True, ('t', 'x'), (6, 32))
    """

    @takes(problem=made("times", "grids", "periods", what="a problem of sciml.physics.evolution"))
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
        check_choice("constraint.time_scheme", time_scheme, SCHEMES)
        self.problem, self.scheme, self.initial = problem, time_scheme, initial
        check_choice("constraint.initial", initial, ("rows", "lift"))
        self.t_min = check_number("constraint.t_min", t_min, 0.0)
        self.ramp = check_number("constraint.ramp", ramp, 0.0)
        self.condition_weight = check_number("constraint.condition_weight", condition_weight, 0.0)
        self.grading = grading_of(problem.times)
        if abs(self.grading - 1) > 1e-6 and LEVELS[time_scheme] > 2:
            raise InvalidArgument(
                f"constraint.time_scheme={time_scheme} on times graded by the power "
                f"{self.grading:.3g}",
                "a scheme of two levels, midpoint or backward",
            )
        self.horizon = float(problem.times[-1])
        self.axes = ("t", *"xyz"[: len(problem.grids)])
        self.sizes = (len(problem.times), *(len(g) for g in problem.grids))
        self.periodic = (False, *(p is not None for p in problem.periods))
        self.in_channels = len(problem.channels)
        if self.first_row >= self.sizes[0]:
            raise InvalidArgument(
                f"constraint.t_min={t_min}", f"less than the horizon, {self.horizon:.4g}"
            )

    @property
    def first_row(self) -> int:
        """First time level at which the equation is imposed."""
        # rows of two levels stand at the later one
        early = self.level_times(self.sizes[0]) <= self.t_min * (1 + 1e-9)
        late = int(early.sum()) if self.t_min > 0 else 0
        return max(first_level(self.scheme), late)

    def level_times(self, count: int) -> Tensor:
        """Return the times of `count` levels, float64; those beyond the horizon go on alike."""
        level = torch.arange(count, dtype=torch.float64) / (self.sizes[0] - 1)
        return self.horizon * level**self.grading

    # --- the unknown ----------------------------------------------------------------------------
    def columns(self, basis: Tensor, inputs: Tensor) -> Tensor:
        """Return the basis, times s under a lift."""
        return basis if self.initial == "rows" else basis * self.clock(basis)

    def offset(self, basis: Tensor, inputs: Tensor) -> Tensor:
        """Return zero, or the initial state at all times under a lift."""
        sizes = basis.shape[2:]
        if self.initial == "rows":
            return basis.new_zeros(len(basis), *sizes)
        return over_grid(inputs[:, :1], sizes)[:, 0]

    def clock(self, field: Tensor) -> Tensor:
        """Return (t / horizon)^(1 / grading), the level's share, along a field's axis of time."""
        n = field.shape[-len(self.axes)]
        share = torch.arange(n, dtype=field.dtype, device=field.device) / (self.sizes[0] - 1)
        return share.reshape(-1, *[1] * (len(self.axes) - 1))

    # --- the equation ---------------------------------------------------------------------------
    def in_time(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """Return D u, per horizon, and V u."""
        axis = -len(self.axes)
        step: float | Tensor = 1 / (self.sizes[0] - 1)
        if LEVELS[self.scheme] == 2:
            step = (self.clock(field) ** self.grading).diff(dim=0)
        return in_time(field, step, self.scheme, axis)

    def weight(self, sizes: Sequence[int]) -> Tensor:
        """Return the square of the ramp, and zero up to `t_min`."""
        level = self.level_times(sizes[0]) / self.horizon
        share = level.clamp(max=1).pow(2 * self.ramp).reshape(-1, *[1] * (len(sizes) - 1))
        out = share.expand(*sizes).clone()
        out[: self.first_row] = 0
        return out

    # --- the conditions -------------------------------------------------------------------------
    def initial_rows(self, field: Tensor, inputs: Tensor, *, data: bool) -> Tensor:
        """Return u(0) - u_0 as rows `(B, ..., k)` of unit size on average."""
        state = inputs[:, 0]
        count = state.shape[1:].numel()
        size = state.flatten(1).square().mean(1).clamp_min(1e-12).sqrt()
        start = field.select(-len(self.axes), 0)
        gap = start - state if data else start
        gap = gap / per_field(size.reshape(-1, *[1] * (state.dim() - 1)), gap)
        return gap.flatten(1 - len(self.axes)) * (self.condition_weight / count) ** 0.5

    def conditions(self, field: Tensor, inputs: Tensor, *, data: bool) -> Tensor:
        """Return the initial condition; no rows under a lift."""
        if self.initial == "lift":
            return super().conditions(field, inputs, data=data)
        return self.initial_rows(field, inputs, data=data)
