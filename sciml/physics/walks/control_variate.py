"""Less noise of walk on spheres: subtract a polynomial whose equation is known.

For any smooth psi the difference u - psi solves the same equation with other data,

    L u = -f,  u = g    =>    L (u - psi) = -(f + L psi),  u - psi = g - psi  on the boundary,

with L psi = alpha (Laplacian psi + grad log alpha . grad psi) - sigma psi. Walks for the right-hand
side estimate u - psi, and psi + estimate is an unbiased estimate of u as before, whatever psi is.
Its variance is of the size of the data that are left. psi minimises them over polynomials,

    mean over the boundary of (g - psi)^2 + share * mean over the domain of (f + L psi)^2,

a small least-squares problem per domain. It need not be accurate: it only has to leave less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain
from sciml.physics.walks.estimate import Estimate
from sciml.physics.walks.spheres import WalkOnSpheres

SHARE = 0.03  # a source of size 1 makes about this variance in a domain of size 1
RIDGE = 1e-7  # of the mean diagonal entry


@dataclass(frozen=True)
class Polynomials:
    """B polynomials in products of Chebyshev polynomials of `x / scale`.

    Attributes:
        coefficients: `(B, K)`.
        orders: `(K, d)` orders along the axes, as a list.
        scale: Unit of length.
    """

    coefficients: Tensor
    orders: tuple[tuple[int, ...], ...]
    scale: float

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the polynomials `(N,)` at `x (d, N)`."""
        own = self.coefficients.to(x).T.index_select(1, i)
        total = torch.zeros_like(x[0])
        for factor, row in zip(products(x / self.scale, self.orders), own, strict=True):
            total.addcmul_(factor, row)
        return total

    def laplacian(self) -> Polynomials:
        """Return the Laplacians."""
        return self._times(laplacian_matrix(self.orders, self.scale))

    def gradient(self) -> list[Polynomials]:
        """Return the derivatives along every axis."""
        axes = range(len(self.orders[0]))
        return [self._times(derivative_matrix(self.orders, self.scale, a, 1)) for a in axes]

    def _times(self, matrix: Tensor) -> Polynomials:
        """Return the polynomials `matrix @ coefficients`, without orders that vanish."""
        keep = [k for k, row in enumerate(matrix) if bool((row != 0).any())] or [0]
        orders = tuple(self.orders[k] for k in keep)
        return Polynomials(
            self.coefficients @ matrix[keep].T.to(self.coefficients), orders, self.scale
        )

    def float(self) -> Polynomials:
        """Return the polynomials in single precision."""
        return replace(self, coefficients=self.coefficients.float())


def orders_up_to(degree: int, dim: int) -> tuple[tuple[int, ...], ...]:
    """Return the orders of all products of total degree up to `degree`."""
    every = np.indices([degree + 1] * dim).reshape(dim, -1).T
    return tuple(tuple(int(o) for o in row) for row in every if row.sum() <= degree)


def products(x: Tensor, orders: tuple[tuple[int, ...], ...]) -> Iterator[Tensor]:
    """Yield the product of Chebyshev polynomials `(N,)` at `x (d, N)` for every row of orders."""
    most = max(max(row) for row in orders)
    tables = []
    for axis in x:
        table = [torch.ones_like(axis), axis]
        for _ in range(most - 1):
            table.append(2 * axis * table[-1] - table[-2])
        tables.append(table)
    for row in orders:
        factor = tables[0][row[0]]
        for table, order in zip(tables[1:], row[1:], strict=True):
            factor = factor * table[order] if order else factor
        yield factor


def derivative_matrix(
    orders: tuple[tuple[int, ...], ...], scale: float, axis: int, times: int
) -> Tensor:
    """Return the matrix `(K, K)` of a repeated derivative along an axis, on coefficients."""
    place = {row: k for k, row in enumerate(orders)}
    matrix = torch.zeros(len(orders), len(orders), dtype=torch.float64)
    for column, row in enumerate(orders):
        found = np.polynomial.chebyshev.chebder([0] * row[axis] + [1], times)
        for lower, value in enumerate(found):
            if value:
                at = place[(*row[:axis], lower, *row[axis + 1 :])]
                matrix[at, column] += float(value) / scale**times
    return matrix


def laplacian_matrix(orders: tuple[tuple[int, ...], ...], scale: float) -> Tensor:
    """Return the matrix `(K, K)` of the Laplacian on coefficients."""
    return sum(derivative_matrix(orders, scale, a, 2) for a in range(len(orders[0])))


