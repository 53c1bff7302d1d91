"""Black-Scholes-Barenblatt equation: a weighted trace whose weights depend on the point.

    u_t + 1/2 sigma^2 sum_i x_i^2 d_i^2 u - r (u - x . grad u) = 0,      u(T, x) = |x|^2

with the solution `u = exp((r + sigma^2)(T - t)) |x|^2`. The unknown is written
`u = ((T - t) n + 1) |x|^2`, which holds the terminal data exactly.

Points follow the diffusion of the equation, `dX_i = r X_i dt + sigma X_i dW_i`, from
x0 = (1, 1/2, 1, 1/2, ...): t ~ U[0, T], x = X_t. What u depends on lies along these paths, so
training and evaluation share the law.

Reference: Raissi 2018, arXiv 1804.07010, section 4.1 (problem and x0); Hu et al. 2023,
arXiv 2307.12306.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.autodiff import squared_norm
from sciml.physics.checks import check_number, check_positive
from sciml.physics.pde import PDE, Fields, LiftTerms, Points
from sciml.physics.samplers import gaussian, uniform

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


class BlackScholesBarenblatt(PDE):
    """Black-Scholes-Barenblatt equation with quadratic terminal data.

    u is of order d, and so is the residual: `residual_scale` is 1/d.

    Args:
        dim: Number of assets d.
        volatility: sigma, positive.
        rate: r, any number.
        final_time: T, positive.

    Example:
        >>> import torch
        >>> from sciml.physics import BlackScholesBarenblatt
        >>> problem = BlackScholesBarenblatt(dim=2, volatility=0.4, rate=0.05)
        >>> x, t = torch.ones(1, 2), torch.zeros(1, 1)
        >>> round(problem.exact(x, t).item(), 4)  # exp(0.05 + 0.16) |x|^2
        2.4674
    """

    time_dependent = True
    feature_names = ("terminal", "radius")

    def __init__(
        self,
        *,
        dim: int,
        volatility: float = 0.4,
        rate: float = 0.05,
        final_time: float = 1.0,
    ) -> None:
        super().__init__(dim=dim)
        self.volatility = check_positive("problem.volatility", volatility)
        self.rate = check_number("problem.rate", rate)
        self.final_time = check_positive("problem.final_time", final_time)
        self.residual_scale = 1.0 / dim

    def diffusion(self, p: Points) -> Tensor:
        """Return the weights 1/2 sigma^2 x_i^2 `(N, d)`."""
        return 0.5 * self.volatility**2 * p.x.square()

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return u_t + trace - r (u - x . grad u) `(N,)`."""
        return u.dt + u.trace - self.rate * (u.value - (p.x * u.grad).sum(-1))

    def _draw(self, n: int, generator: torch.Generator, dtype: torch.dtype) -> Points:
        t = uniform(n, generator, high=self.final_time, dtype=dtype)
        log_x = gaussian(n, self.dim, generator, self.volatility**2 * t, dtype)
        log_x += (self.rate - 0.5 * self.volatility**2) * t
        start = torch.ones(self.dim, dtype=dtype, device=t.device)
        start[1::2] = 0.5
        return Points(start * log_x.exp(), t)

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` points along the price paths, float32."""
        return self._draw(n, generator, torch.float32)

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` points along the price paths, float64."""
        return self._draw(n, generator, torch.float64)

    def lift(
        self, x: Differentiable, t: Differentiable | None
    ) -> tuple[Differentiable | None, Differentiable | None]:
        """Return A = (T - t) |x|^2 and B = |x|^2."""
        g = squared_norm(x)
        return (self.final_time - t) * g, g

    def lift_terms(self, p: Points) -> LiftTerms:
        """Return the closed form: L|x|^2 = sigma^2 |x|^2, a grad A = (T - t) sigma^2 x^3."""
        tau, g = self.final_time - p.t[:, 0], p.x.square().sum(-1)
        variance = self.volatility**2
        return LiftTerms(
            value=tau * g,
            dt=-g,
            trace=variance * tau * g,
            direction=variance * tau[:, None] * p.x**3,
            offset=g,
            offset_trace=variance * g,
        )

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return "terminal" |x|^2 or "radius" |x|^2 / d, each `(N, 1)`."""
        if name == "terminal":
            return squared_norm(x)
        if name == "radius":
            return squared_norm(x) / self.dim
        return super().feature(name, x, t)

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return exp((r + sigma^2)(T - t)) |x|^2 `(N,)`, float64."""
        growth = (self.rate + self.volatility**2) * (self.final_time - t.double()[:, 0])
        return growth.exp() * x.double().square().sum(-1)

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return u = g. The best constant n (`constant_basis`) is already within 0.3 percent."""
        return {"terminal": p.x.square().sum(-1)}
