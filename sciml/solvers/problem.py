"""Problem kinds, each with its optimality mapping F(x, theta) = 0.

    root            F itself
    fixed point     x - T(x, theta)
    minimise        grad_x f(x, theta), f one number per problem
    least squares   J^T r, the gradient of |r(x, theta)|^2 / 2

The sign of the fixed point's residual makes its Jacobian I - dT/dx, close to the identity, which is
what quasi-Newton methods start from and what truncated series expand around.

Reference: Blondel et al. 2021, arXiv 2105.15183 (table 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sciml.solvers.algebra.linear_operators import Linearised, Operator, Product, matrix_operator
from sciml.solvers.layout import Layout

ProblemKind = Literal["root", "fixed_point", "least_squares", "minimise"]


@dataclass(frozen=True)
class Problem:
    """A batch of problems with parameters still open.

    Attributes:
        kind: What `function` means, see above.
        function: `function(x, *theta)`.
        layout: Splits x into problems.
        symmetric: Whether the Jacobian of F is symmetric; always so for minimise, least squares.
        positive_definite: Whether it is positive definite at the solution.
        product: Where F is affine in x, its linear part `product(x, *theta)`: products with the
            Jacobian then need no differentiation.
        jacobian: Of a least-squares problem with `Rows`: `jacobian(x, *theta)` returns dr/dx
            `(*P, m, n)` where a formula is cheaper than differentiation.
        hessian: `hessian(x, *theta)` returns dF/dx `(*P, n, n)`, likewise.
        gradient: `gradient(x, *theta)` returns F of a least-squares problem, `J^T r`, likewise;
            it has derivatives in x and theta.
        project: Where F is affine with a singular symmetric matrix: the orthogonal projection onto
            its range, see `Operator`.
        part: Where F is affine: returns the operator of a slice of the batch, see `Operator`.
    """

    kind: ProblemKind
    function: Callable[..., Tensor]
    layout: Layout
    symmetric: bool = False
    positive_definite: bool = False
    product: Callable[..., Tensor] | None = None
    jacobian: Callable[..., Tensor] | None = None
    hessian: Callable[..., Tensor] | None = None
    gradient: Callable[..., Tensor] | None = None
    project: Product | None = None
    part: Callable[[slice], Operator] | None = None

    def residual(self, x: Tensor, *theta: Tensor) -> Tensor:
        """Return F, shape of x; differentiable in x and theta under every transform."""
        if self.kind == "root":
            return self.function(x, *theta)
        if self.kind == "fixed_point":
            return x - self.function(x, *theta)
        if self.kind == "minimise":
            return torch.func.grad(lambda y: self.function(y, *theta).sum())(x)
        if self.gradient is not None:
            return self.gradient(x, *theta)
        rows, pull = torch.func.vjp(lambda y: self.function(y, *theta), x)
        return pull(rows)[0]

    def stacked(self, in_dims: tuple[int | None, ...], randomness: str) -> Problem:
        """Return the problem with one more leading axis; `in_dims` of theta as in vmap."""

        def wider(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return torch.vmap(f, in_dims=(0, *in_dims), randomness=randomness)

        names = ("function", "product", "jacobian", "hessian", "gradient")
        known = {name: getattr(self, name) for name in names}
        known = {name: None if f is None else wider(f) for name, f in known.items()}
        project = None if self.project is None else torch.vmap(self.project)
        return replace(self, layout=self.layout.stacked(), project=project, part=None, **known)

    def operator(self, x: Tensor, theta: tuple[Tensor, ...], *, gauss_newton: bool) -> Operator:
        """Return dF/dx at a point, or `J^T J` for the Gauss-Newton approximation."""
        matrix = self._matrix(x, theta, gauss_newton=gauss_newton)
        if matrix is not None:
            return matrix_operator(
                matrix,
                x,
                self.layout,
                symmetric=gauss_newton or self.symmetric or self.kind == "least_squares",
                positive_definite=self.positive_definite,
            )
        if gauss_newton:
            rows = Linearised(lambda y: self.function(y, *theta), x)
            return rows.normal_operator(self.layout)
        symmetric = self.symmetric or self.kind in ("minimise", "least_squares")
        if self.product is not None:
            return self._affine(x, theta)
        return Linearised(lambda y: self.residual(y, *theta), x).operator(
            self.layout, symmetric=symmetric, positive_definite=self.positive_definite
        )

    def _matrix(self, x: Tensor, theta: tuple[Tensor, ...], *, gauss_newton: bool) -> Tensor | None:
        """Return dF/dx (or `J^T J`) as a matrix where there is a formula, else None."""
        if gauss_newton and self.jacobian is not None:
            rows = self.jacobian(x, *theta)
            return rows.mT @ rows
        if not gauss_newton and self.hessian is not None:
            return self.hessian(x, *theta)
        return None

    def _affine(self, x: Tensor, theta: tuple[Tensor, ...]) -> Operator:
        def matvec(v: Tensor) -> Tensor:
            return self.product(v, *theta)

        symmetric = self.symmetric or self.positive_definite
        return Operator(
            matvec,
            None if symmetric else Linearised(matvec, x).transposed_times,
            x,
            self.layout,
            symmetric=self.symmetric,
            positive_definite=self.positive_definite,
            project=self.project,
            part=self.part,
        )


class Task:
    """A problem with its parameters bound: what a forward solver sees.

    Attributes:
        kind: Of the problem.
        layout: Splits x into problems.
        evaluations: Calls of the function so far.
    """

    def __init__(self, problem: Problem, theta: tuple[Tensor, ...]) -> None:
        self.problem, self.theta = problem, theta
        self.kind, self.layout = problem.kind, problem.layout
        self.evaluations = 0
        self._first: Tensor | None = None

    def residual(self, x: Tensor) -> Tensor:
        """Return F(x), shape of x."""
        self.evaluations += 1
        return self.problem.residual(x, *self.theta)

    def scale(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return what a relative tolerance refers to: |T(x)|, or |F| at the first iterate."""
        if self.kind == "fixed_point":
            return self.layout.norm(x - residual)
        if self._first is None:
            self._first = self.layout.norm(residual)
        return self._first

    def rows(self, x: Tensor) -> Tensor:
        """Return r(x) of a least-squares problem."""
        self.evaluations += 1
        return self.problem.function(x, *self.theta)

    @property
    def has_jacobian(self) -> bool:
        """Return whether a formula for the Jacobian of the rows is known."""
        return self.problem.jacobian is not None

    def jacobian(self, x: Tensor) -> Tensor:
        """Return dr/dx `(*P, m, n)` of a least-squares problem by its formula."""
        return self.problem.jacobian(x, *self.theta)

    def objective(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the objective `(*P)` and its gradient, for minimise and least squares."""
        self.evaluations += 1
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.problem.function(x, *self.theta)
            value = 0.5 * self.layout.dot(y, y) if self.kind == "least_squares" else y
            grad = torch.autograd.grad(value.sum(), x, allow_unused=True, materialize_grads=True)[0]
        return value.detach(), grad

    def linearise(self, x: Tensor) -> Operator:
        """Return dF/dx at x."""
        self.evaluations += 1
        return self.problem.operator(x, self.theta, gauss_newton=False)
