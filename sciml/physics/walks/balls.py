"""Steps of walk on spheres: a ball that stays in the domain, its source, a point of its sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.physics.elliptic.elliptic_problem import ScalarField
from sciml.physics.geometry.domain import Domain
from sciml.physics.geometry.domain_rows import length
from sciml.physics.walks.green import LARGEST_T, harmonic_radius, screened_radius, survival
from sciml.physics.walks.loop import Walks

if TYPE_CHECKING:
    from sciml.physics.walks.tangent import Tangent

# A walk whose weight has fallen below this contributes nothing and ends.
SMALLEST_WEIGHT = 1e-8


@dataclass(frozen=True)
class Balls:
    """The rule of walk on spheres; see `sciml.physics.walks.spheres` for the equation.

    Attributes:
        domain: B domains.
        limit: `(B,)` distance from the boundary at which walks end.
        boundary: g.
        source: f or None.
        rate: `(B,)` sigma, or the bound of delta tracking; None without screening.
        reduced: sigma' for delta tracking; None for constant screening.
        diffusion: alpha or None.
    """

    domain: Domain
    limit: Tensor
    boundary: ScalarField
    source: ScalarField | None = None
    rate: Tensor | None = None
    reduced: ScalarField | None = None
    diffusion: ScalarField | None = None

    @property
    def grows(self) -> bool:
        """Whether weights may grow."""
        return self.reduced is not None

    def touches(self, balls: Tangent, size: Tensor) -> Tensor:
        """Return which touching balls walks may start out of: large ones."""
        return balls.worth

    def begin(self, walks: Walks) -> None:
        """Give every walk its weight, where weights change."""
        if self.rate is not None:
            walks.weight = torch.ones_like(walks.total)
        if self.diffusion is not None:
            walks.weight = self.diffusion(walks.x, walks.i).rsqrt()

    def reach(self, walks: Walks) -> tuple[Tensor, Tensor]:
        """Return the radii of balls that stay in the domain, and which walks still move."""
        r = self.domain.gap(walks.x, walks.i)
        moving = r > self.domain.pick(self.limit, walks.x, walks.i)
        if walks.weight is not None:
            moving &= walks.weight.abs() > SMALLEST_WEIGHT
        return r, moving

    def step(
        self,
        walks: Walks,
        r: Tensor,
        direction: Tensor,
        generator: torch.Generator,
        gradient: Tensor | None,
    ) -> None:
        """Collect the source of one ball of radius `r (N,)` and move along `direction (d, N)`.

        The source point lies opposite to the direction of the jump. It need not be independent of
        the jump, since the walk's value is a sum of terms, each with the right law; a direction is
        saved, and the noise of source and boundary partly cancels (a fifth less variance than
        independent directions have with u = e^x cos y and a source of its size, two fifths with
        g = 0).
        """
        dim, source, n = self.domain.dim, self.source, r.shape[0]
        jump = None  # where the walk goes along `direction`, in units of r; None for 1
        if self.rate is None:
            kept = None
            if source is not None:
                s = harmonic_radius(n, dim, generator, r.dtype)
                y = torch.addcmul(walks.x, direction, s.mul_(r), value=-1)
                walks.total.addcmul_(r * r, source(y, walks.i), value=1 / (2 * dim))
        else:
            rate = self.domain.pick(self.rate, walks.x, walks.i)
            r = torch.minimum(r, 2 * (LARGEST_T / rate).sqrt())
            t = r * r * rate / 4
            kept, integral = survival(t, dim)
            if source is not None or self.reduced is not None:
                s = screened_radius(t, dim, generator)
                y = torch.addcmul(walks.x, direction, r * s, value=-1)
            if source is not None:
                value = source(y, walks.i)
                if self.diffusion is not None:
                    value = value * self.diffusion(y, walks.i).rsqrt()
                walks.total += walks.weight * integral * r * r * value
            if self.reduced is None:
                walks.weight *= kept
            else:
                u = torch.rand(n, generator=generator, device=r.device, dtype=r.dtype)
                born = u >= kept
                jump = torch.where(born, -s, 1.0)
                again = 1 - self.reduced(y, walks.i) / rate
                walks.weight = torch.where(born, walks.weight * again, walks.weight)
                kept = ~born
        if gradient is not None:
            slope = r * (gradient * direction).sum(0)
            walks.total -= slope if kept is None else slope * kept
        walks.x.addcmul_(direction, r if jump is None else r * jump)

    def land(self, ends: Walks, stopped: Tensor) -> tuple[Tensor, float]:
        """Return what walks collected and g where they ended, and how far that is."""
        # a stopped walk may be far from the boundary, where the cheap projection is not enough
        project = self.domain.nearest if bool(stopped.any()) else self.domain.land
        on = project(ends.x, ends.i)
        value = self.boundary(on, ends.i)
        if self.diffusion is not None:
            value = value * self.diffusion(on, ends.i).sqrt()
        away = length(ends.x - on) / self.domain.pick(self.limit, ends.x, ends.i)
        ended = ~stopped
        if ends.weight is not None:
            ended &= ends.weight.abs() > SMALLEST_WEIGHT
            value = value * ends.weight
        return ends.total + value, float(torch.where(ended, away, 0.0).max())
