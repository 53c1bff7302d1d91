"""Darcy flow in the form of an evolution problem: steady, so that one time is stored.

The equation, its finite volumes and its solver are those of `sciml.physics.steady.darcy`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sciml.arguments import count, generator, takes
from sciml.physics.evolution.evolution_problem import check_cells, check_inputs
from sciml.physics.steady.darcy import Darcy
from sciml.solvers import Solution
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


class DarcyFlow:
    """-div(a grad u) = 1 on the unit square, u = 0 on its boundary, for random media a.

    Args:
        cells: Cells per side; coordinates are their centres.
        kind: `log_normal`: a = exp(spread m); `two_phase`: a is `low` where m < 0, else `high`.
        tau: Inverse correlation length of the Gaussian field m.
        alpha: Decay of its spectrum.
        spread: Standard deviation of log a.
        low: Smaller coefficient of two phases.
        high: Larger one.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import DarcyFlow
        >>> problem = DarcyFlow(cells=16)
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> tuple(problem.solve(inputs).value.shape)
        (2, 1, 16, 16)

    Raises:
        InvalidArgument: For numbers that cannot be.
    """

    channels = ("coefficient",)
    periods = (None, None)

    def __init__(
        self,
        cells: int = 64,
        *,
        kind: Literal["log_normal", "two_phase"] = "log_normal",
        tau: float = 3.0,
        alpha: float = 2.0,
        spread: float = 1.0,
        low: float = 3.0,
        high: float = 12.0,
    ) -> None:
        self.cells = check_cells("cells", cells)
        self.steady = Darcy(
            cells, kind=kind, tau=tau, alpha=alpha, spread=spread, low=low, high=high
        )
        self.kind, self.tau, self.alpha = kind, self.steady.tau, self.steady.alpha
        self.spread, self.low, self.high = self.steady.spread, self.steady.low, self.steady.high
        line = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
        self.times, self.grids = torch.zeros(1, dtype=torch.float64), (line, line.clone())

    @typed
    @takes(count=count, generator=generator)
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return coefficients a `(count, 1, cells, cells)`."""
        return self.steady.draw(count, generator)[:, None]

    @typed
    def solve(self, inputs: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return u `(count, 1, cells, cells)`, differentiable in a.

        Args:
            inputs: As `sample` returns them.
            on_failure: See `sciml.solvers.linear_solve`.

        Raises:
            ConvergenceError: Under `raise`, if conjugate gradients failed for a sample.
            InvalidArgument: For another shape.
        """
        found = self.steady.solve(check_inputs(self, inputs)[:, 0], on_failure)
        return replace(found, value=found.value[:, None])
