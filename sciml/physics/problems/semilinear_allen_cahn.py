"""The semilinear Allen-Cahn equation with the published or with radial terminal data.

For g = arctan(max x_i) only the value at the origin is known, from multilevel Picard iteration and
to about three digits. For the rational g the equation is one-dimensional, see
`sciml.physics.problems.semilinear`, which also names the sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.autodiff import max_coordinate
from sciml.errors import InvalidArgument
from sciml.physics.checks import check_choice
from sciml.physics.pde import Points
from sciml.physics.problems.semilinear import SemilinearProblem
from sciml.physics.references.quadrature import mean_arctan_max

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable

# u(0, 0) for g = arctan(max x_i), T = 0.3; multilevel Picard, about three digits
ALLEN_CAHN_PUBLISHED = {10: 0.89060, 100: 1.04510, 1000: 1.09100, 10000: 1.11402}


class SemilinearAllenCahn(SemilinearProblem):
    """F = u - u^3 with g = arctan(max x_i), or with the rational radial data.

    For "arctan_max" only u(0, 0) is known, from the literature, at d = 10, 100, 1000 and 10 000
    and to about three digits (`reference_accuracy`): test points are that one point, so that
    `test/rel_l2` is the relative error of the value at the origin. For "rational"
    (g = 5 / (10 + 2 |x|^2), E, Han and Jentzen's problem) the reference is that of the others.

    Args:
        dim: Number of space dimensions d.
        final_time: T, positive.
        constraint: "soft" or "hard"; "hard" needs smooth terminal data.
        terminal_data: "arctan_max" or "rational".

    Example:
        >>> import torch
        >>> from sciml.physics import SemilinearAllenCahn
        >>> problem = SemilinearAllenCahn(dim=100)
        >>> problem.reaction(torch.tensor(0.5)).item(), problem.reference_value
        (0.375, 1.0451)
    """

    def __init__(
        self,
        *,
        dim: int,
        final_time: float = 0.3,
        constraint: str = "soft",
        terminal_data: str = "arctan_max",
    ) -> None:
        super().__init__(dim=dim, final_time=final_time, constraint=constraint)
        options = ("arctan_max", "rational")
        self.terminal_data = check_choice("problem.terminal_data", terminal_data, options)
        if self._kinked:
            self.reference_accuracy = 1e-3
            # before T the solution is smooth: a network that sees the kinks of g has them too
            self.feature_names = ("radius",)
            if constraint == "hard":
                raise InvalidArgument(
                    "problem.constraint=hard with problem.terminal_data=arctan_max",
                    "terminal data with a Laplacian",
                    "The maximum has kinks whose Laplacian no point sees; use constraint=soft",
                )

    @property
    def _kinked(self) -> bool:
        return self.terminal_data == "arctan_max"

    def reaction(self, u: Any) -> Any:
        """Return F(u)."""
        return u - u * u * u

    def reaction_prime(self, u: Any) -> Any:
        """Return F'(u)."""
        return 1.0 - 3.0 * u * u

    def terminal(self, x: Differentiable) -> Differentiable:
        """Return g `(N, 1)`; tensors or coordinates."""
        return torch.atan(max_coordinate(x)) if self._kinked else super().terminal(x)

    def terminal_gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of g `(N, d)`."""
        if not self._kinked:
            return super().terminal_gradient(x)
        top, index = x.max(-1, keepdim=True)
        return torch.zeros_like(x).scatter(1, index, 1.0 / (1.0 + top * top))

    def sample_test(self, n: int, generator: torch.Generator) -> Points:
        """Return the origin at t = 0, the only point with a reference, or `n` points."""
        if not self._kinked:
            return super().sample_test(n, generator)
        kind = {"dtype": torch.float64, "device": generator.device}
        return Points(torch.zeros(1, self.dim, **kind), torch.zeros(1, 1, **kind))

    def exact(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the reference `(N,)`, float64; for "arctan_max" at the origin only.

        Raises:
            InvalidArgument: Where no reference is known.
        """
        if not self._kinked:
            return super().exact(x, t)
        value = self.reference_value
        if value is None:
            raise InvalidArgument(
                f"a reference at problem.dim={self.dim}, problem.final_time={self.final_time}",
                f"problem.dim among {sorted(ALLEN_CAHN_PUBLISHED)} and final_time 0.3, for which "
                "values are published",
                "problem.terminal_data=rational has a reference at every dimension",
            )
        if bool((x != 0).any()) or bool((t != 0).any()):
            raise InvalidArgument(
                "a reference away from t = 0, x = 0 for terminal_data=arctan_max",
                "the origin, the only point with a published value",
                "problem.terminal_data=rational has a reference at every point",
            )
        return torch.full_like(t[:, 0], value, dtype=torch.float64)

    @property
    def reference_value(self) -> float | None:
        """Value at t = 0, x = 0, or None where no value is known."""
        if not self._kinked:
            return super().reference_value
        return ALLEN_CAHN_PUBLISHED.get(self.dim) if self.final_time == 0.3 else None

    def baselines(self, p: Points) -> dict[str, Tensor]:
        """Return u = g, E g(X_T), and E g(X_T) followed by the reaction."""
        if not self._kinked:
            return super().baselines(p)
        tau = self.final_time - p.t[:, 0]
        mean = torch.cat([mean_arctan_max(x, s) for x, s in zip(p.x, tau, strict=True)])
        return {
            "terminal": self.terminal(p.x)[:, 0],
            "no_reaction": mean,
            "closed_form": self.react(mean, tau),
        }
