"""Poisson, Allen-Cahn and sine-Gordon equations in the unit ball.

    Laplacian u + R(u) = f  for |x| < 1,    u = 0  for |x| = 1
    R(u) = 0  (Poisson),    u - u^3  (Allen-Cahn),    sin u  (sine-Gordon)

with the solution u = (1 - |x|^2) s(x), s a two-body or three-body sum of `many_body`, and f made
from it:  Laplacian u = (1 - |x|^2) Laplacian s - 4 x . grad s - 2 d s.

In high dimension both sums collapse to a constant, so that an error of 2e-3 at d = 10 000 may be
no better than the best constant times 1 - |x|^2. `centred` removes the constant; compare with
`baselines` and the affine fit in any case.

Reference: Hu, Shukla, Karniadakis, Kawaguchi (2024), "Tackling the curse of dimensionality with
physics-informed neural networks", section 5. Departures: `centred`; the three-body source has
its chain rule factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.autodiff import squared_norm
from sciml.autodiff.directions import squared_length
from sciml.physics import samplers
from sciml.physics.checks import check_positive
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Ball, Domain
from sciml.physics.pde import PDE, Fields, LiftTerms, Points, missing, with_source
from sciml.physics.problems.many_body import TwoBody, many_body

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

# elements of float64 work space for `exact`: about 32 MB per temporary
EXACT_BLOCK = 2**22


class BallProblem(PDE):
    """Common part of the semilinear problems in the unit ball.

    Args:
        dim: Number of space dimensions d.
        solution: `two_body` or `three_body`.
        centred: Remove from the solution the constant to which it collapses in high dimension.
        coefficient_seed: NumPy seed of the coefficients of the solution; it fixes the problem
            instance, and runs with different seeds of training should share it.
        radius_power: Training points have |x| = U^(1/radius_power) with U uniform on [0, 1]: 1 is
            the published law and that of the test points; larger values bring points near the
            sphere, which say more about the linear part of the solution.

    Raises:
        InvalidArgument: For an unknown solution, a dimension too small for it or a bad seed.
    """

    feature_names = ("radius",)

    def __init__(
        self,
        *,
        dim: int,
        solution: str = "two_body",
        centred: bool = False,
        coefficient_seed: int = 0,
        radius_power: float = 1.0,
    ) -> None:
        super().__init__(dim=dim)
        self.radius_power = check_positive("problem.radius_power", radius_power)
        self.sum = many_body(solution, dim=dim, centred=centred, coefficient_seed=coefficient_seed)
        self.solution, self.centred, self.coefficient_seed = solution, centred, coefficient_seed
        self.residual_scale = 1.0 / dim

    def reaction(self, u: Tensor) -> Tensor:
        """Return R(u), elementwise."""
        raise missing(self, "reaction")

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return `Laplacian u + R(u) - f`, `(N,)`; f is computed if the points carry none."""
        source = self.source(p.x) if p.source is None else p.source
        return u.laplacian + self.reaction(u.value) - source

    def source(self, x: Tensor) -> Tensor:
        """Return f `(N,)` in the dtype of x, for x `(N, d)`; not differentiable."""
        w = 1 - torch.linalg.vector_norm(x, dim=1).double().square()  # needs no temporary
        return self._source(w, *self.sum.derivatives(x)).to(x.dtype)

    def source_gradient(self, p: Points) -> Tensor:
        """Return grad f `(N, d)`, by differentiation in float64."""
        with torch.enable_grad():
            x = p.x.detach().double().requires_grad_()
            f = self._source(envelope(x), *self.sum.smooth_derivatives(x))
            return torch.autograd.grad(f.sum(), x)[0].to(p.x.dtype)

    def _source(self, w: Tensor, s: Tensor, euler: Tensor, laplacian: Tensor) -> Tensor:
        """Return f from w = 1 - |x|^2, s, x . grad s and Laplacian s, each `(N,)`."""
        return w * laplacian - 4 * euler - 2 * self.dim * s + self.reaction(w * s)

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float32 points: direction uniform, |x| by `radius_power`, with source."""
        x = samplers.ball(n, self.dim, generator)
        if self.radius_power != 1.0:
            x *= torch.linalg.vector_norm(x, dim=1, keepdim=True) ** (1 / self.radius_power - 1)
        return with_source(Points(x), self.source(x))

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float64 points of the same law, with source."""
        x = samplers.ball(n, self.dim, generator, dtype=torch.float64)
        return with_source(Points(x), self.source(x))

    def lift(
        self, x: Differentiable, t: Differentiable | None
    ) -> tuple[Differentiable | None, Differentiable | None]:
        """Return (1 - |x|^2, None): the ansatz vanishes on the sphere."""
        return 1 - squared_norm(x), None

    def lift_terms(self, p: Points) -> LiftTerms:
        """Return the closed form of the lift: gradient -2 x, Laplacian -2 d."""
        one = torch.ones_like(p.x[:, 0])
        return LiftTerms(value=envelope(p.x), trace=-2 * self.dim * one, direction=-2 * one)

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return "radius" |x|^2 `(N, 1)`."""
        if name != "radius":
            return super().feature(name, x, t)
        return squared_norm(x)

    def exact(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the solution `(N,)` in float64; differentiable."""
        rows = max(1, EXACT_BLOCK // self.dim)
        return torch.cat([envelope(b) * self.sum.value(b) for b in x.double().split(rows)])

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return what is known without solving: `linearised` for the two-body sum.

        It is `1 - |x|^2` times the affine part of s to leading order in 1/d: in high dimension,
        where an affine fit by least squares is out of reach, its equal.
        """
        if not isinstance(self.sum, TwoBody):
            return {}
        x = p.x.double()
        w = envelope(x)
        # the mean of |x|^2 weighted by (1 - |x|^2)^2 for |x| uniform on [0, 1]
        return {"linearised": w * self.sum.linearised(x, mean_square=1 / 7)}

    def constant_basis(self, p: Points) -> tuple[Tensor, Tensor]:
        """Return (1 - |x|^2, 0), each `(N,)`."""
        w = envelope(p.x)
        return w, torch.zeros_like(w)


class Poisson(BallProblem):
    """`Laplacian u = f`; see `BallProblem` for the arguments.

    Example:
        >>> import torch
        >>> from sciml.physics import Poisson
        >>> problem = Poisson(dim=5)
        >>> p = problem.sample(8, torch.Generator().manual_seed(0))
        >>> tuple(p.x.shape), tuple(p.source.shape)
        ((8, 5), (8,))
        >>> boundary = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
        >>> abs(problem.exact(boundary, None).item())
        0.0
    """

    def reaction(self, u: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(u)

    def dirichlet(self, copies: int = 1) -> tuple[Domain, Dirichlet]:
        """Return the problem as walks take it, in so many equal balls."""
        ball = Ball(torch.ones(copies), torch.zeros(copies, self.dim))
        return ball, Dirichlet(lambda x, i: torch.zeros_like(x[0]), lambda x, i: -self.source(x.T))


class AllenCahn(BallProblem):
    """`Laplacian u + u - u^3 = f`; see `BallProblem` for the arguments.

    Example:
        >>> import torch
        >>> from sciml.physics import AllenCahn
        >>> problem = AllenCahn(dim=5)
        >>> problem.reaction(torch.tensor(0.5)).item()  # u - u^3
        0.375
        >>> tuple(problem.sample(8, torch.Generator().manual_seed(0)).x.shape)
        (8, 5)
    """

    def reaction(self, u: Tensor) -> Tensor:
        """Return `u - u^3`."""
        return u - u**3


class SineGordon(BallProblem):
    """`Laplacian u + sin u = f`; see `BallProblem` for the arguments.

    Example:
        >>> import torch
        >>> from sciml.physics import SineGordon
        >>> problem = SineGordon(dim=5)
        >>> round(problem.reaction(torch.tensor(0.5)).item(), 4)  # sin u
        0.4794
        >>> tuple(problem.sample(8, torch.Generator().manual_seed(0)).x.shape)
        (8, 5)
    """

    def reaction(self, u: Tensor) -> Tensor:
        """Return `sin u`."""
        return torch.sin(u)


def envelope(x: Tensor) -> Tensor:
    """Return `1 - |x|^2`, `(N,)`."""
    return 1 - squared_length(x)
