"""Steady incompressible Navier-Stokes flow on the periodic square, in vorticity form.

    u . grad w - nu Lap w = g,    u = (d_y psi, -d_x psi),    -Lap psi = w,    mean w = 0,

g the curl of the force, on [0, 2 pi)^2. Pseudo-spectral with the 2/3 rule: the product is formed on
the grid and cut back, so it carries no aliasing error.

**Similarity.** With w = nu W and g = nu^2 G the viscosity disappears: U . grad W - Lap W = G. A
lower viscosity under the same force is a larger G, and the problem has the one parameter |G| (a
Grashof number). For small |G| the steady flow is unique; on the branch that starts there it is
followed by continuation, which is what `solve` returns.

Steady flows are found by Newton's method, whose linear systems GMRES solves with the Stokes problem
as preconditioner, for g growing in steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.steady.periodic import Advection, Periodic, multiplied, periodic_field
from sciml.solvers import GMRES, NewtonKrylov, Operator, Solution, root
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


@typed
class SteadyNavierStokes:
    """The flow a random force keeps up at viscosity nu.

    Inputs and solutions are in similarity variables: G = g / nu^2 and W = w / nu.

    Args:
        n: Points per side.
        viscosity: nu.
        std: Standard deviation of g.
        cutoff: Wave number at which the spectrum of g falls off.
        hard_viscosity: nu of the hard flows; lower than `viscosity`.
        steps: Sizes of g on the way to the full one.

    Raises:
        InvalidArgument: If `steps` is below 1 or the hard viscosity the larger one.

    Example:
        >>> import torch
        >>> from sciml.physics.steady import SteadyNavierStokes
        >>> flow = SteadyNavierStokes(n=16)
        >>> force = flow.draw(1, torch.Generator().manual_seed(0))
        >>> found = flow.solve(force)
        >>> tuple(found.value.shape), found.status.tolist()
        ((1, 16, 16), [0])
    """

    periodic = True

    def __init__(
        self,
        n: int = 32,
        *,
        viscosity: float = 0.1,
        std: float = 0.3,
        cutoff: float = 2.0,
        hard_viscosity: float = 0.08,
        steps: int = 2,
    ) -> None:
        self.grid, self.n = Periodic(n, 2 * math.pi), n
        self.viscosity = check_positive("problem.viscosity", viscosity)
        self.hard_viscosity = check_positive("problem.hard_viscosity", hard_viscosity)
        self.std = check_positive("problem.std", std)
        self.cutoff = check_positive("problem.cutoff", cutoff)
        self.steps = steps
        if steps < 1:
            raise InvalidArgument(f"problem.steps={steps}", "a positive integer")
        if hard_viscosity > viscosity:
            raise InvalidArgument(
                f"problem.hard_viscosity={hard_viscosity}", f"at most viscosity={viscosity}"
            )

    def draw(self, count: int, generator: torch.Generator, *, hard: bool = False) -> Tensor:
        """Return forces G `(count, n, n)`, mean zero; hard ones have the lower viscosity."""
        nu = self.hard_viscosity if hard else self.viscosity
        g = periodic_field(count, self.n, generator, cutoff=self.cutoff, std=self.std, mean=False)
        return self.cut(g) / nu**2

    def cut(self, u: Tensor) -> Tensor:
        """Return a field with the modes the 2/3 rule drops set to zero."""
        return multiplied(self.grid.kept(u), u)

    def transport(self, w: Tensor) -> Tensor:
        """Return U . grad W `(count, n, n)`, without aliasing."""
        advection = Advection(self.grid, w)
        moved = advection(torch.fft.rfft2(w) * advection.kept)
        return torch.fft.irfft2(moved, s=w.shape[-2:])

    def residual(self, u: Tensor, given: Tensor) -> Tensor:
        """Return U . grad W - Lap W - G, `(count, n, n)`; its mean is that of W."""
        return self.transport(u) + multiplied(self._symbol(u), u) - given

    def _symbol(self, like: Tensor) -> Tensor:
        """Return |k|^2, and 1 at k = 0, where the equation says mean W = 0."""
        square = self.grid.squares(like).clone()
        square[0, 0] = 1
        return square

    def solve(self, given: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return W `(count, n, n)`, differentiable in G.

        Args:
            given: G `(count, n, n)` of mean zero, float64 for a residual of 1e-10 relative to G.
            on_failure: See `sciml.solvers.root`; applies to the last size of g.
        """

        def precondition(operator: Operator) -> Callable[[Tensor], Tensor]:
            inverse = 1 / self._symbol(operator.like)
            return lambda v: multiplied(inverse, v)

        exact = NewtonKrylov(linear=GMRES(preconditioner=precondition))
        rough = replace(exact, rtol=1e-3, max_iter=10)
        w = multiplied(1 / self._symbol(given), given.detach() / self.steps)
        with torch.no_grad():
            for step in range(1, self.steps):
                part = given.detach() * (step / self.steps)
                w = root(self.residual, w, (part,), on_failure="best", solver=rough).value
                w = w * ((step + 1) / step)  # the Stokes part grows in proportion
        return root(self.residual, w, (given,), on_failure=on_failure, solver=exact)