def fitted(
    problem: Dirichlet,
    domain: Domain,
    on: Tensor,
    inner: Tensor,
    own: Tensor | None = None,
    degree: int = 8,
    scale: float = 1.5,
) -> Polynomials:
    """Return the polynomials that leave the least data, see the top of this file.

    Args:
        problem: The equation, with a constant screening or none, and a diffusion that has a
            method `log_gradient(x, i)`, such as `solutions.LogSine`, or none.
        domain: B domains.
        on: Points of their boundaries `(B, n, d)`.
        inner: Points inside `(B, m, d)`.
        own: Weights of the inner points `(B, m)`; 1 without.
        degree: Degree of the polynomials.
        scale: No point is farther from the origin along an axis.

    Raises:
        InvalidArgument: For a screening that varies in space or a diffusion without gradient.
    """
    alpha = problem.diffusion
    if callable(problem.screening):
        raise InvalidArgument("a screening that varies in space", "a constant one")
    if alpha is not None and not hasattr(alpha, "log_gradient"):
        raise InvalidArgument("a diffusion without gradient", "one with a method log_gradient")
    orders = orders_up_to(degree, domain.dim)
    count = domain.count
    (x, i), (y, j) = domain.columns(on.double()), domain.columns(inner.double())
    basis = torch.stack(list(products(x / scale, orders)), 1).view(count, -1, len(orders))
    g = problem.boundary(x, i).view(count, -1, 1)
    laplace = laplacian_matrix(orders, scale).to(basis)
    rows = torch.stack(list(products(y / scale, orders)), 1).view(count, -1, len(orders))
    image = rows @ laplace
    if alpha is not None:
        drift = alpha.log_gradient(y, j).view(domain.dim, count, -1, 1)
        for axis, along in enumerate(drift):
            image = image + along * (rows @ derivative_matrix(orders, scale, axis, 1).to(rows))
        image = image * alpha(y, j).view(count, -1, 1)
    if problem.screening is not None:
        sigma = torch.as_tensor(problem.screening).to(basis).reshape(-1, 1, 1)
        image = image - sigma * rows
    f = torch.zeros_like(y[0]) if problem.source is None else problem.source(y, j)
    weight = torch.ones_like(image[..., :1]) if own is None else own[..., None].to(image)
    weight = weight * (SHARE / weight.sum(1, keepdim=True))
    normal = basis.mT @ basis / basis.shape[1] + image.mT @ (weight * image)
    right = basis.mT @ g / basis.shape[1] - image.mT @ (weight * f.view(count, -1, 1))
    ridge = RIDGE * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    eye = torch.eye(len(orders), dtype=normal.dtype, device=normal.device)
    found = torch.linalg.solve(normal + ridge * eye, right)[..., 0]
    return Polynomials(found, orders, scale)


def remainder(problem: Dirichlet, psi: Polynomials) -> Dirichlet:
    """Return the problem that u - psi solves."""
    flat, bend, sigma = psi.float(), psi.laplacian().float(), problem.screening
    alpha = problem.diffusion
    slope = [] if alpha is None else [part.float() for part in psi.gradient()]

    def boundary(x: Tensor, i: Tensor) -> Tensor:
        return problem.boundary(x, i) - flat(x, i)

    def source(x: Tensor, i: Tensor) -> Tensor:
        left = bend(x, i)
        if alpha is not None:
            for along, part in zip(alpha.log_gradient(x, i), slope, strict=True):
                left = left.addcmul_(along, part(x, i))
            left = left * alpha(x, i)
        if sigma is not None:
            each = torch.as_tensor(sigma).to(x).expand(len(psi.coefficients))
            left = left - each[i] * flat(x, i)
        return left if problem.source is None else left + problem.source(x, i)

    return replace(problem, boundary=boundary, source=source)


def estimate(
    engine: WalkOnSpheres,
    domain: Domain,
    problem: Dirichlet,
    points: Tensor,
    generator: torch.Generator,
    psi: Polynomials | None = None,
    gradient: Tensor | None = None,
) -> Estimate:
    """Return estimates of u at `points (B, P, d)` with psi as control variate.

    Args:
        engine: How walks are made.
        domain: B domains.
        problem: Their equation.
        points: `(B, P, d)`.
        generator: Source of randomness.
        psi: Polynomials, or None.
        gradient: About that of u - psi, `(B, P, d)`; see `WalkOnSpheres`.
    """
    if psi is None:
        return engine(domain, problem, points, generator, gradient)
    found = engine(domain, remainder(problem, psi), points, generator, gradient)
    known = psi(*domain.columns(points.double())).view(found.mean.shape)
    return replace(found, mean=found.mean + known, halves=found.halves + known)
