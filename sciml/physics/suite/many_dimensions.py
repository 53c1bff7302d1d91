"""Poisson's equation and the heat equation in five dimensions, with solutions in closed form.

poisson_nd   Lap u = -(pi/2)^2 sum_i sin(pi x_i / 2)  in the unit cube, u given on its surface,
u = sum_i sin(pi x_i / 2)
heat_nd      u_t = Lap u / 5 - r^2/5 exp(r^2/2 + t)  in the unit ball, t in [0, 1], the normal
derivative given on its surface,  u = exp(r^2/2 + t)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.physics.systems import Ball, Box, On, System, Time

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field


class PoissonND(System):
    """Poisson's equation in the unit cube in five dimensions.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import PoissonND
        >>> problem = PoissonND()
        >>> problem.region.variables, problem.term_names
        (('x1', 'x2', 'x3', 'x4', 'x5'), ('residual', 'surface'))
        >>> round(problem.exact(*torch.full((5, 1), 1.0, dtype=torch.float64)).item(), 4)
        5.0
    """

    domain = Box((0,) * 5, (1,) * 5, name="surface")

    def conditions(self) -> dict:
        """Return the values on the surface."""
        return {"surface": On(self.domain.surface, u=self.exact)}

    def residual(
        self, u: Field, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, x5: Tensor
    ) -> Tensor:
        """Return the equation over the size of its source."""
        return u.lap * (4 / math.pi**2) / 5 + self.exact(x1, x2, x3, x4, x5) / 5

    def exact(self, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, x5: Tensor) -> Tensor:
        """Return the solution."""
        return sum(torch.sin(math.pi / 2 * x) for x in (x1, x2, x3, x4, x5))


class HeatND(System):
    """The heat equation in the unit ball in five dimensions, with initial data in the ansatz.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import HeatND
        >>> problem = HeatND()
        >>> problem.region.variables, problem.term_names
        (('x1', 'x2', 'x3', 'x4', 'x5', 't'), ('residual', 'surface'))
        >>> round(problem.exact(*torch.zeros(6, 1, dtype=torch.float64)).item(), 4)
        1.0
    """

    domain = Ball((0.0,) * 5, 1.0, name="surface") * Time(0, 1)

    def conditions(self) -> dict:
        """Return the normal derivative, which equals the solution at r = 1."""
        return {"surface": On(self.domain.surface, u_n=self.exact)}

    def residual(
        self, u: Field, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, x5: Tensor, t: Tensor
    ) -> Tensor:
        """Return the equation."""
        square = x1**2 + x2**2 + x3**2 + x4**2 + x5**2
        return u.t - (u.lap - square * torch.exp(square / 2 + t)) / 5

    def hard(
        self,
        u: Differentiable,
        x1: Differentiable,
        x2: Differentiable,
        x3: Differentiable,
        x4: Differentiable,
        x5: Differentiable,
        t: Differentiable,
    ) -> Differentiable:
        """Return the ansatz."""
        return self.exact(x1, x2, x3, x4, x5, 0.0 * t) + t * u

    def exact(
        self, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, x5: Tensor, t: Tensor
    ) -> Tensor:
        """Return the solution."""
        return torch.exp((x1**2 + x2**2 + x3**2 + x4**2 + x5**2) / 2 + t)
