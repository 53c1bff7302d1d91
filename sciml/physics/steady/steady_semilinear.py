"""Steady problems on a square: given a field, find the field in equilibrium with it.

What `sciml.data.steady_fields` needs of one is the protocol below; `Semilinear` is the simplest,

    -d Lap u + u + u^3 = f    on a periodic square,

the Euler-Lagrange equation of a strictly convex energy: exactly one solution for every f.
`sciml.physics.steady.darcy` and `sciml.physics.steady.navier_stokes` hold the other two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sciml.physics.checks import check_positive
from sciml.physics.steady.periodic import Periodic, multiplied, periodic_field
from sciml.solvers import CG, NewtonKrylov, Operator, Solution, root
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


class SteadyProblem(Protocol):
    """A family of steady problems with one field in and one field out.

    Attributes:
        n: Points or cells per side of the grid.
        periodic: Whether the square is periodic; else u = 0 on its boundary.

    Example:
        >>> import torch
        >>> from sciml.physics.steady import Semilinear, SteadyProblem
        >>> problem: SteadyProblem = Semilinear(n=20)
        >>> problem.n, problem.periodic
        (20, True)
        >>> tuple(problem.draw(3, torch.Generator().manual_seed(0)).shape)
        (3, 20, 20)
    """

    n: int
    periodic: bool

    def draw(self, count: int, generator: torch.Generator, *, hard: bool = False) -> Tensor:
        """Return inputs `(count, n, n)`; `hard` ones lie outside the range of the others."""

    def solve(self, given: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return the solutions `(count, n, n)` with status and residual per problem."""

    def residual(self, u: Tensor, given: Tensor) -> Tensor:
        """Return the residual of the discrete equation, `(count, n, n)`."""


@typed
class Semilinear:
    """-d Lap u + u + u^3 = f, periodic, pseudo-spectral, by Newton's method and preconditioned CG.

    The cubic term is not dealiased: the Jacobian stays symmetric positive definite, as the energy
    of the collocated problem is convex too, and aliasing falls with n like all other errors.

    Args:
        n: Points per side.
        diffusion: d.
        std: Standard deviation of f.
        cutoff: Wave number at which the spectrum of f falls off.
        harder: Factor on the amplitude of hard forcings.
        length: Side of the square. A side of 2 pi is d / 4 pi^2 on the unit square: the solution
            then nearly is the root of u + u^3 = f at every point.

    Example:
        >>> import torch
        >>> from sciml.physics.steady import Semilinear
        >>> problem = Semilinear(n=20)
        >>> f = problem.draw(2, torch.Generator().manual_seed(0))
        >>> u = problem.solve(f).value
        >>> tuple(u.shape), bool(problem.residual(u, f).abs().max() < 1e-6)
        ((2, 20, 20), True)
    """

    periodic = True

    def __init__(
        self,
        n: int = 32,
        *,
        diffusion: float = 0.02,
        std: float = 3.0,
        cutoff: float = 3.0,
        harder: float = 1.5,
        length: float = 1.0,
    ) -> None:
        self.length = check_positive("problem.length", length)
        self.grid, self.n = Periodic(n, self.length), n
        self.diffusion = check_positive("problem.diffusion", diffusion)
        self.std = check_positive("problem.std", std)
        self.cutoff = check_positive("problem.cutoff", cutoff)
        self.harder = check_positive("problem.harder", harder)

    def draw(self, count: int, generator: torch.Generator, *, hard: bool = False) -> Tensor:
        """Return random forcings f `(count, n, n)`; hard ones have a larger amplitude."""
        std = self.std * (self.harder if hard else 1.0)
        return periodic_field(count, self.n, generator, cutoff=self.cutoff, std=std)

    def residual(self, u: Tensor, given: Tensor) -> Tensor:
        """Return -d Lap u + u + u^3 - f, `(count, n, n)`."""
        linear = multiplied(1 + self.diffusion * self.grid.squares(u), u)
        return linear + u**3 - given

    def solve(self, given: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return u `(count, n, n)`, differentiable in f.

        Args:
            given: f `(count, n, n)`, float64 for a residual of 1e-10 relative to f.
            on_failure: See `sciml.solvers.root`.
        """

        def precondition(operator: Operator) -> Callable[[Tensor], Tensor]:
            # the Jacobian with 3 u^2 replaced by its mean over the square
            cube = 3 * operator.like.square().mean((-2, -1))[..., None, None]
            inverse = 1 / (1 + cube + self.diffusion * self.grid.squares(operator.like))
            return lambda v: multiplied(inverse, v)

        return root(
            self.residual,
            torch.zeros_like(given),
            (given,),
            on_failure=on_failure,
            solver=NewtonKrylov(linear=CG(preconditioner=precondition)),
            symmetric=True,
            positive_definite=True,
        )
