"""Unknown coefficients as fields, from noisy readings of the solution; known on the boundary.

    poisson_coefficient   - div(a grad u) = f,        u = sin(pi x) sin(pi y) on [0, 1]^2,
                          a = 1 / (1 + x^2 + y^2 + (x - 1)^2 + (y - 1)^2)
    heat_coefficient      u_t = div(a grad u) + f,    u = e^-t sin(pi x) sin(pi y) on [-1, 1]^2,
                          a = 2 + sin(pi x) sin(pi y)

The source f is what these solutions need. (The benchmark's source of the first problem has
derivatives 2x + 1 of a where 2 (2x - 1) is right, and so contradicts its answer.)

Equations weigh 1e4, readings 1 / sigma^2: the equation, not the readings, decides between points.
`smoothness` adds |Lap a|^2 to the loss: a second-order method fits the noise in seconds, and the
misfit does not tell when it began to. Errors over u and a for weights 0, 1e-2 and 1e-1 of the first
problem are 3.0e-2, 9.7e-3 and 4.0e-2, for 0, 5e-5 and 1e-3 of the second 2.7e-2, 2.0e-2 and 6.0e-2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.physics.checks import check_number, check_positive, check_seed
from sciml.physics.systems import Observed, Rectangle, System, Time
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable
    from sciml.physics.systems.system_fields import Field

PHYSICS = 1e4  # weight of the equation


class Coefficient(System):
    """Shared part: readings with noise, the error over solution and coefficient together.

    Args:
        sigma: Standard deviation of the noise.
        smoothness: Weight of |Lap a|^2.
        seed: Seed of the readings.
    """

    outputs = ("u", "a")

    def __init__(self, *, sigma: float = 0.1, smoothness: float = 0.01, seed: int = 0) -> None:
        self.sigma = check_positive("problem.sigma", sigma)
        smoothness = check_number("problem.smoothness", smoothness, 0.0)
        self.weights = {"equation": PHYSICS, "smoothness": smoothness}
        self.seed = check_seed("problem.seed", seed)

    def places(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the coordinates of the readings."""
        raise NotImplementedError

    def conditions(self) -> dict:
        """Return the readings."""
        generator = torch.Generator().manual_seed(self.seed)
        places = self.places(generator)
        u = self.exact(**places)["u"]
        noise = torch.randn(len(u), generator=generator, dtype=u.dtype)
        return {"readings": Observed({**places, "u": u + self.sigma * noise}, sigma=self.sigma)}


class PoissonCoefficient(Coefficient):
    """An unknown coefficient of Poisson's equation from 50 x 50 noisy readings.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import PoissonCoefficient
        >>> inverse = PoissonCoefficient()
        >>> inverse.outputs, inverse.term_names
        (('u', 'a'), ('equation', 'smoothness', 'readings'))
        >>> centre = torch.tensor([0.5], dtype=torch.float64)
        >>> {name: round(value.item(), 4) for name, value in inverse.exact(centre, centre).items()}
        {'u': 1.0, 'a': 0.5}
    """

    domain = Rectangle((0, 0), (1, 1))

    def places(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return a grid."""
        s = torch.linspace(0, 1, 50, dtype=torch.float64)
        x, y = torch.meshgrid(s, s, indexing="ij")
        return {"x": x.reshape(-1), "y": y.reshape(-1)}

    @staticmethod
    def coefficient(x: Any, y: Any) -> Any:
        """Return a; tensors, jets or numbers."""
        return 1 / (1 + x**2 + y**2 + (x - 1) ** 2 + (y - 1) ** 2)

    def source(self, x: Any, y: Any) -> Tensor:
        """Return - div(a grad u) of the solution."""
        a, sin, cos = self.coefficient(x, y), torch.sin, torch.cos
        slope = (4 * x - 2) * cos(math.pi * x) * sin(math.pi * y)
        slope = slope + (4 * y - 2) * sin(math.pi * x) * cos(math.pi * y)
        u = sin(math.pi * x) * sin(math.pi * y)
        return a**2 * math.pi * slope + 2 * math.pi**2 * a * u

    def residual(self, u: Field, a: Field, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the equation over the size of its terms, and what smoothness punishes."""
        flux = a * u.lap + a.x * u.x + a.y * u.y
        return {"equation": (flux + self.source(x, y)) / 10, "smoothness": a.lap}

    def hard(
        self, u: Differentiable, a: Differentiable, x: Differentiable, y: Differentiable
    ) -> Differentiable:
        """Return zero on the boundary for u, the known values there for a."""
        c, mask = self.coefficient, x * (1 - x) * y * (1 - y)
        sides = (1 - x) * c(0.0, y) + x * c(1.0, y) + (1 - y) * c(x, 0.0) + y * c(x, 1.0)
        corners = (1 - x) * ((1 - y) * c(0.0, 0.0) + y * c(0.0, 1.0))
        corners = corners + x * ((1 - y) * c(1.0, 0.0) + y * c(1.0, 1.0))
        return {"u": 16 * mask * u, "a": sides - corners + 16 * mask * a}

    def exact(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the solution."""
        u = torch.sin(math.pi * x) * torch.sin(math.pi * y)
        return {"u": u, "a": self.coefficient(x, y)}


@typed
class HeatCoefficient(Coefficient):
    """An unknown coefficient of the heat equation from 2500 noisy readings.

    Example:
        >>> import torch
        >>> from sciml.physics.suite import HeatCoefficient
        >>> inverse = HeatCoefficient(sigma=0.1)
        >>> inverse.outputs, inverse.region.variables
        (('u', 'a'), ('x', 'y', 't'))
        >>> p = torch.tensor([0.25], dtype=torch.float64)
        >>> {name: round(value.item(), 4) for name, value in inverse.exact(p, p, 0 * p).items()}
        {'u': 0.5, 'a': 2.5}
    """

    domain = Rectangle((-1, -1), (1, 1)) * Time(0, 1)

    def __init__(self, *, sigma: float = 0.1, smoothness: float = 5e-5, seed: int = 0) -> None:
        super().__init__(sigma=sigma, smoothness=smoothness, seed=seed)

    def places(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Return random places and times."""
        x = self.region.sample(2500, generator)
        return dict(zip("xyt", x.unbind(1), strict=True))

    def residual(self, u: Field, a: Field, x: Tensor, y: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Return the equation over the size of its terms, that a stands still, and smoothness."""
        s = torch.sin(math.pi * x) * torch.sin(math.pi * y)
        cx, cy = torch.cos(math.pi * x), torch.cos(math.pi * y)
        slopes = cx**2 * torch.sin(math.pi * y) ** 2 + torch.sin(math.pi * x) ** 2 * cy**2
        source = torch.exp(-t) * (-s + math.pi**2 * (2 * (2 + s) * s - slopes))
        flux = a * u.lap + a.x * u.x + a.y * u.y
        return {
            "equation": (u.t - flux - source) / 40,
            "stationary": a.t,
            "smoothness": a.lap,
        }

    def hard(
        self,
        u: Differentiable,
        a: Differentiable,
        x: Differentiable,
        y: Differentiable,
        t: Differentiable,
    ) -> Differentiable:
        """Return zero on the boundary for u, the known values there for a."""
        mask = (1 - x**2) * (1 - y**2)
        return {"u": mask * u, "a": 2 + mask * a}

    def exact(self, x: Tensor, y: Tensor, t: Tensor) -> dict[str, Tensor]:
        """Return the solution."""
        s = torch.sin(math.pi * x) * torch.sin(math.pi * y)
        return {"u": torch.exp(-t) * s, "a": 2 + s}
