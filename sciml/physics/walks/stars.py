"""Walk on stars: pointwise Monte Carlo estimates where parts of the boundary have Neumann data.

    Laplacian u - sigma u = -f  in the domain,
                          u = g  on one part of its boundary, absorbing,
                      du/dn = h  on the other, reflecting; n points outward

Around x, of all balls that no absorbing point and no silhouette of the reflecting part lies in, the
largest one, of radius R, cuts out a region that x sees whole (it is star-shaped). With the Green's
function G of the ball, zero on its sphere,

    u(x) = mean over directions of w u where the ray leaves the region
           + integral of G f over the region + integral of G h over its reflecting part,

w being the flux of G through the sphere on which that point lies, 1 without screening. So a walk
jumps to where a random ray leaves: a point of the ball's sphere, or of a wall. From a point of a
wall the same holds with half of all directions and both integrals doubled. Walks from points close
to the absorbing part start out of a ball that touches it and no wall, as those of `WalkOnSpheres`
do, or split as they get away from it (`splitting`). A walk ends within `eps` of the absorbing part,
where it reads g; it is never absorbed by a wall. Balls are not made smaller than
`eps` on account of a silhouette: near re-entrant corners of walls that is a bias of the same kind
as that of the end.

Sawhney, Miller, Gkioulekas and Crane, "Walk on Stars: A Grid-Free Monte Carlo Method for PDEs with
Neumann Boundary Conditions", ACM Transactions on Graphics 42 (2023), arXiv 2302.11815. Departures:
points of walls are drawn uniform in length in the plane, and in boxes uniform in the distance from
the foot of x, not by a hierarchy of the whole boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.elliptic.elliptic_problem import ScalarField, check_fields
from sciml.physics.geometry import Domain, Reflecting
from sciml.physics.geometry.domain_rows import length
from sciml.physics.walks.balls import SMALLEST_WEIGHT
from sciml.physics.walks.estimate import Estimate
from sciml.physics.walks.green import (
    LARGEST_T,
    exit_weight,
    greens_function,
    harmonic_radius,
    screened_radius,
    survival,
)
from sciml.physics.walks.loop import Walks
from sciml.physics.walks.spheres import Follow, Found, WalkOnSpheres
from sciml.physics.walks.splitting import walk_apart
from sciml.physics.walks.tracking import constants
from sciml.typed_arguments import typed

if TYPE_CHECKING:
    from sciml.physics.walks.tangent import Tangent

# h(x, i, n): points (d, N), their domains (N,), outward unit normals (d, N); returns (N,).
Flux = Callable[[Tensor, Tensor, Tensor], Tensor]

# A wall at this share of the distance to a point on it does not hide the point: it is its own.
SEEN = 1e-3


@dataclass(frozen=True)
class Mixed:
    """`Laplacian u - sigma u = -f`, `u = g` on absorbing and `du/dn = h` on reflecting sides.

    Attributes:
        boundary: g, on the absorbing sides.
        flux: h, on the reflecting ones, or None for 0; sees the outward normals too.
        source: f, or None for 0.
        screening: sigma, a number or `(B,)` of constants, positive, in two or three dimensions;
            None for 0.

    Example:
        >>> from sciml.physics.walks import Mixed
        >>> Mixed(boundary=lambda x, i: x[1], screening=2.0).screening
        2.0
    """

    boundary: ScalarField
    flux: Flux | None = None
    source: ScalarField | None = None
    screening: float | Tensor | None = None

    def __post_init__(self) -> None:
        """Have the fields checked whenever they are called; errors as of `Dirichlet`."""
        check_fields(self, "boundary", "flux", "source", constant=("screening",))


@typed
@dataclass(frozen=True)
class WalkOnStars(WalkOnSpheres):
    """Estimates solutions of mixed problems by random walks.

    Settings and results are those of `WalkOnSpheres`; walks from points close to the absorbing part
    with a wall near split as they get away (`sciml.physics.walks.splitting`).

    Example:
        >>> import torch
        >>> from sciml.physics import geometry, walks
        >>> channel = geometry.MixedBox(geometry.Box(), torch.tensor([True, True, False, False]))
        >>> problem, generator = walks.Mixed(lambda x, i: x[1]), torch.Generator().manual_seed(0)
        >>> walks.WalkOnStars(walks=4)(channel, problem, torch.zeros(1, 1, 2), generator).walks
        4
    """

    def __call__(
        self, domain: Reflecting, problem: Mixed, points: Tensor, generator: torch.Generator
    ) -> Estimate:
        """Return estimates of u at `points (B, P, d)`, as `WalkOnSpheres` does.

        Raises:
            InvalidArgument: For shapes that do not fit, points outside, or a domain or problem
                without reflecting part.

        Warns:
            NumericalWarning: If more than 1 % of the walks in a domain were truncated.
        """
        return super().__call__(domain, problem, points, generator)

    def _close(
        self, rule: StarRule, exact: Tensor, i: Tensor, generator: torch.Generator
    ) -> list[tuple[Follow, Tensor]]:
        """Return walks out of balls that touch the absorbing part; beside walls ones that split."""
        kinds = super()._close(rule, exact, i, generator)
        domain, x = rule.domain, exact.double()
        most = self.close * domain.pick(domain.scale(), x, i).expand_as(x[0])
        close = (domain.absorbed(x, i)[0] < most) & (domain.level(x, i) < 0)
        for _, own in kinds:
            close[own] = False
        index = close.nonzero()[:, 0]
        rate = None if rule.rate is None else rule.rate.double()
        fine = replace(rule, limit=rule.limit.double(), rate=rate, kind=self.dtype)

        def follow(part: slice, w: int) -> Found:
            own = index[part].repeat(w)
            return walk_apart(fine, x[:, own], i[own], most[own], self.max_steps, generator)

        return [*kinds, (follow, index)] if len(index) else kinds

    def _rule(
        self, domain: Domain, problem: Mixed, generator: torch.Generator, limit: Tensor
    ) -> StarRule:
        if not isinstance(domain, Reflecting) or not isinstance(problem, Mixed):
            raise InvalidArgument(
                f"a {type(domain).__name__} with a {type(problem).__name__} problem",
                "a MixedPolygon or MixedBox with a Mixed problem",
                "Where all of the boundary absorbs use WalkOnSpheres",
            )
        sigma = problem.screening
        if sigma is None:
            return StarRule(domain, limit, problem)
        if callable(sigma) or domain.dim > 3:
            raise InvalidArgument(
                f"a screening in {domain.dim}D" + " that varies in space" * callable(sigma),
                "positive constants, in two or three dimensions",
            )
        rate = constants("screening", sigma, domain, limit)
        if not bool((rate > 0).all()):
            raise InvalidArgument(f"screening={float(rate.min())}", "positive numbers, or None")
        return StarRule(domain, limit, problem, rate)


@dataclass(frozen=True)
class StarRule:
    """The rule of walk on stars.

    Attributes:
        domain: B domains.
        limit: `(B,)` distance from the absorbing part at which walks end.
        problem: g, h and f.
        rate: `(B,)` sigma, or None.
        span: `(2, N)` distances from the absorbing part below which each of N walks ends, and above
            which it waits (`splitting`); None for the limit and no waiting.
        kind: Type of the positions that fields are called with; None for that of the walks.
    """

    domain: Reflecting
    limit: Tensor
    problem: Mixed
    rate: Tensor | None = None
    span: Tensor | None = None
    kind: torch.dtype | None = None
    grows = False
    reduced = None
    diffusion = None

    @property
    def boundary(self) -> ScalarField:
        """The data g on the absorbing part."""
        return self.problem.boundary

    @property
    def source(self) -> ScalarField | None:
        """The source f, or None."""
        return self.problem.source

    def touches(self, balls: Tangent, size: Tensor) -> Tensor:
        """Return which balls touch the absorbing part at a point far from all walls."""
        x, i = balls.x, balls.i
        own = self.domain.absorbed(x, i)[0] <= balls.delta + self.domain.rounding(x, i)
        any_numbers = torch.Generator(x.device).manual_seed(0)
        *_, near = self.domain.sample_near(x, i, size, any_numbers)
        return own & balls.worth & (near == 0)

    def begin(self, walks: Walks) -> None:
        """Find out which walks start on a wall, and give them weights where these change."""
        if self.rate is not None:
            walks.weight = torch.ones_like(walks.total)
        # a start may lie up to `eps` outside: rays from behind a wall would not meet it
        outside = self.domain.level(walks.x, walks.i) > 0
        if bool(outside.any()):
            on = self.domain.nearest(walks.x, walks.i)
            walks.x = torch.where(outside, on, walks.x)
        edge = self.domain.standing(walks.x, walks.i)
        walks.x, walks.normal = self.domain.wall(walks.x, walks.i, edge)

    def reach(self, walks: Walks) -> tuple[Tensor, Tensor]:
        """Return the radii of star-shaped regions, and which walks still move."""
        r, _ = self.domain.absorbed(walks.x, walks.i)
        if self.span is None:
            limit = self.domain.pick(self.limit, walks.x, walks.i)
            moving = r > limit
        else:
            limit, most = self.span if walks.slot is None else self.span[:, walks.slot]
            moving = (r > limit) & (r < most)
        if self.rate is not None:
            moving &= walks.weight > SMALLEST_WEIGHT
            rate = self.domain.pick(self.rate, walks.x, walks.i)
            r = torch.minimum(r, 2 * (LARGEST_T / rate).sqrt())
        seen = self.domain.silhouette(walks.x, walks.i, r)
        return torch.minimum(r, torch.maximum(seen, limit)), moving

    def step(
        self,
        walks: Walks,
        r: Tensor,
        direction: Tensor,
        generator: torch.Generator,
        gradient: Tensor | None,
    ) -> None:
        """Collect source and flux of one region of radius `r (N,)`, and go where a ray leaves it.

        The source point lies on the opposite ray, at a radius with the law of G; beyond a wall it
        counts nothing. On the same ray it would save a query and cost half as much variance again.
        """
        domain, x, i = self.domain, walks.x, walks.i
        ahead, back = _inward(direction, walks.normal), _inward(-direction, walks.normal)
        t, edge = domain.hit(x, ahead, i, r)
        collected = torch.zeros_like(r)
        if self.problem.source is not None:
            s, integral = self._source_radius(walks, r, generator)
            free, _ = domain.hit(x, back, i, s)
            y = torch.addcmul(x, back, free)
            collected += r * r * integral * self._ask(self.problem.source, y, i) * (free == s)
        if self.problem.flux is not None:
            collected += self._flux(walks, r, generator)
        if self.rate is not None:
            collected *= walks.weight
            q = domain.pick(self.rate, x, i).sqrt()
            walks.weight = walks.weight * torch.where(r > 0, exit_weight(t, r, domain.dim, q), 1.0)
        walks.total += collected
        walks.x, walks.normal = domain.wall(torch.addcmul(x, ahead, t), i, edge)

    def _source_radius(
        self, walks: Walks, r: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | float]:
        """Return distances with the law of G, and its integral over the ball in units of r^2."""
        dim = self.domain.dim
        if self.rate is None:
            return harmonic_radius(len(r), dim, generator, r.dtype).mul_(r), 1 / (2 * dim)
        t = r * r * self.domain.pick(self.rate, walks.x, walks.i) / 4
        return screened_radius(t, dim, generator).mul_(r), survival(t, dim)[1]

    def _flux(self, walks: Walks, r: Tensor, generator: torch.Generator) -> Tensor:
        """Return an estimate `(N,)` of the integral of G h over the walls of each region."""
        domain, x, i = self.domain, walks.x, walks.i
        z, edge, size = domain.sample_near(x, i, r, generator)
        away = z - x
        distance = length(away).clamp_min(1e-12)
        _, normal = domain.wall(z, i, edge)
        # hidden behind another wall? The wall that a walk stands at is seen along its whole length
        flat = (away * walks.normal).sum(0).abs() <= SEEN * distance + domain.rounding(x, i)
        own = flat & (walks.normal != 0).any(0)
        far = distance * (1 - SEEN)
        hidden = (domain.hit(x, away / distance, i, far)[1] >= 0) & ~own
        q = None if self.rate is None else domain.pick(self.rate, x, i).sqrt()
        green = greens_function(distance, r, domain.dim, q)
        # twice on a wall: half of the directions there are outside
        both = 1 + walks.normal.square().sum(0)
        value = self._ask(self.problem.flux, z, i, normal) * green * size * both
        return torch.where((size > 0) & ~hidden, value, 0.0)

    def _ask(self, field: ScalarField | Flux, x: Tensor, i: Tensor, *normal: Tensor) -> Tensor:
        """Return a field's values `(N,)` in the type of the walks."""
        kind = self.kind or x.dtype
        return field(x.to(kind), i, *(n.to(kind) for n in normal)).to(x.dtype)

    def land(self, ends: Walks, stopped: Tensor) -> tuple[Tensor, float]:
        """Return what walks collected and g where they ended, and how far that is."""
        away, on = self.domain.absorbed(ends.x, ends.i, point=True)
        limit = self.domain.pick(self.limit, ends.x, ends.i) if self.span is None else self.span[0]
        away = away / limit
        value = self._ask(self.problem.boundary, on, ends.i)
        ended = ~stopped
        if ends.weight is not None:
            ended &= ends.weight > SMALLEST_WEIGHT
            value = value * ends.weight
        return ends.total + value, float(torch.where(ended, away, 0.0).max())


def _inward(direction: Tensor, normal: Tensor) -> Tensor:
    """Return directions `(d, N)`, those that point out of a wall mirrored at it."""
    outward = (direction * normal).sum(0).clamp_min_(0)
    return torch.addcmul(direction, outward, normal, value=-2)
