"""Wave equation with hard initial data.

    u_tt = Lap u,      u(0, x) = sum_i sinh x_i,      u_t(0, x) = 0

with the solution `u = cosh(t) sum_i sinh x_i`, evaluated for x in [-1, 1]^d, t in [0, T]. The
unknown is written `u = sum_i sinh x_i + t^2 n`, which holds both initial conditions exactly.

u(t, x) depends on what happens at times s < t within the distance t - s. `sampling="dependence"`
(default) draws points from these cones, `sampling="evaluation"` from the evaluation box.

Reference: Hu, Shi, Karniadakis, Kawaguchi 2023, arXiv 2312.14499, and the public code of
arXiv 2412.00088 (problem and trial solution).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.physics.checks import check_choice, check_positive
from sciml.physics.pde import PDE, Fields, LiftTerms, Points
from sciml.physics.samplers import box, sphere, uniform

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


class Wave(PDE):
    """Wave equation with a separable solution.

    u is a sum of d terms of either sign, of order sqrt(d): `residual_scale` is 1/sqrt(d).

    Args:
        dim: Number of space dimensions d.
        final_time: T, positive.
        sampling: Law of the training points, "dependence" or "evaluation".

    Example:
        >>> import torch
        >>> from sciml.physics import Wave
        >>> problem = Wave(dim=2)
        >>> x, t = torch.full((1, 2), 0.5), torch.tensor([[1.0]])
        >>> round(problem.exact(x, t).item(), 4)  # cosh(1) (2 sinh(0.5))
        1.6082
    """

    time_dependent = True
    time_order = 2
    feature_names = ("initial",)

    def __init__(self, *, dim: int, final_time: float = 1.0, sampling: str = "dependence") -> None:
        super().__init__(dim=dim)
        self.final_time = check_positive("problem.final_time", final_time)
        options = ("dependence", "evaluation")
        self.sampling = check_choice("problem.sampling", sampling, options)
        self.residual_scale = 1.0 / math.sqrt(dim)

    def residual(self, u: Fields, p: Points) -> Tensor:
        """Return u_tt - Lap u `(N,)`."""
        return u.dtt - u.trace

    def initial(self, x: Differentiable) -> Differentiable:
        """Return sum_i sinh x_i `(N, 1)`; tensors or coordinates."""
        return torch.sinh(x).sum(-1, keepdim=True)

    def sample(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` training points, float32."""
        x = box(n, self.dim, generator, -1.0, 1.0)
        t = uniform(n, generator, high=self.final_time)
        if self.sampling == "evaluation":
            return Points(x, t)
        s = t * uniform(n, generator)
        return Points(x + sphere(n, self.dim, generator, (t - s) * uniform(n, generator)), s)

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return `n` points uniform in the box and in time, float64."""
        x = box(n, self.dim, generator, -1.0, 1.0, torch.float64)
        return Points(x, uniform(n, generator, high=self.final_time, dtype=torch.float64))

    def lift(
        self, x: Differentiable, t: Differentiable | None
    ) -> tuple[Differentiable | None, Differentiable | None]:
        """Return A = t^2 and B = sum_i sinh x_i."""
        return t * t, self.initial(x)

    def lift_terms(self, p: Points) -> LiftTerms:
        """Return the closed form; Lap B = B."""
        t, b = p.t[:, 0], self.initial(p.x)[:, 0]
        return LiftTerms(value=t.square(), dt=2.0 * t, offset=b, offset_trace=b)

    def feature(self, name: str, x: Differentiable, t: Differentiable | None) -> Differentiable:
        """Return "initial", sum_i sinh x_i `(N, 1)`."""
        return self.initial(x) if name == "initial" else super().feature(name, x, t)

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return cosh(t) sum_i sinh x_i `(N,)`, float64."""
        return torch.cosh(t.double()[:, 0]) * torch.sinh(x.double()).sum(-1)

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return the initial data, and their Taylor expansion (1 + t^2 / 2) u(0, x)."""
        start = self.initial(p.x)[:, 0]
        return {"initial": start, "taylor": (1.0 + 0.5 * p.t[:, 0].square()) * start}
