"""Two-dimensional incompressible flow on the periodic unit square, in vorticity form.

    dw/dt + u . grad w = nu Lap w + g,    u = (d_y psi, -d_x psi),    -Lap psi = w,    mean w = 0

Pseudo-spectral with the 2/3 rule, diffusion exact in time, the rest by the Runge-Kutta method of
order 4. Energy and enstrophy of the discrete flow obey the laws of the equation up to the error in
time: without force d/dt <|u|^2> = -2 nu <w^2> and d/dt <w^2> = -2 nu <|grad w|^2>.

The force, if any, is g = forcing (sin 2 pi (x + y) + cos 2 pi (x + y)).

Source: Chalapathi, Du, Krishnapriyan 2024, arXiv 2402.13412 (section 5, initial states and
viscosity); Li et al. 2021, arXiv 2010.08895 (force).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.arguments import count, generator, takes
from sciml.errors import InvalidArgument
from sciml.physics.checks import check_number, check_positive
from sciml.physics.evolution.evolution_problem import check_inputs, no_solution, stored_times
from sciml.physics.evolution.profiles import periodic_kernel_fields
from sciml.physics.evolution.spectral_steps import (
    check_kept,
    integrating_factor_rk4,
    spectral_solution,
)
from sciml.physics.steady.periodic import Advection, Periodic
from sciml.solvers import Solution
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


class VorticityNavierStokes:
    """Flows from random initial vorticities with the periodic kernel's covariance.

    Args:
        points: Points per side, even; coordinates are j / points.
        time_count: Stored times, 0 and the horizon among them.
        horizon: Last time.
        viscosity: nu.
        forcing: Amplitude of the force; 0 for none.
        length_scale: Of the initial vorticity's kernel, in sides.
        std: Standard deviation of the initial vorticity.
        step: Longest time step.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import VorticityNavierStokes
        >>> problem = VorticityNavierStokes(points=32, time_count=3, horizon=0.5)
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> tuple(problem.solve(inputs).value.shape)
        (2, 3, 32, 32)

    Raises:
        InvalidArgument: For numbers that cannot be.
    """

    channels = ("vorticity",)
    periods = (1.0, 1.0)

    def __init__(
        self,
        points: int = 64,
        *,
        time_count: int = 64,
        horizon: float = 5.0,
        viscosity: float = 1e-4,
        forcing: float = 0.0,
        length_scale: float = 0.8,
        std: float = 1.0,
        step: float = 0.02,
    ) -> None:
        self.points, self.square = points, Periodic(points)
        self.horizon = check_positive("problem.horizon", horizon)
        self.time_count = time_count
        self.times = stored_times(self.horizon, time_count)
        line = torch.arange(points, dtype=torch.float64) / points
        self.grids = (line, line.clone())
        self.viscosity = check_number("problem.viscosity", viscosity, 0.0)
        self.forcing = check_number("problem.forcing", forcing)
        self.length_scale = check_positive("problem.length_scale", length_scale)
        self.std = check_positive("problem.std", std)
        self.step = check_positive("problem.step", step)

    @typed
    @takes(count=count, generator=generator)
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return initial vorticities `(count, 1, points, points)` of mean zero."""
        return periodic_kernel_fields(
            count, self.points, generator, length_scale=self.length_scale, std=self.std
        )[:, None]

    def force(self, like: Tensor) -> Tensor:
        """Return g `(points, points)`."""
        x, y = self.square.points(like)
        angle = 2 * math.pi * (x + y)
        return self.forcing * (torch.sin(angle) + torch.cos(angle))

    def velocity(self, w: Tensor) -> Tensor:
        """Return u and v `(..., 2, points, points)` of vorticities `(..., points, points)`."""
        return Advection(self.square, w).velocities(torch.fft.rfft2(w)).movedim(0, -3)

    @typed
    def solve(self, inputs: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return w `(count, nt, points, points)` at the stored times.

        Args:
            inputs: As `sample` returns them.
            on_failure: What to do with samples whose steps were too long (see
                `sciml.physics.evolution.spectral_steps`) or that met NaN.

        Returns:
            `residual` is the largest step times wave number times speed, stable below 2.83;
            `stats`: the same as `courant`, and `tail` `(count,)`: the share of the norm of the last
            state in the upper half of the wave numbers kept. Where it is not small, the grid is
            too coarse for the flow.

        Raises:
            ConvergenceError: Under `raise`, if a sample failed.
            InvalidArgument: For another shape, inputs whose mean is not zero, or that are too rough
                for the grid.
        """
        inputs = check_inputs(self, inputs)[:, 0]
        if not len(inputs):
            return no_solution(self)
        mean, size = inputs.mean((1, 2)).abs(), inputs.square().mean((1, 2)).sqrt()
        if bool((mean > 1e-8 * size).any()):
            raise InvalidArgument(
                f"a vorticity of mean {float(mean.max()):.3g}",
                "mean zero, as the curl of a periodic velocity has",
                "Type inputs - inputs.mean((-2, -1), keepdim=True)",
            )
        with torch.no_grad():
            advection = Advection(self.square, inputs)
            spectrum = torch.fft.rfft2(inputs)
            check_kept(spectrum, advection.kept, f"problem.points={2 * self.points}")
            force = torch.fft.rfft2(self.force(inputs))
            spectra, h = integrating_factor_rk4(
                (lambda v: force - advection(v)) if self.forcing else (lambda v: -advection(v)),
                self.viscosity * self.square.squares(inputs),
                spectrum * advection.kept,
                self.times,
                self.step,
            )
            value = torch.fft.irfft2(spectra, s=inputs.shape[-2:])
            speed = advection.velocities(spectra).abs().amax((-2, -1)).sum(0).amax(1)
            courant = h * speed * (2 * math.pi * self.points / 3)
            steps = round(self.horizon / h)
            found = spectral_solution(value, courant, steps, on_failure, "the vorticity equation")
            found.stats["tail"] = self._tail(spectra[:, -1])
        return found

    def _tail(self, spectrum: Tensor) -> Tensor:
        """Return the share `(count,)` of the norm in the upper half of the wave numbers kept."""
        kx, ky = self.square.waves(spectrum.real)
        high = torch.maximum(kx.abs(), ky.abs()) > math.pi * self.points / 3
        return (spectrum * high).flatten(1).norm(dim=1) / spectrum.flatten(1).norm(dim=1)
