"""Viscous Burgers equation on the unit interval.

    du/dt + u du/dx = viscosity d2u/dx2,    periodic, or u = 0 at both ends

Pseudo-spectral with the 2/3 rule (zero ends by odd continuation), diffusion exact in time, the rest
by the Runge-Kutta method of order 4. The exact solution needs no time steps: by the transform of
Cole and Hopf it is a weighted mean of the initial state u_0 over the line,

    u(x, t) = int u_0(y) W dy / int W dy,   W = exp(-(x - y)^2 / (4 nu t) - U(y) / (2 nu))

with U' = u_0. All weights are positive and only their ratios count, so that small viscosities do
no harm.

Source: Cole 1951, Quart. Appl. Math. 9; Hopf 1950, Comm. Pure Appl. Math. 3.
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
    no_solution,
    stored_times,
)
from sciml.physics.evolution.profiles import periodic_kernel_fields, sine_profiles
from sciml.physics.evolution.spectral_steps import (
    check_kept,
    integrating_factor_rk4,
    spectral_solution,
)
from sciml.physics.evolution.unit_interval import (
    BOUNDARIES,
    BoundaryKind,
    interval_grid,
    whole_period,
)
from sciml.solvers import Solution
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed

REACH = 9.0  # standard deviations of the heat kernel beyond which weights are below 1e-17


class Burgers:
    """Random initial states of mean zero (periodic) or that vanish at both ends (dirichlet).

    Args:
        points: Intervals of the grid; coordinates are j / points, with 1 among them (and `points`
            + 1 of them) under `dirichlet` only.
        boundary: `periodic` or `dirichlet` (zero).
        time_count: Stored times, 0 and the horizon among them.
        horizon: Last time.
        viscosity: Factor of the second derivative.
        length_scale: Correlation length of periodic initial states.
        std: Standard deviation of initial states.
        step: Longest time step.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import Burgers
        >>> problem = Burgers(points=64, time_count=5)
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> tuple(problem.solve(inputs).value.shape)
        (2, 5, 64)

    Raises:
        InvalidArgument: For numbers that cannot be.
    """

    channels = ("initial",)

    def __init__(
        self,
        points: int = 256,
        *,
        boundary: BoundaryKind = "periodic",
        time_count: int = 101,
        horizon: float = 1.0,
        viscosity: float = 0.01,
        length_scale: float = 0.8,
        std: float = 0.5,
        step: float = 2e-3,
    ) -> None:
        self.points = check_cells("points", points)
        self.boundary = check_choice("problem.boundary", boundary, BOUNDARIES)
        self.horizon = check_positive("problem.horizon", horizon)
        self.time_count = time_count
        self.times = stored_times(self.horizon, time_count)
        self.grids = (interval_grid(points, boundary),)
        self.periods = (1.0 if boundary == "periodic" else None,)
        self.viscosity = check_positive("problem.viscosity", viscosity)
        self.length_scale = check_positive("problem.length_scale", length_scale)
        self.std = check_positive("problem.std", std)
        self.step = check_positive("problem.step", step)

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
            inputs: As `sample` returns them; periodic ones may have a mean.
            on_failure: What to do with samples whose steps were too long (see
                `sciml.physics.evolution.spectral_steps`) or that met NaN.

        Returns:
            `residual` is the largest step times wave number times speed, stable below 2.83.
            `stats`: the same as `courant`, and `tail` `(count,)`: the largest share of the norm in
            the upper half of the wave numbers kept, over the stored times. Where it is not small,
            the grid is too coarse for the shocks.

        Raises:
            ConvergenceError: Under `raise`, if a sample failed.
            InvalidArgument: For another shape, states that do not vanish at the ends, or that are
                too rough for the grid.
        """
        inputs = check_inputs(self, inputs)[:, 0]
        if not len(inputs):
            return no_solution(self)
        with torch.no_grad():
            period, length = whole_period(inputs, self.boundary)
            n = period.shape[-1]
            k = 2 * math.pi / length * torch.arange(n // 2 + 1, device=inputs.device).double()
            top = 2 * math.pi / length * n / 3
            kept = k < top * (1 - 1e-9)
            spectrum = torch.fft.rfft(period)
            check_kept(spectrum, kept, f"problem.points={2 * self.points}")
            slope = -0.5j * k * kept
            spectra, h = integrating_factor_rk4(
                lambda v: slope * torch.fft.rfft(torch.fft.irfft(v, n=n).square()),
                self.viscosity * k**2,
                spectrum * kept,
                self.times,
                self.step,
            )
            value = torch.fft.irfft(spectra, n=n)[..., : inputs.shape[-1]]
            if self.boundary == "dirichlet":
                value[..., [0, -1]] = 0  # round-off of an odd function
            courant = h * top * value.abs().amax((1, 2))
            steps = round(self.horizon / h)
            found = spectral_solution(value, courant, steps, on_failure, "the Burgers equation")
            size = spectra.abs().square()
            found.stats["tail"] = (size[..., k > top / 2].sum(-1) / size.sum(-1)).sqrt().amax(1)
        return found

    @typed
    def exact(self, inputs: Tensor, refine: int = 8) -> Tensor:
        """Return the exact solution `(count, nt, points)` for initial states the grid carries.

        The integrals are sums over `refine` times the grid's points, which converge faster than any
        power of their distance once it is below the width sqrt(2 nu t) of the weights; the first
        stored time after 0 has the narrowest.

        Args:
            inputs: As `sample` returns them.
            refine: Points of the sums per interval of the grid.
        """
        inputs = check_inputs(self, inputs)[:, 0]
        period, length = whole_period(inputs, self.boundary)
        n = period.shape[-1]
        fine = n * refine
        spectrum = torch.fft.rfft(period)
        mean = spectrum[:, :1].real / n
        k = 2 * math.pi / length * torch.arange(n // 2 + 1, device=inputs.device).double()
        integral = torch.where(k > 0, spectrum / (1j * k.clamp(min=1)), 0.0)
        start = torch.fft.irfft(spectrum, n=fine) * refine
        rest = torch.fft.irfft(integral, n=fine) * refine
        x = self.grids[0].to(inputs.device)
        found = [inputs]
        for t in self.times.tolist()[1:]:
            width = math.sqrt(2 * self.viscosity * t)
            # a point comes from at most |u_0| t away, give or take the kernel
            reach = float(period.abs().max()) * t + REACH * width
            first = math.floor(-reach / length * fine)
            last = math.ceil((1 + reach) / length * fine)
            place = torch.arange(first, last + 1, device=inputs.device)
            y = place * (length / fine)
            potential = mean * y + rest[:, place % fine]
            near = -((x[:, None] - y) ** 2) / (2 * width**2)
            weights = torch.softmax(near - potential[:, None] / (2 * self.viscosity), -1)
            found.append((weights * start[:, None, place % fine]).sum(-1))
        return torch.stack(found, 1)
