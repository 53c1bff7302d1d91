"""The heat equation on the unit interval, solved exactly by Fourier series.

    du/dt = diffusivity d2u/dx2,    periodic, or u = 0 at both ends

Initial states are trigonometric polynomials that the grid carries, so the solution at the grid
points has no discretisation error at all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.arguments import count, generator, takes
from sciml.physics.checks import check_choice, check_positive
from sciml.physics.evolution.evolution_problem import (
    check_cells,
    check_inputs,
    exact_solution,
    no_solution,
    stored_times,
)
from sciml.physics.evolution.profiles import periodic_kernel_fields, sine_profiles
from sciml.physics.evolution.unit_interval import (
    BOUNDARIES,
    BoundaryKind,
    interval_grid,
    whole_period,
)
from sciml.solvers import Solution
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


class Heat:
    """Random initial states of mean zero (periodic) or that vanish at both ends (dirichlet).

    Args:
        points: Intervals of the grid; coordinates are j / points, with 1 among them (and `points`
            + 1 of them) under `dirichlet` only.
        boundary: `periodic` or `dirichlet` (zero).
        time_count: Stored times, 0 and the horizon among them.
        horizon: Last time.
        diffusivity: Factor of the second derivative.
        length_scale: Correlation length of periodic initial states.
        std: Standard deviation of initial states.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import Heat
        >>> problem = Heat(points=32, time_count=5)
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> tuple(problem.solve(inputs).value.shape)
        (2, 5, 32)

    Raises:
        InvalidArgument: For numbers that cannot be.
    """

    channels = ("initial",)

    def __init__(
        self,
        points: int = 64,
        *,
        boundary: BoundaryKind = "periodic",
        time_count: int = 33,
        horizon: float = 1.0,
        diffusivity: float = 0.01,
        length_scale: float = 0.8,
        std: float = 1.0,
    ) -> None:
        self.points = check_cells("points", points)
        self.boundary = check_choice("problem.boundary", boundary, BOUNDARIES)
        self.horizon = check_positive("problem.horizon", horizon)
        self.time_count = time_count
        self.times = stored_times(self.horizon, time_count)
        self.grids = (interval_grid(points, boundary),)
        self.periods = (1.0 if boundary == "periodic" else None,)
        self.diffusivity = check_positive("problem.diffusivity", diffusivity)
        self.length_scale = check_positive("problem.length_scale", length_scale)
        self.std = check_positive("problem.std", std)

    @typed
    @takes(count=count, generator=generator)
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return initial states `(count, 1, points)`, `points` + 1 under `dirichlet`."""
        if self.boundary == "dirichlet":
            return self.std * sine_profiles(count, self.points, generator)[:, None]
        return periodic_kernel_fields(
            count, self.points, generator, dimension=1, length_scale=self.length_scale, std=self.std
        )[:, None]

    @typed
    def solve(self, inputs: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return u `(count, nt, points)`, `points` + 1 under `dirichlet`.

        Args:
            inputs: As `sample` returns them.
            on_failure: What to do with inputs that are not finite.

        Raises:
            ConvergenceError: Under `raise`, for inputs that are not finite.
            InvalidArgument: For another shape, or states that do not vanish at the ends.
        """
        inputs = check_inputs(self, inputs)
        if not len(inputs):
            return no_solution(self)
        period, length = whole_period(inputs[:, 0], self.boundary)
        wave = torch.arange(period.shape[-1] // 2 + 1, device=inputs.device).double()
        k = 2 * math.pi / length * wave
        decay = torch.exp(-self.diffusivity * k**2 * self.times.to(inputs.device)[:, None])
        spectrum = torch.fft.rfft(period)[:, None] * decay
        value = torch.fft.irfft(spectrum, n=period.shape[-1])[..., : inputs.shape[-1]]
        return exact_solution(value, on_failure, "the heat equation")
