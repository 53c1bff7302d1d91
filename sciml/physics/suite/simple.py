"""Systems with solutions in closed form: waves, heat in two scales, Helmholtz, Kovasznay's flow.

Initial data enter the ansatz by masks that saturate, t^2 / (t^2 + tau^2) and 1 - e^-t: with t^2
alone the network has to be small where time is late, and training stops far away.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.systems import Interval, On, Rectangle, System, Time
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field

TAU = 0.15  # of the mask of wave1d


class Wave1D(System):
    """A string in its first and fourth mode: u_tt = 4 u_xx on the unit square, at rest first.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Wave1D
        >>> string = Wave1D()
        >>> x, t = torch.tensor([0.5]).double(), torch.tensor([0.0]).double()
        >>> string.term_names, round(string.exact(x, t).item(), 4)
        (('residual',), 1.0)
    """

    domain = Interval(0, 1) * Time(0, 1)

    def residual(self, u: Field) -> Tensor:
        """Return u_tt - 4 u_xx, over the size of u_tt."""
        return (u.tt - 4 * u.xx) / (4 * math.pi**2)

    def hard(self, u: Differentiable, x: Differentiable, t: Differentiable) -> Differentiable:
        """Return the ansatz."""
        start = torch.sin(math.pi * x) + 0.5 * torch.sin(4 * math.pi * x)
        return start + t**2 / (t**2 + TAU**2) * (4 * x * (1 - x)) * u

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the solution."""
        first = torch.sin(math.pi * x) * torch.cos(2 * math.pi * t)
        return first + 0.5 * torch.sin(4 * math.pi * x) * torch.cos(8 * math.pi * t)


class Heat2DMultiscale(System):
    """Heat that spreads at two rates: u_t = u_xx / (500 pi)^2 + u_yy / pi^2, u = 0 on the sides.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Heat2DMultiscale
        >>> plate = Heat2DMultiscale()
        >>> plate.region.variables, plate.term_names
        (('x', 'y', 't'), ('residual',))
        >>> x, y = torch.tensor([0.025]).double(), torch.tensor([0.5]).double()
        >>> round(plate.exact(x, y, 0 * y).item(), 4)
        1.0
    """

    domain = Rectangle((0, 0), (1, 1)) * Time(0, 5)

    def residual(self, u: Field) -> Tensor:
        """Return zero for the solution."""
        return u.t - u.xx / (500 * math.pi) ** 2 - u.yy / math.pi**2

    def hard(
        self, u: Differentiable, x: Differentiable, y: Differentiable, t: Differentiable
    ) -> Differentiable:
        """Return the ansatz."""
        start = torch.sin(20 * math.pi * x) * torch.sin(math.pi * y)
        return start + (1 - torch.exp(-t)) * (16 * x * (1 - x) * y * (1 - y)) * u

    def exact(self, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """Return the solution."""
        start = torch.sin(20 * math.pi * x) * torch.sin(math.pi * y)
        return start * torch.exp(-((20 / 500) ** 2 + 1) * t)


@typed
class Helmholtz2D(System):
    """Lap u + u = f on [-1, 1]^2, u = sin(a1 pi x) sin(a2 pi y), zero on the boundary.

    Args:
        a1: Half waves along x.
        a2: Half waves along y.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Helmholtz2D
        >>> wave = Helmholtz2D(a1=1, a2=2)
        >>> x = torch.tensor([0.5], dtype=torch.float64)
        >>> wave.term_names, round(wave.exact(x, x / 2).item(), 4)
        (('residual',), 1.0)
    """

    domain = Rectangle((-1, -1), (1, 1))

    def __init__(self, *, a1: int = 1, a2: int = 4) -> None:
        if a1 < 1 or a2 < 1:
            raise InvalidArgument(f"problem.a1={a1}, problem.a2={a2}", "positive integers")
        self.a1, self.a2 = a1, a2
        self.factor = 1 - (a1**2 + a2**2) * math.pi**2

    def residual(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        """Return Lap u + u - f, over the size of f."""
        return (u.lap + u) / self.factor - self.exact(x, y)

    def hard(self, u: Differentiable, x: Differentiable, y: Differentiable) -> Differentiable:
        """Return the ansatz."""
        return (1 - x**2) * (1 - y**2) * u

    def exact(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the solution."""
        return torch.sin(self.a1 * math.pi * x) * torch.sin(self.a2 * math.pi * y)


@typed
class Kovasznay(System):
    """Kovasznay's flow behind a grid: stationary Navier-Stokes equations with an exact solution.

    Velocity is given on all sides, pressure at the outflow.

    Args:
        reynolds: Reynolds number.

    Raises:
        InvalidArgument: For a number that is not positive.

    Reference: Kovasznay 1948, "Laminar flow behind a two-dimensional grid".

    Example:
        >>> import torch
        >>> from sciml.physics.suite import Kovasznay
        >>> flow = Kovasznay(reynolds=20.0)
        >>> flow.outputs
        ('u', 'v', 'p')
        >>> flow.term_names
        ('x-momentum', 'y-momentum', 'continuity', 'sides.u', 'sides.v', 'outflow')
        >>> o = torch.zeros(1, dtype=torch.float64)
        >>> {name: round(value.item(), 3) for name, value in flow.exact(o, o + 0.25).items()}
        {'u': 1.0, 'v': -0.288, 'p': 0.0}
    """

    outputs = ("u", "v", "p")
    domain = Rectangle((-0.5, -0.5), (1, 1.5))

    def __init__(self, *, reynolds: float = 20.0) -> None:
        if not 0 < reynolds < math.inf:
            raise InvalidArgument(f"problem.reynolds={reynolds}", "a positive number")
        self.nu = 1 / reynolds
        self.decay = reynolds / 2 - math.sqrt(reynolds**2 / 4 + 4 * math.pi**2)

    def conditions(self) -> dict:
        """Return exact velocities on the sides and exact pressure on the right."""
        u, v, p = (lambda x, y, k=k: self.exact(x, y)[k] for k in self.outputs)
        sides = On(self.domain.boundary, u=u, v=v)
        return {"sides": sides, "outflow": On(self.domain.right, p=p)}

    def residual(self, u: Field, v: Field, p: Field) -> dict[str, Tensor]:
        """Return momentum and mass."""
        return {
            "x-momentum": u * u.x + v * u.y + p.x - self.nu * u.lap,
            "y-momentum": u * v.x + v * v.y + p.y - self.nu * v.lap,
            "continuity": u.x + v.y,
        }

    def exact(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the solution."""
        e, phase = torch.exp(self.decay * x), 2 * math.pi * y
        return {
            "u": 1 - e * torch.cos(phase),
            "v": self.decay / (2 * math.pi) * e * torch.sin(phase),
            "p": (1 - e**2) / 2,
        }
