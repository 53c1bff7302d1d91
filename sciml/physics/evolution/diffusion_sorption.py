"""Diffusion and sorption of a solute in a porous column, as PDEBench defines it.

    R(u) du/dt = d/dx (D du/dx),    R(u) = 1 + (1 - phi) / phi rho k n u^(n - 1)    (Freundlich)

for x in (0, 1) and t in (0, 500], with u(0, t) = 1 and u(1, t) = D du/dx(1, t). Finite volumes: the
flux through the face between two cells is D_face (u_right - u_left) / dx, and walls act through
ghost cells. PDEBench's generator and its text differ in two places, which are arguments here:

    right_sign  -1: the right ghost value is -D du/dx, as in the generator; +1: as in the equation
    wall        `cell`: boundary values stand in the ghost cells, half a cell outside the column, as
                in the generator (first order); `face`: on the faces, by u_ghost = 2 u_wall - u_edge
                (second order)

with du/dx = (u_N - u_{N-1}) / dx. In R, u^(n - 1) means (max(u, 0) + 1e-6)^(n - 1). Steps in time
are those of `sciml.solvers.rosenbrock` (implicit, order 4), the Jacobian is tridiagonal and exact.

At the default tolerance the error in time is about 1e-8 of u at most; a batch of 8 columns of 1024
cells takes 0.3 s per column on one busy core (0.15 s at rtol=1e-6, with an error of 1e-7).

Source: Takamoto et al. 2022, arXiv 2210.07182, and the generator beside it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import count, generator, takes
from sciml.errors import InvalidArgument
from sciml.physics.checks import check_choice, check_number, check_positive
from sciml.physics.evolution.evolution_problem import check_cells, check_inputs, stored_times
from sciml.solvers import Solution, rosenbrock
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed

SHIFT = 1e-6  # keeps u^(n - 1) finite at u = 0


class DiffusionSorption:
    """One column per sample, with a constant initial state drawn from U(0, `highest`).

    The inputs are the initial state `(count, 1, cells)`: a family with one parameter.

    Args:
        cells: Cells of the column; coordinates are their centres (i + 1/2) / cells.
        time_count: Stored times, 0 and the horizon among them.
        horizon: Last time.
        grading: Times are horizon (i / (time_count - 1))^grading; 1 spaces them equally, 2 follows
            the front, which moves with the root of time.
        dispersion: D.
        porosity: phi.
        density: rho, bulk density.
        freundlich: k, Freundlich's coefficient.
        exponent: n, Freundlich's exponent.
        left: u at x = 0.
        right_sign: See the module's text.
        wall: See the module's text.
        highest: Largest initial state.
        rtol: Relative tolerance of a step in time.
        atol: Absolute tolerance.

    Example:
        >>> import torch
        >>> from sciml.physics.evolution import DiffusionSorption
        >>> problem = DiffusionSorption(cells=64, time_count=11)
        >>> inputs = problem.sample(2, torch.Generator().manual_seed(0))
        >>> tuple(problem.solve(inputs).value.shape)
        (2, 11, 64)

    Raises:
        InvalidArgument: For numbers that cannot be.
    """

    channels: tuple[str, ...] = ("initial",)
    periods = (None,)

    def __init__(
        self,
        cells: int = 1024,
        *,
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
        self.cells = check_cells("cells", cells)
        self.horizon = check_positive("problem.horizon", horizon)
        self.time_count = time_count
        self.times = stored_times(self.horizon, time_count, grading)
        self.spacing = 1 / cells
        self.grids = ((torch.arange(cells, dtype=torch.float64) + 0.5) / cells,)
        self.dispersion = check_positive("problem.dispersion", dispersion)
        self.porosity = check_positive("problem.porosity", porosity)
        if self.porosity >= 1:
            raise InvalidArgument(f"problem.porosity={porosity}", "a number between 0 and 1")
        self.density = check_positive("problem.density", density)
        self.freundlich = check_positive("problem.freundlich", freundlich)
        self.exponent = check_positive("problem.exponent", exponent)
        self.left = check_number("problem.left", left)
        if not isinstance(right_sign, int) or right_sign not in (-1, 1):
            raise InvalidArgument(f"problem.right_sign={right_sign}", "-1 or 1")
        self.right_sign = right_sign
        self.wall = check_choice("problem.wall", wall, ("cell", "face"))
        self.highest = check_positive("problem.highest", highest)
        self.rtol = check_number("problem.rtol", rtol, 0.0)
        self.atol = check_number("problem.atol", atol, 0.0)

    # --- inputs -----------------------------------------------------------------------------
    @typed
    @takes(count=count, generator=generator)
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return initial states `(count, 1, cells)`, each constant in x."""
        level = torch.rand(count, 1, 1, generator=generator, dtype=torch.float64) * self.highest
        return level.expand(count, 1, self.cells).clone()

    def coefficients(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return D and phi of every cell, each `(count or 1, cells)`."""
        one = torch.ones(1, self.cells, dtype=inputs.dtype, device=inputs.device)
        return self.dispersion * one, self.porosity * one

    # --- equation ---------------------------------------------------------------------------
    def retardation(self, u: Tensor, porosity: Tensor | float | None = None) -> Tensor:
        """Return R(u), shape of u."""
        # exp(log) takes half the time of a power
        return 1 + self._held(porosity) * (_shifted(u).log() * (self.exponent - 1)).exp()

    def retardation_slope(self, u: Tensor, porosity: Tensor | float | None = None) -> Tensor:
        """Return dR/du, shape of u; 0 where u is negative."""
        above = self.retardation(u, porosity) - 1
        return torch.where(u > 0, (self.exponent - 1) * above / _shifted(u), 0.0)

    def _held(self, porosity: Tensor | float | None) -> Tensor | float:
        phi = self.porosity if porosity is None else porosity
        return (1 - phi) / phi * (self.density * self.freundlich * self.exponent)

    def wall_values(self) -> tuple[tuple[float, float], tuple[float, float, float]]:
        """Return the ghost relations, for residuals that agree with the solver.

        Left ghost: (constant, factor of u_1). Right ghost: (constant, factor of u_N, factor of
        u_{N-1}) at the dispersion `self.dispersion`.
        """
        slope = self.right_sign * self.dispersion / self.spacing
        if self.wall == "cell":
            return (self.left, 0.0), (0.0, slope, -slope)
        return (2 * self.left, -1.0), (0.0, 2 * slope - 1, -2 * slope)

    def stencil(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return lower, main, upper and source of R du/dt, each `(count or 1, cells)`.

        In every cell R du/dt = lower u_{i-1} + main u_i + upper u_{i+1} + source, walls included:
        lower is 0 in the first cell, upper in the last.
        """
        column = _Column(self, inputs)
        return column.lower, column.main, column.upper, column.source

    def rate(self, u: Tensor, inputs: Tensor) -> Tensor:
        """Return du/dt of the finite volumes `(count, cells)` at u of that shape."""
        return _Column(self, inputs).rate(u)

    def jacobian(self, u: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lower, main and upper diagonal of d rate / du, each `(count, cells)`."""
        return _Column(self, inputs).jacobian(u)

    # --- solution ---------------------------------------------------------------------------
    @typed
    def solve(self, inputs: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return u `(count, nt, cells)` at the stored times.

        Args:
            inputs: As `sample` returns them.
            on_failure: See `sciml.solvers.rosenbrock`.

        Raises:
            ConvergenceError: Under `raise`, if the time integration failed for a sample.
            InvalidArgument: For another shape.
        """
        inputs = check_inputs(self, inputs)
        column = _Column(self, inputs)
        return rosenbrock(
            column.rate,
            column.jacobian,
            inputs[:, 0],
            self.times.to(inputs.device),
            on_failure=on_failure,
            rtol=self.rtol,
            atol=self.atol,
        )


class _Column:
    """The finite volumes of a batch, with all that does not depend on u computed once.

    In every cell R du/dt = lower u_{i-1} + main u_i + upper u_{i+1} + source.
    """

    def __init__(self, problem: DiffusionSorption, inputs: Tensor) -> None:
        dispersion, porosity = problem.coefficients(inputs)
        left, right = dispersion[:, :-1], dispersion[:, 1:]
        inner = 2 * left * right / (left + right)
        faces = torch.cat([dispersion[:, :1], inner, dispersion[:, -1:]], 1) / problem.spacing**2
        (constant, edge), _ = problem.wall_values()
        slope = problem.right_sign * dispersion[:, -1] / problem.spacing
        last, before = (slope, -slope) if problem.wall == "cell" else (2 * slope - 1, -2 * slope)
        self.lower, self.upper = faces[:, :-1].clone(), faces[:, 1:].clone()
        self.main = -(self.lower + self.upper)
        self.source = torch.zeros_like(self.main)
        self.source[:, 0] = self.lower[:, 0] * constant
        self.main[:, 0] += self.lower[:, 0] * edge
        self.main[:, -1] += self.upper[:, -1] * last
        self.lower[:, -1] += self.upper[:, -1] * before
        self.lower[:, 0], self.upper[:, -1] = 0, 0
        self.held, self.power = problem._held(porosity), problem.exponent - 1

    def rate(self, u: Tensor) -> Tensor:
        wide = pad(u, (1, 1))
        moved = torch.addcmul(self.source, self.main, u)
        moved.addcmul_(self.lower, wide[:, :-2]).addcmul_(self.upper, wide[:, 2:])
        # exp(log) takes half the time of a power
        return moved / (1 + self.held * (_shifted(u).log() * self.power).exp())

    def jacobian(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shifted = _shifted(u)
        bound = self.held * (shifted.log() * self.power).exp()
        inverse = 1 / (1 + bound)
        bend = torch.where(u > 0, self.power * bound * inverse / shifted, 0.0) * self.rate(u)
        return self.lower * inverse, self.main * inverse - bend, self.upper * inverse


def _shifted(u: Tensor) -> Tensor:
    return u.clamp(min=0) + SHIFT
