"""Diffusion and sorption in columns whose dispersion and porosity vary along the way."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sciml.arguments import count, generator, takes
from sciml.physics.checks import check_number, check_positive
from sciml.physics.evolution.diffusion_sorption import DiffusionSorption
from sciml.physics.evolution.profiles import cosine_profiles


class HeterogeneousDiffusionSorption(DiffusionSorption):
    """The harder member: initial state, dispersion and porosity vary along the column.

    The inputs `(count, 3, cells)` are u_0(x) between 0 and `highest`, D(x) and phi(x):

        u_0 = highest sigma(2 g_1),   D = dispersion exp(spread g_2),   phi = sigma(logit(porosity)
        + spread g_3),

    with the logistic function sigma and independent Gaussian functions g of unit variance: a family
    with 45 parameters. The right wall sees D of the last cell.

    Args:
        cells: See `DiffusionSorption`.
        tau: Inverse correlation length of the functions g.
        spread: Standard deviation of log D and of logit phi.
        time_count: See `DiffusionSorption`, as all that follow.
        horizon: Last time.
        grading: See `DiffusionSorption`.
        dispersion: Median of D.
        porosity: Median of phi.
        density: Bulk density.
        freundlich: Freundlich's coefficient.
        exponent: Freundlich's exponent.
        left: u at x = 0.
        right_sign: See the module's text.
        wall: See the module's text.
        highest: Upper bound of initial states.
        rtol: Relative tolerance of a step in time.
        atol: Absolute tolerance.

    Raises:
        InvalidArgument: For numbers that cannot be.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import HeterogeneousDiffusionSorption
        >>> problem = HeterogeneousDiffusionSorption(cells=16, time_count=3)
        >>> inputs = problem.sample(1, torch.Generator().manual_seed(0))
        >>> tuple(inputs.shape), tuple(problem.solve(inputs).value.shape)
        ((1, 3, 16), (1, 3, 16))
    """

    channels = ("initial", "dispersion", "porosity")

    def __init__(
        self,
        cells: int = 1024,
        *,
        tau: float = 6.0,
        spread: float = 0.5,
        time_count: int = 101,
        horizon: float = 500.0,
        grading: float = 1.0,
        dispersion: float = 5e-4,
        porosity: float = 0.29,
        density: float = 2880.0,
        freundlich: float = 3.5e-4,
        exponent: float = 0.874,
        left: float = 1.0,
        right_sign: Literal[-1, 1] = -1,
        wall: Literal["cell", "face"] = "cell",
        highest: float = 0.2,
        rtol: float = 1e-7,
        atol: float = 1e-9,
    ) -> None:
        super().__init__(
            cells,
            time_count=time_count,
            horizon=horizon,
            grading=grading,
            dispersion=dispersion,
            porosity=porosity,
            density=density,
            freundlich=freundlich,
            exponent=exponent,
            left=left,
            right_sign=right_sign,
            wall=wall,
            highest=highest,
            rtol=rtol,
            atol=atol,
        )
        self.tau = check_number("problem.tau", tau, 0.0)
        self.spread = check_positive("problem.spread", spread)

    @takes(count=count, generator=generator)
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return u_0, D and phi `(count, 3, cells)`."""
        drawn = cosine_profiles(3 * count, self.cells, generator, tau=self.tau)
        first, second, third = drawn.view(count, 3, self.cells).unbind(1)
        logit = torch.logit(torch.tensor(self.porosity, dtype=torch.float64))
        return torch.stack(
            [
                self.highest * torch.sigmoid(2 * first),
                self.dispersion * torch.exp(self.spread * second),
                torch.sigmoid(logit + self.spread * third),
            ],
            1,
        )

    def coefficients(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return D and phi of every cell, each `(count, cells)`."""
        return inputs[:, 1], inputs[:, 2]
