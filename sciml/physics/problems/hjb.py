"""Hamilton-Jacobi-Bellman equations with known solutions.

    u_t + Lap u - mu |grad u|^2 = 0      on [0, T] x R^d,      u(T, x) = g(x)

is the value of steering `dX = 2 sqrt(mu) a dt + sqrt(2) dW` at cost `int |a|^2 dt + g(X_T)`.
Three terminal costs: logarithmic and radial (`HJBLQG`), logarithmic over an anisotropic
quadratic form of Rosenbrock type (`HJBRosenbrock`), and a linear one with the Hamiltonian
`(1/d) sum |d_i u|^c` (`HJBLinear`). The unknown is written `u = (1 - t/T) n + g`.

Where to sample: u(t, x) depends on g at `x + sqrt(2 (T - t)) W`, that is at |x|^2 up to 3d for
x drawn from N(0, I). `sampling="dependence"` (default) therefore draws training points along
the diffusion that starts from the evaluation law, x ~ N(0, (1 + 2s) I) with s ~ U[0, t];
`sampling="evaluation"` is the published law x ~ N(0, I), kept for comparison: on that thin
shell alone the equation does not determine u.

Reference: Hu, Shukla, Karniadakis, Kawaguchi 2023, arXiv 2307.12306, section 5.2 (problems);
the deterministic references are in `sciml.physics.references.quadrature`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.autodiff import quadratic_form, squared_norm
from sciml.physics.checks import check_choice, check_positive, check_seed
from sciml.physics.pde import PDE, Fields, LiftTerms, Points, check_dim, missing
from sciml.physics.references.quadrature import (
    LogQuadraticReference,
    SymmetricTridiagonal,
    lqg_value,
)
from sciml.physics.samplers import gaussian, uniform

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

SAMPLING = ("dependence", "evaluation")


class TerminalCost(PDE):
    """Shared part of the three problems: sampling, hard terminal condition, baselines.

    Subclasses define `terminal(x)` (polymorphic, `(N, 1)`), `terminal_laplacian(x)` `(N,)`,
    `residual` and `exact`.

    Residuals are of order one at every dimension (`Lap g` and `|grad g|^2` stay bounded), so
    `residual_scale` is 1.

    Args:
        dim: Number of space dimensions d.
        final_time: T, positive.
        sampling: Law of the training points, "dependence" or "evaluation".
    """

    time_dependent = True
    residual_scale = 1.0
    feature_names = ("terminal", "radius")

    def __init__(self, *, dim: int, final_time: float = 1.0, sampling: str = "dependence") -> None:
        super().__init__(dim=dim)
        self.final_time = check_positive("problem.final_time", final_time)
        self.sampling = check_choice("problem.sampling", sampling, SAMPLING)

    def terminal(self, x: Differentiable) -> Differentiable:
        """Return the terminal cost g(x) `(N, 1)`; tensors or coordinates."""
        raise missing(self, "terminal")

    def terminal_laplacian(self, x: Tensor) -> Tensor | None:
        """Return Lap g `(N,)`, or None for zero."""
        return None

    def terminal_gradient(self, x: Tensor) -> Tensor:
        """Return grad g `(N, d)`."""
        raise missing(self, "terminal_gradient")

    def to_go(self, t: Tensor) -> Tensor:
        """Return tau = T - t `(N,)` from t `(N, 1)`."""
        return self.final_time - t[:, 0]

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` training points, float32."""
        t = uniform(n, generator, high=self.final_time)
        if self.sampling == "evaluation":
            return Points(gaussian(n, self.dim, generator), t)
        s = t * uniform(n, generator)
        return Points(gaussian(n, self.dim, generator, 1.0 + 2.0 * s), t)

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` evaluation points, x ~ N(0, I) and t ~ U[0, T], float64."""
        t = uniform(n, generator, high=self.final_time, dtype=torch.float64)
        return Points(gaussian(n, self.dim, generator, dtype=torch.float64), t)

    def lift(
        self, x: Differentiable, t: Differentiable | None
    ) -> tuple[Differentiable | None, Differentiable | None]:
        """Return A = 1 - t/T and B = g(x)."""
        return 1.0 - t / self.final_time, self.terminal(x)

    def lift_terms(self, p: Points) -> LiftTerms:
        """Return the closed form; only the Laplacian of the network is left to estimate."""
        a = 1.0 - p.t[:, 0] / self.final_time
        return LiftTerms(
            value=a,
            dt=torch.full_like(a, -1.0 / self.final_time),
            offset=self.terminal(p.x)[:, 0],
            offset_trace=self.terminal_laplacian(p.x),
        )

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return "terminal" g(x) or "radius" |x|^2 / d, each `(N, 1)`."""
        if name == "terminal":
            return self.terminal(x)
        if name == "radius":
            return squared_norm(x) / self.dim
        return super().feature(name, x, t)

    def feature_terms(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient `(N, d)` and Laplacian `(N,)` of a feature."""
        if name == "radius":
            return 2.0 * x / self.dim, torch.full_like(x[:, 0], 2.0)
        laplacian = self.terminal_laplacian(x)
        flat = torch.zeros_like(x[:, 0]) if laplacian is None else laplacian
        return self.terminal_gradient(x), flat

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return u = g, what an untrained network gives."""
        return {"terminal": self.terminal(p.x)[:, 0]}

    def constant_basis(self, p: Points) -> tuple[Tensor, Tensor]:
        """Return (1, 0): the trivial answer is the best constant u, not the best constant n."""
        return torch.ones_like(p.x[:, 0]), torch.zeros_like(p.x[:, 0])


class HJBLQG(TerminalCost):
    """Linear-quadratic-Gaussian control with g = log((1 + |x|^2) / 2).

    Args:
        dim: Number of space dimensions d.
        mu: Weight of |grad u|^2, positive.
        final_time: T, positive.
        sampling: Law of the training points, "dependence" or "evaluation".

    Example:
        >>> import torch
        >>> from sciml.physics import HJBLQG
        >>> problem = HJBLQG(dim=10)
        >>> round(problem.exact(torch.zeros(1, 10), torch.zeros(1, 1)).item(), 3)
        2.157
    """

    reference_accuracy = 1e-12
    squared_gradient_only = True

    def __init__(
        self,
        *,
        dim: int,
        mu: float = 1.0,
        final_time: float = 1.0,
        sampling: str = "dependence",
    ) -> None:
        super().__init__(dim=dim, final_time=final_time, sampling=sampling)
        self.mu = check_positive("problem.mu", mu)

    def terminal(self, x: Differentiable) -> Differentiable:
        """Return g = log((1 + |x|^2) / 2) `(N, 1)`."""
        return torch.log(0.5 + 0.5 * squared_norm(x))

    def terminal_laplacian(self, x: Tensor) -> Tensor:
        """Return Lap g = 2d/(1 + |x|^2) - 4|x|^2/(1 + |x|^2)^2 `(N,)`."""
        rho = x.square().sum(-1)
        return (2.0 * self.dim - 4.0 * rho / (1.0 + rho)) / (1.0 + rho)

    def terminal_gradient(self, x: Tensor) -> Tensor:
        """Return grad g = 2x/(1 + |x|^2) `(N, d)`."""
        return 2.0 * x / (1.0 + squared_norm(x))

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return u_t + Lap u - mu |grad u|^2 `(N,)`."""
        return u.dt + u.trace - self.mu * u.grad.square().sum(-1)

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return u by quadrature `(N,)`, float64."""
        x, t = x.double(), t.double()
        return lqg_value(x.square().sum(-1), self.to_go(t), dim=self.dim, mu=self.mu)

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return u = g, and log of the mean argument (exact as d grows)."""
        rho = p.x.square().sum(-1)
        closed = torch.log((1.0 + rho + 2.0 * self.dim * self.to_go(p.t)) / 2.0)
        return super().baselines(p) | {"closed_form": closed}


class HJBRosenbrock(TerminalCost):
    """Anisotropic, inseparable cost g = log(1 + sum_i a_i (x_i - x_{i+1})^2 + b_i x_{i+1}^2).

    Args:
        dim: Number of space dimensions d, at least 2.
        coefficient_seed: NumPy seed of a, b ~ U[0.5, 1.5] (a drawn first); part of the problem,
            independent of the run's seed.
        mu: Weight of |grad u|^2, positive.
        final_time: T, positive.
        sampling: Law of the training points, "dependence" or "evaluation".

    Example:
        >>> import torch
        >>> from sciml.physics import HJBRosenbrock
        >>> problem = HJBRosenbrock(dim=4)
        >>> p = problem.sample_test(5, torch.Generator().manual_seed(0))
        >>> problem.feature_names, sorted(problem.baselines(p))
        (('terminal', 'radius', 'second_moment'), ['closed_form', 'terminal'])
    """

    feature_names = (*TerminalCost.feature_names, "second_moment")
    reference_accuracy = 1e-11
    squared_gradient_only = True

    def __init__(
        self,
        *,
        dim: int,
        coefficient_seed: int = 0,
        mu: float = 1.0,
        final_time: float = 1.0,
        sampling: str = "dependence",
    ) -> None:
        check_dim(dim, least=2)
        super().__init__(dim=dim, final_time=final_time, sampling=sampling)
        self.mu = check_positive("problem.mu", mu)
        rng = np.random.RandomState(check_seed("problem.coefficient_seed", coefficient_seed))
        a = torch.from_numpy(rng.uniform(0.5, 1.5, dim - 1))
        b = torch.from_numpy(rng.uniform(0.5, 1.5, dim - 1))
        pad = torch.nn.functional.pad
        self.matrix = SymmetricTridiagonal(pad(a, (0, 1)) + pad(a + b, (1, 0)), -a)
        self.trace = float(self.matrix.diagonal.sum())
        self._squared_diagonal = self.matrix.squared_diagonal()
        self.reference = LogQuadraticReference(self.matrix, self.mu)

    def terminal(self, x: Differentiable) -> Differentiable:
        """Return g = log(1 + x.A x) `(N, 1)`."""
        return torch.log1p(quadratic_form(x, self.matrix.matvec, self.matrix.diagonal))

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return also "second_moment" x.A^2 x / tr A^2, next after x.A x in how u sees x."""
        if name != "second_moment":
            return super().feature(name, x, t)
        diagonal = self._squared_diagonal
        form = quadratic_form(x, lambda y: self.matrix.matvec(self.matrix.matvec(y)), diagonal)
        return form / float(diagonal.sum())

    def terminal_laplacian(self, x: Tensor) -> Tensor:
        """Return Lap g = 2 tr A/(1 + x.Ax) - 4|Ax|^2/(1 + x.Ax)^2 `(N,)`."""
        ax = self.matrix.matvec(x)
        whole = 1.0 + (x * ax).sum(-1)
        return (2.0 * self.trace - 4.0 * ax.square().sum(-1) / whole) / whole

    def terminal_gradient(self, x: Tensor) -> Tensor:
        """Return grad g = 2Ax/(1 + x.Ax) `(N, d)`."""
        ax = self.matrix.matvec(x)
        return 2.0 * ax / (1.0 + (x * ax).sum(-1, keepdim=True))

    def feature_terms(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient `(N, d)` and Laplacian `(N,)` of a feature."""
        if name != "second_moment":
            return super().feature_terms(name, x)
        size = float(self._squared_diagonal.sum())
        gradient = 2.0 * self.matrix.matvec(self.matrix.matvec(x)) / size
        return gradient, torch.full_like(x[:, 0], 2.0)

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return u_t + Lap u - mu |grad u|^2 `(N,)`."""
        return u.dt + u.trace - self.mu * u.grad.square().sum(-1)

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return u by quadrature `(N,)`, float64."""
        return self.reference(x.double(), self.to_go(t.double()))

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return u = g, and log of the mean argument (exact as d grows)."""
        form = (p.x * self.matrix.matvec(p.x)).sum(-1)
        closed = torch.log1p(form + 2.0 * self.trace * self.to_go(p.t))
        return super().baselines(p) | {"closed_form": closed}
