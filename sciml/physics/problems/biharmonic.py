"""Biharmonic equation in an annulus.

    Laplacian^2 u = f  for 1 < |x| < 2,    u = 0  for |x| = 1 and |x| = 2

with the solution u = A s, A = (1 - |x|^2) (4 - |x|^2), s the three-body sum of `many_body`.
A fourth-order equation needs two conditions on each sphere. The reference imposes the value only
(the ansatz A n), which leaves the solution undetermined: in five dimensions, say,
r^2 - 1 + 24/7 (1/r^3 - 1) vanishes on both spheres and so does its bilaplacian. The soft condition
`normal_derivative` supplies the missing one; with its weight 0 the problem is the published one.

Source: for radial factors R(rho), rho = |x|^2, and any g
    Laplacian(R g) = R Laplacian g + 4 R' x.grad g + (2 d R' + 4 rho R'') g.
Twice applied to A s with F = Laplacian s and B = 4 A' = 8 rho - 20,
K = Laplacian A = (4 d + 8) rho - 10 d:
    f = A Laplacian F + 2 B x.grad F + 2 (B + K) F + 32 x^T (Hessian s) x
        + (32 d + 64) x.grad s + 8 d (d + 2) s.

Reference: Hu, Shi, Karniadakis, Kawaguchi (2024), "Hutchinson trace estimation for
high-dimensional and high-order physics-informed neural networks", section 5; their source comes
from automatic differentiation, this one is closed and costs O(d). Departures: `centred`, the
condition on the normal derivative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.autodiff import squared_norm
from sciml.physics import samplers
from sciml.physics.checks import check_number, check_positive
from sciml.physics.pde import PDE, Fields, Points, with_source
from sciml.physics.problems.many_body import ThreeBody
from sciml.physics.problems.unit_ball import EXACT_BLOCK

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


class Biharmonic(PDE):
    """`Laplacian^2 u = f` in the annulus `1 < |x| < 2`, with three-body solution.

    Residuals grow like 8 d^2 |u|, which `residual_scale` = 1/d^2 takes out.

    Args:
        dim: Number of space dimensions d, at least 3.
        centred: Remove from the solution the constant to which it collapses in high dimension.
        coefficient_seed: NumPy seed of the coefficients of the solution.
        normal_weight: Weight of the soft condition on the normal derivative; 0 for none.

    Raises:
        InvalidArgument: For a dimension below 3, a bad seed or a negative weight.

    Example:
        >>> import torch
        >>> from sciml.physics import Biharmonic
        >>> problem = Biharmonic(dim=4)
        >>> p = problem.sample(8, torch.Generator().manual_seed(0))
        >>> problem.order, tuple(p.x.shape), tuple(problem.exact(p.x).shape)
        (4, (8, 4), (8,))
    """

    order = 4
    feature_names = ("radius",)

    def __init__(
        self,
        *,
        dim: int,
        centred: bool = False,
        coefficient_seed: int = 0,
        normal_weight: float = 1.0,
    ) -> None:
        super().__init__(dim=dim)
        self.sum = ThreeBody(dim=dim, centred=centred, coefficient_seed=coefficient_seed)
        self.centred, self.coefficient_seed = centred, coefficient_seed
        self.residual_scale = 1.0 / dim**2
        if check_number("problem.normal_weight", normal_weight) != 0:
            weight = check_positive("problem.normal_weight", normal_weight)
            self.conditions = {"normal_derivative": weight}

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return `Laplacian^2 u - f`, `(N,)`; f is computed if the points carry none."""
        source = self.source(p.x) if p.source is None else p.source
        return u.bilaplacian - source

    def source(self, x: Tensor) -> Tensor:
        """Return f `(N,)` in the dtype of x, for x `(N, d)`; not differentiable."""
        rho = torch.linalg.vector_norm(x, dim=1).double().square()
        return self._source(rho, *self.sum.fourth_order(x)).to(x.dtype)

    def source_gradient(self, p: Points) -> Tensor:
        """Return grad f `(N, d)`, by differentiation in float64."""
        with torch.enable_grad():
            x = p.x.detach().double().requires_grad_()
            f = self._source((x * x).sum(1), *self.sum.fourth_order(x, smooth=True))
            return torch.autograd.grad(f.sum(), x)[0].to(p.x.dtype)

    def _source(
        self,
        rho: Tensor,
        s: Tensor,
        euler: Tensor,
        hessian: Tensor,
        lap: Tensor,
        euler_lap: Tensor,
        bilap: Tensor,
    ) -> Tensor:
        """Return f by the formula above, all arguments `(N,)`."""
        d = self.dim
        b, k = 8 * rho - 20, (4 * d + 8) * rho - 10 * d
        inner = (1 - rho) * (4 - rho) * bilap + 2 * b * euler_lap + 2 * (b + k) * lap
        return inner + 32 * hessian + (32 * d + 64) * euler + 8 * d * (d + 2) * s

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float32 points: direction uniform, |x| uniform on [1, 2], with source."""
        x = samplers.annulus(n, self.dim, 1.0, 2.0, generator)
        return with_source(Points(x), self.source(x))

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float64 points of the same law, with source."""
        x = samplers.annulus(n, self.dim, 1.0, 2.0, generator, dtype=torch.float64)
        return with_source(Points(x), self.source(x))

    def sample_condition(self, name: str, n: int, generator: torch.Generator) -> Points:
        """Return `n` points on the two spheres; `source` is the normal derivative there."""
        radius = 1.0 + torch.randint(2, (n, 1), generator=generator, device=generator.device)
        x = samplers.sphere(n, self.dim, generator, radius)
        # dA/dr = 2 r (2 r^2 - 5), and A itself is zero
        s, _, _ = self.sum.derivatives(x)
        slope = (2 * radius * (2 * radius**2 - 5))[:, 0] * s
        return Points(x, source=slope.to(x.dtype))

    def condition_residual(self, name: str, u: Fields, p: Points) -> Tensor:
        """Return `du/dr - du*/dr` `(N,)`."""
        radius = torch.linalg.vector_norm(p.x, dim=1)
        return (u.grad * p.x).sum(1) / radius - p.source

    def lift(
        self, x: Differentiable, t: Differentiable | None
    ) -> tuple[Differentiable | None, Differentiable | None]:
        """Return ((1 - |x|^2) (4 - |x|^2), None): the ansatz vanishes on both spheres."""
        rho = squared_norm(x)
        return (1 - rho) * (4 - rho), None

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return "radius" |x|^2 `(N, 1)`."""
        if name != "radius":
            return super().feature(name, x, t)
        return squared_norm(x)

    def exact(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the solution `(N,)` in float64; differentiable."""
        rows = max(1, EXACT_BLOCK // self.dim)
        return torch.cat([self._factor(b) * self.sum.value(b) for b in x.double().split(rows)])

    def constant_basis(self, p: Points) -> tuple[Tensor, Tensor]:
        """Return ((1 - |x|^2) (4 - |x|^2), 0), each `(N,)`."""
        factor = self._factor(p.x)
        return factor, torch.zeros_like(factor)

    @staticmethod
    def _factor(x: Tensor) -> Tensor:
        rho = (x * x).sum(-1)
        return (1 - rho) * (4 - rho)
