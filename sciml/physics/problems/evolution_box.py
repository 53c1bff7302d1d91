"""Two time-dependent problems in a box with soft initial and boundary data.

    heat:               u_t = kappa Laplacian u                                   in (0, 1)^d
    log-Fokker-Planck:  q_t = Laplacian q + |grad q|^2 + x . grad q / 2 + d / 2   in (-5, 5)^d

The second is the logarithm q = log p of the density p of `dX = -X/2 dt + sqrt(2) dW` started from
N(0, I), which is N(0, v I) with variance v(t) = 2 - exp(-t):

    q = -|x|^2 / (2 v) - (d / 2) log(2 pi v).

Both are used at d = 4 and d = 9 to compare second-order optimizers for physics-informed networks;
residuals enter the loss unscaled there, and so they do here.

Reference: Dangel, Mueller, Zeinhofer (2024), "Kronecker-factored approximate curvature for
physics-informed neural networks", section 4 and appendix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.physics import samplers
from sciml.physics.checks import check_choice, check_positive
from sciml.physics.pde import PDE, Fields, Points, with_source


class EvolutionInBox(PDE):
    """Common part: sampling in a box, initial and boundary values as soft conditions.

    Args:
        dim: Number of space dimensions d.
        low: Lower end of the box in every coordinate.
        high: Upper end.
        final_time: T; times are uniform on [0, T].
        initial_weight: Weight of the mean squared error at t = 0 in the loss.
        boundary_weight: Weight of the mean squared error on the surface in the loss.

    Raises:
        InvalidArgument: For a time or weight that is not positive.
    """

    time_dependent = True

    def __init__(
        self,
        *,
        dim: int,
        low: float,
        high: float,
        final_time: float,
        initial_weight: float,
        boundary_weight: float,
    ) -> None:
        super().__init__(dim=dim)
        self.low, self.high = low, high
        self.final_time = check_positive("problem.final_time", final_time)
        self.conditions = {
            "initial": check_positive("problem.initial_weight", initial_weight),
            "boundary": check_positive("problem.boundary_weight", boundary_weight),
        }

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float32 points uniform in the box and in time."""
        return self._sample(n, generator, torch.float32)

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` float64 points of the same law."""
        return self._sample(n, generator, torch.float64)

    def _sample(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Points:
        x = samplers.box(n, self.dim, generator, self.low, self.high, dtype)
        return Points(x, samplers.uniform(n, generator, 0.0, self.final_time, dtype))

    def sample_condition(self, name: str, n: int, generator: torch.Generator) -> Points:
        """Return `n` points at t = 0 or on the surface; `source` is the value there."""
        if name == "initial":
            x = samplers.box(n, self.dim, generator, self.low, self.high)
            t = torch.zeros_like(x[:, :1])
        else:
            x = samplers.box_boundary(n, self.dim, generator, self.low, self.high)
            t = samplers.uniform(n, generator, 0.0, self.final_time)
        return with_source(Points(x, t), self.exact(x, t).to(x.dtype))

    def condition_residual(self, name: str, u: Fields, p: Points) -> Tensor:
        """Return `u - u*` `(N,)`."""
        return u.value - p.source


class Heat(EvolutionInBox):
    """`u_t = kappa Laplacian u` in the unit box.

    Solutions: `sin_sum`, sum_i sin(2 x_i) exp(-4 kappa t), and `sin_product`,
    prod_i sin(pi x_i) exp(-d pi^2 kappa t), which vanishes on the surface.

    Args:
        dim: Number of space dimensions d.
        solution: `sin_sum` or `sin_product`.
        conductivity: kappa.
        final_time: T.
        initial_weight: Weight of the initial condition in the loss.
        boundary_weight: Weight of the boundary condition in the loss.

    Raises:
        InvalidArgument: For an unknown solution, or a number that is not positive.

    Example:
        >>> import torch
        >>> from sciml.physics import Heat
        >>> problem = Heat(dim=2, solution="sin_product", conductivity=0.1)
        >>> x, t = torch.full((1, 2), 0.5), torch.tensor([[0.5]])
        >>> round(problem.exact(x, t).item(), 4)  # exp(-0.1 pi^2)
        0.3727
    """

    def __init__(
        self,
        *,
        dim: int = 4,
        solution: str = "sin_sum",
        conductivity: float = 0.25,
        final_time: float = 1.0,
        initial_weight: float = 1.0,
        boundary_weight: float = 1.0,
    ) -> None:
        super().__init__(
            dim=dim,
            low=0.0,
            high=1.0,
            final_time=final_time,
            initial_weight=initial_weight,
            boundary_weight=boundary_weight,
        )
        self.solution = check_choice("problem.solution", solution, ("sin_sum", "sin_product"))
        self.conductivity = check_positive("problem.conductivity", conductivity)

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return `u_t - kappa Laplacian u`, `(N,)`."""
        return u.dt - self.conductivity * u.laplacian

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the solution `(N,)` in float64; differentiable."""
        x, t = x.double(), t.double()[:, 0]
        if self.solution == "sin_sum":
            return torch.exp(-4 * self.conductivity * t) * torch.sin(2 * x).sum(-1)
        decay = torch.exp(-self.dim * math.pi**2 * self.conductivity * t)
        return decay * torch.sin(math.pi * x).prod(-1)


class LogFokkerPlanck(EvolutionInBox):
    """`q_t = Laplacian q + |grad q|^2 + x . grad q / 2 + d / 2` in (-5, 5)^d.

    Args:
        dim: Number of space dimensions d.
        final_time: T.
        initial_weight: Weight of the initial condition in the loss.
        boundary_weight: Weight of the boundary condition in the loss.

    Raises:
        InvalidArgument: For a number that is not positive.

    Example:
        >>> import torch
        >>> from sciml.physics import LogFokkerPlanck
        >>> problem = LogFokkerPlanck(dim=3)
        >>> p = problem.sample_test(8, torch.Generator().manual_seed(0))
        >>> sorted(problem.conditions), tuple(problem.exact(p.x, p.t).shape)
        (['boundary', 'initial'], (8,))
    """

    def __init__(
        self,
        *,
        dim: int = 9,
        final_time: float = 1.0,
        initial_weight: float = 1.0,
        boundary_weight: float = 1.0,
    ) -> None:
        super().__init__(
            dim=dim,
            low=-5.0,
            high=5.0,
            final_time=final_time,
            initial_weight=initial_weight,
            boundary_weight=boundary_weight,
        )

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return `q_t - Laplacian q - |grad q|^2 - x . grad q / 2 - d / 2`, `(N,)`."""
        first = (u.grad * (u.grad + p.x / 2)).sum(-1)
        return u.dt - u.laplacian - first - self.dim / 2

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the log-density `(N,)` in float64; differentiable."""
        x, t = x.double(), t.double()[:, 0]
        variance = 2 - torch.exp(-t)
        return -(x * x).sum(-1) / (2 * variance) - self.dim / 2 * torch.log(2 * math.pi * variance)

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return `stationary`, the log-density N(0, 2 I) reached for t to infinity."""
        late = torch.full_like(p.t, math.inf)
        return {"stationary": self.exact(p.x, late)}
