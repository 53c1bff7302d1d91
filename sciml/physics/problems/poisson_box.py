"""Poisson's equation in the unit box with soft boundary data.

    Laplacian u = f  in (0, 1)^d,    u = u*  on the surface

for five solutions u*, all cheap in any dimension:

    sin_product     prod_i sin(pi x_i)                  vanishes on the surface
    cos_sum         sum_i cos(pi x_i)
    pair_products   sum_i x_{2i-1} x_{2i}               harmonic; d even
    squared_norm    |x|^2                               constant source 2 d
    exp_mean        (1/d) sum_i exp(x_i)

The first four are the problems on which second-order optimizers for physics-informed networks are
compared (d = 2, 5, 10, 100); there the residual enters the loss unscaled, and so it does here.

Reference: Dangel, Mueller, Zeinhofer (2024), "Kronecker-factored approximate curvature for
physics-informed neural networks", section 4 (their -Laplacian u = f has the other sign);
pair_products and squared_norm go back to E, Yu (2018), "The deep Ritz method", section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics import samplers
from sciml.physics.checks import check_choice, check_positive
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Box, Domain
from sciml.physics.pde import PDE, Fields, Points, with_source


class ManufacturedSolution(NamedTuple):
    """A function on the unit box; each entry maps x `(N, d)` to `(N,)`.

    Attributes:
        value: The function.
        laplacian: Its Laplacian.
        affine: Its best affine approximation in L2 of the box.
    """

    value: Callable[[Tensor], Tensor]
    laplacian: Callable[[Tensor], Tensor]
    affine: Callable[[Tensor], Tensor]


def _sin_product(x: Tensor) -> Tensor:
    return torch.sin(math.pi * x).prod(-1)


def _cos_sum(x: Tensor) -> Tensor:
    return torch.cos(math.pi * x).sum(-1)


def _pair_products(x: Tensor) -> Tensor:
    return (x[:, 0::2] * x[:, 1::2]).sum(-1)


# Affine parts: a sum of functions of one coordinate is approximated coordinate by coordinate,
# mean m and slope 12 * integral of f(x) (x - 1/2).
SOLUTIONS = {
    "sin_product": ManufacturedSolution(
        _sin_product,
        lambda x: -(math.pi**2) * x.shape[-1] * _sin_product(x),
        lambda x: torch.full_like(x[:, 0], (2 / math.pi) ** x.shape[-1]),
    ),
    "cos_sum": ManufacturedSolution(
        _cos_sum,
        lambda x: -(math.pi**2) * _cos_sum(x),
        lambda x: -24 / math.pi**2 * (x - 0.5).sum(-1),
    ),
    "pair_products": ManufacturedSolution(
        _pair_products,
        lambda x: torch.zeros_like(x[:, 0]),
        lambda x: (x / 2 - 1 / 8).sum(-1),
    ),
    "squared_norm": ManufacturedSolution(
        lambda x: (x * x).sum(-1),
        lambda x: torch.full_like(x[:, 0], 2.0 * x.shape[-1]),
        lambda x: (x - 1 / 6).sum(-1),
    ),
    "exp_mean": ManufacturedSolution(
        lambda x: x.exp().mean(-1),
        lambda x: x.exp().mean(-1),
        lambda x: math.e - 1 + 6 * (3 - math.e) * (x - 0.5).mean(-1),
    ),
}


class PoissonBox(PDE):
    """`Laplacian u = f` in the unit box with known values on its surface.

    Args:
        dim: Number of space dimensions d.
        solution: One of `SOLUTIONS`.
        boundary_weight: Weight of the mean squared boundary error in the loss.

    Raises:
        InvalidArgument: For an unknown solution, an odd dimension where pairs are needed, or a
            weight that is not positive.

    Example:
        >>> import torch
        >>> from sciml.physics import PoissonBox
        >>> problem = PoissonBox(dim=2, solution="sin_product")
        >>> centre = torch.full((1, 2), 0.5)
        >>> round(problem.exact(centre).item(), 4), round(problem.source(centre).item(), 4)
        (1.0, -19.7392)
    """

    def __init__(
        self, *, dim: int, solution: str = "sin_product", boundary_weight: float = 1.0
    ) -> None:
        super().__init__(dim=dim)
        check_choice("problem.solution", solution, tuple(SOLUTIONS))
        if solution == "pair_products" and dim % 2:
            raise InvalidArgument(
                f"problem.dim={dim}", "an even number for problem.solution=pair_products"
            )
        weight = check_positive("problem.boundary_weight", boundary_weight)
        self.conditions = {"boundary": weight}
        self.solution = solution
        self._functions = SOLUTIONS[solution]

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return `Laplacian u - f`, `(N,)`; f is computed if the points carry none."""
        source = self.source(p.x) if p.source is None else p.source
        return u.laplacian - source

    def source(self, x: Tensor) -> Tensor:
        """Return f `(N,)` for x `(N, d)`."""
        return self._functions.laplacian(x)

    def source_gradient(self, p: Points) -> Tensor:
        """Return grad f `(N, d)`."""
        with torch.enable_grad():
            x = p.x.detach().requires_grad_()
            # the product keeps constant sources differentiable
            f = self.source(x).sum() + 0 * x.sum()
            return torch.autograd.grad(f, x)[0]

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float32 points uniform in the box, with source."""
        x = samplers.box(n, self.dim, generator)
        return with_source(Points(x), self.source(x))

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float64 points uniform in the box, with source."""
        x = samplers.box(n, self.dim, generator, dtype=torch.float64)
        return with_source(Points(x), self.source(x))

    def sample_condition(self, name: str, n: int, generator: torch.Generator) -> Points:
        """Return `n` points uniform on the surface; `source` is the value there."""
        x = samplers.box_boundary(n, self.dim, generator)
        return with_source(Points(x), self._functions.value(x))

    def condition_residual(self, name: str, u: Fields, p: Points) -> Tensor:
        """Return `u - u*` `(N,)`."""
        return u.value - p.source

    def exact(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the solution `(N,)` in float64; differentiable."""
        return self._functions.value(x.double())

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return `linearised`, the best affine approximation in L2 of the box, in closed form."""
        return {"linearised": self._functions.affine(p.x.double())}

    def dirichlet(self, copies: int = 1) -> tuple[Domain, Dirichlet]:
        """Return the problem as walks take it, in so many equal boxes."""
        box = Box(torch.zeros(copies, self.dim), torch.ones(copies, self.dim))

        def boundary(x: Tensor, i: Tensor) -> Tensor:
            return self._functions.value(x.T)

        return box, Dirichlet(boundary, lambda x, i: -self.source(x.T))
