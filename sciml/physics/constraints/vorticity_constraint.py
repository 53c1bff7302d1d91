"""The vorticity of two-dimensional flow as a constraint.

    w_t + u . grad w = nu laplace w + g,    u = (psi_y, -psi_x),    -laplace psi = w

on the periodic square, with derivatives and velocity by Fourier series: differences that do not
wrap leave a residual of some per cent of the advection at the border, on an exact solution. The
velocity of the basis functions is taken on the whole square, so the product u . grad w is bilinear
in the weights and every expert assumes that its own weights hold everywhere; the residual of the
assembled field is another one.

A jump where two experts meet is felt everywhere by these series: with 16 modes of solutions as
basis on 24 x 24 points the residual of the assembled field is 0.80 for 2 x 2 blocks, 0.70 for one,
and 0.58 for 2 x 2 that fade into each other over 2 points (`overlap`); a network is trained on it.

The initial state is a lift, w = w_0 + t / T (b - mean b) . weights, so w(0) = w_0 exactly. The
mean of w, which the flow keeps, is taken out again where experts have different weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.physics.checks import check_number
from sciml.physics.constraints.evolution_constraint import EvolutionEquation
from sciml.physics.constraints.grid_derivatives import TimeScheme, uniform_step
from sciml.typed_arguments import typed


@typed
class VorticityConstraint(EvolutionEquation):
    """w_t + u . grad w = nu laplace w + g with lifted initial state; see the base class.

    Features are D w (per horizon), and of V w its two slopes, its Laplacian and the two components
    of the velocity, which carries the factor of the horizon.

    Args:
        problem: A `sciml.physics.evolution.VorticityNavierStokes`; knows `viscosity`, `forcing`.
        time_scheme: As in the base class, as all that follow.
        t_min: Time up to which the equation is not imposed.
        ramp: Exponent of the factor t / horizon of the rows.

    Example:
        >>> from sciml.physics.constraints import VorticityConstraint
        >>> from sciml.physics.evolution import VorticityNavierStokes
        >>> problem = VorticityNavierStokes(points=16, time_count=3, horizon=0.5)
        >>> equation = VorticityConstraint(problem)
        >>> equation.axes, equation.sizes, equation.periodic
        (('t', 'x', 'y'), (3, 16, 16), (False, True, True))
    """

    picard = True

    def __init__(
        self,
        problem: Any,
        *,
        time_scheme: TimeScheme = "midpoint",
        t_min: float = 0.0,
        ramp: float = 0.0,
    ) -> None:
        super().__init__(problem, initial="lift", time_scheme=time_scheme, t_min=t_min, ramp=ramp)
        self.viscosity = check_number("problem.viscosity", float(problem.viscosity), 0.0)
        self.lengths = [
            uniform_step(g, "a grid") * n
            for g, n in zip(problem.grids, self.sizes[1:], strict=True)
        ]

    def columns(self, basis: Tensor, inputs: Tensor) -> Tensor:
        """Return the basis without its mean over space, times t / horizon."""
        return super().columns(basis - basis.mean((-2, -1), keepdim=True), inputs)

    def assembled(self, value: Tensor) -> Tensor:
        """Return the field with the mean over space of its first level."""
        mean = value.mean((-2, -1), keepdim=True)
        return value - (mean - mean[:, :1])

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return D w and, of V w: w_x, w_y, laplace w, u, v."""
        slope, value = self.in_time(field)
        shape = value.shape[-2:]
        kx, ky = self._waves(value)
        hat = torch.fft.rfft2(value)
        square = kx**2 + ky**2
        stream = hat / torch.where(square > 0, square, torch.inf)
        symbols = (self._slope(kx, shape[0]), self._slope(ky, shape[1]))
        dx, dy = (1j * s for s in symbols)
        spectra = (dx * hat, dy * hat, -square * hat, dy * stream, -dx * stream)
        w_x, w_y, laplace, u, v = (torch.fft.irfft2(s, s=shape) for s in spectra)
        return [slope, w_x, w_y, laplace, self.horizon * u, self.horizon * v]

    def aux(self, inputs: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return the force."""
        if not self.problem.forcing:
            return []
        return [self.problem.force(inputs[:, 0]).expand(len(inputs), *sizes)]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return w_t + u w_x + v w_y - nu laplace w - g, per horizon."""
        slope, w_x, w_y, laplace, u, v = values
        return self._balance(slope, u * w_x + v * w_y, laplace, aux)

    def frozen(
        self, values: Sequence[Tensor], at: Sequence[Tensor], aux: Sequence[Tensor]
    ) -> Tensor:
        """Return the formula with the last velocity."""
        slope, w_x, w_y, laplace, _, _ = values
        return self._balance(slope, at[4] * w_x + at[5] * w_y, laplace, aux)

    def _balance(
        self, slope: Tensor, advection: Tensor, laplace: Tensor, aux: Sequence[Tensor]
    ) -> Tensor:
        out = slope + advection - self.horizon * self.viscosity * laplace
        return out - self.horizon * aux[0] if aux else out

    def _waves(self, like: Tensor) -> tuple[Tensor, Tensor]:
        nx, ny = like.shape[-2:]
        kind = {"dtype": like.dtype, "device": like.device}
        kx = torch.fft.fftfreq(nx, 1 / nx, **kind) * (2 * math.pi / self.lengths[0])
        ky = torch.fft.rfftfreq(ny, 1 / ny, **kind) * (2 * math.pi / self.lengths[1])
        return kx[:, None], ky[None, :]

    @staticmethod
    def _slope(k: Tensor, n: int) -> Tensor:
        """Return wave numbers without the Nyquist mode, whose slope is not on the grid."""
        edge = k.abs().amax()
        return torch.where(k.abs() == edge, 0.0, k) if n % 2 == 0 else k
