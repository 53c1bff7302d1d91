"""Walk on spheres: pointwise Monte Carlo estimates of elliptic boundary value problems.

    div(alpha grad u) - sigma u = -f  in the domain,    u = g  on its boundary

Mind the sign: `Laplacian u = -f` for alpha = 1, sigma = 0. From a point x a walk jumps to a
uniform point of the largest known sphere around x, collects the source from one random point of
each ball, and ends within `eps` of the boundary, where it reads g. Its value has mean
u(x) + O(eps).

    constant sigma      each jump multiplies the walk's weight by the ball's survival
    variable sigma,     the equation of U = sqrt(alpha) u,
    variable alpha          Laplacian U - sigma' U = -f / sqrt(alpha),
                            sigma' = sigma / alpha + Laplacian(log alpha) / 2
                                     + |grad log alpha|^2 / 4,
                        by delta tracking: with a constant bound s, a walk dies into the ball with
                        the probability that killing at rate s has, and is born again there with
                        the weight 1 - sigma'(y) / s. The mean is right for any s > 0; weights
                        stay below 1 in size for s >= max sigma' / 2 where sigma' >= 0.

Muller, "Some continuous Monte Carlo methods for the Dirichlet problem", Annals of Mathematical
Statistics 27 (1956); Sawhney and Crane, "Monte Carlo Geometry Processing", ACM Transactions on
Graphics 39 (2020); Sawhney et al., "Grid-Free Monte Carlo for PDEs with Spatially Varying
Coefficients", ACM Transactions on Graphics 41 (2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, NumericalWarning
from sciml.physics.checks import check_choice, check_number, check_positive
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain, Reflecting
from sciml.physics.walks.balls import Balls
from sciml.physics.walks.estimate import Estimate, WalkMoments
from sciml.physics.walks.loop import WalkRule, Walks, walk
from sciml.physics.walks.tangent import Tangent, walk_from
from sciml.physics.walks.tracking import constants, reduced_screening, tracking_bound
from sciml.shapes import check_kind
from sciml.typed_arguments import typed

# What `loop.walk` returns.
Found = tuple[Tensor, Tensor, Tensor, float, float]
# Follows w walks from each of a slice of points.
Follow = Callable[[slice, int], Found]
# Truncated walks above this share are worth a warning: their bias is no longer O(eps).
TRUNCATED = 0.01


@typed
@dataclass(frozen=True)
class WalkOnSpheres:
    """Estimates solutions by random walks.

    Args:
        walks: Walks per point.
        eps: Walks end at this distance from the boundary, in units of the domain's `scale`.
        max_steps: Longer walks are projected to the boundary and counted as truncated.
        antithetic: Start walks in pairs of opposite direction; `walks` must be even.
        chunk: Walks held at once, 60 to 100 bytes each; None for 2^17, on accelerators 2^22. The
            random numbers, not their law, depend on it.
        dtype: Type of the positions.
        outside: "raise" refuses points outside their domain, "nan" marks them.
        close: Walks from points closer to the boundary than this, in units of the domain's `scale`,
            start out of a ball that touches it (`sciml.physics.walks.tangent`): their error bars
            hold however close the points are. 0 for plain walks, whose bars are too small there.

    Raises:
        InvalidArgument: For settings out of range.

    Example:
        >>> from sciml.physics import WalkOnSpheres
        >>> WalkOnSpheres(walks=16, antithetic=True).eps
        0.001
    """

    walks: int = 64
    eps: float = 1e-3
    max_steps: int = 1000
    antithetic: bool = False
    chunk: int | None = None
    dtype: torch.dtype = torch.float32
    outside: str = "raise"
    close: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        check_positive("eps", self.eps)
        for name in ("walks", "max_steps", "chunk"):
            count = getattr(self, name)
            whole = isinstance(count, int) and not isinstance(count, bool) and count > 0
            if not whole and not (name == "chunk" and count is None):
                raise InvalidArgument(f"{name}={count!r}", "a positive whole number")
        check_kind("antithetic", self.antithetic, bool)
        check_number("close", self.close)
        check_choice("outside", self.outside, ("raise", "nan"))
        if not 0 <= self.close < 1:
            raise InvalidArgument(
                f"close={self.close}", "a share of the domain's size, from 0 to 1"
            )
        if self.antithetic and self.walks % 2:
            raise InvalidArgument(f"walks={self.walks}", "an even number for antithetic pairs")
        if self.chunk is not None and self.chunk < 2:
            raise InvalidArgument(f"chunk={self.chunk}", "at least 2")
        if self.dtype not in (torch.float32, torch.float64):
            raise InvalidArgument(f"dtype={self.dtype}", "float32 or float64")

    @torch.no_grad()
    def __call__(
        self,
        domain: Domain,
        problem: Dirichlet,
        points: Tensor,
        generator: torch.Generator,
        gradient: Tensor | None = None,
    ) -> Estimate:
        """Return estimates of u at `points (B, P, d)`.

        Args:
            domain: B domains, on the device of the points.
            problem: The equation.
            points: `(B, P, d)`.
            generator: Source of randomness on the same device; take it from
                `sciml.autodiff.streams.Streams`, which makes it a function of seed, rank and step
                with nothing to save. The global random state is neither read nor written.
            gradient: Approximate gradients of u `(B, P, d)`, from a network: their part of the
                first step, whose mean is zero, is subtracted as a control variate.

        Raises:
            InvalidArgument: For shapes that do not fit, points outside (unless `outside="nan"`),
                a control variate with antithetic pairs (which cancel it) or with `diffusion`.

        Warns:
            NumericalWarning: If more than 1 % of the walks in a domain were truncated.
        """
        check_kind("domain", domain, Domain)
        check_kind("generator", generator, torch.Generator)
        check_kind("points", points, Tensor, "Write torch.tensor(points)")
        if gradient is not None:
            check_kind("gradient", gradient, Tensor)
        exact, i = domain.columns(points.detach())
        x = exact.to(self.dtype)
        if generator.device.type != x.device.type:
            raise InvalidArgument(f"generator on {generator.device}", f"one on {x.device}")
        if gradient is not None:
            if self.antithetic or problem.diffusion is not None:
                raise InvalidArgument(
                    "a gradient with antithetic=True or with a diffusion",
                    "one of the two, and diffusion None",
                    "Antithetic pairs already cancel the first-order term",
                )
            gradient = domain.columns(gradient.detach().to(x))[0]
        limit = (self.eps * domain.scale()).to(x)
        inside = domain.level(x, i) < limit[i]
        if self.outside == "raise" and not bool(inside.all()):
            raise InvalidArgument(
                f"{int((~inside).sum())} of {x.shape[1]} points outside their domain",
                "points inside",
                "Use outside='nan' to have them marked",
            )
        with torch.autocast(x.device.type, enabled=False):
            rule = self._rule(domain, problem, generator, limit)
            where = None if bool(inside.all()) else inside.nonzero()[:, 0]
            if where is not None:
                exact, i = exact[:, where], i[where]
                gradient = None if gradient is None else gradient[:, where]
            moments, max_weight, farthest = self._moments(rule, exact, i, gradient, generator)
        shape = (domain.count, points.shape[1])
        if where is not None:
            full = moments.new_full((len(moments), inside.numel()), torch.nan)
            moments = full.index_copy(1, where, moments)
        mean, squares, first, second, steps, truncated = moments.view(len(moments), *shape)
        # the worst domain counts: a mean over all could hide it
        share = float(truncated.nanmean(1).nan_to_num().max()) if moments.numel() else 0.0
        if share > TRUNCATED:
            warnings.warn(
                f"{100 * share:.1f} % of the walks in a domain were stopped after "
                f"max_steps={self.max_steps} and projected to the boundary. Raise max_steps.",
                NumericalWarning,
                stacklevel=3,
            )
        return Estimate(
            mean,
            squares,
            torch.stack([first, second]),
            self._samples(self.walks),
            self.walks,
            steps,
            truncated,
            inside.view(shape),
            max_weight,
            farthest,
        )

    def _moments(
        self,
        rule: WalkRule,
        exact: Tensor,
        i: Tensor,
        gradient: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, float, float]:
        """Return the rows of `WalkMoments` `(6, N)`, the largest weight and the farthest landing.

        Args:
            rule: How walks step.
            exact: Points `(d, N)` as they were given.
            i: Their domains.
            gradient: For the control variate of the first step, or None.
            generator: Source of randomness.
        """
        x, count = exact.to(self.dtype), rule.domain.count
        kinds = self._close(rule, exact, i, generator) if self.close else []
        rest = torch.ones_like(i, dtype=torch.bool)
        for _, own in kinds:
            rest[own] = False
        rest = rest.nonzero()[:, 0] if kinds else slice(None)

        def plain(part: slice, w: int) -> Found:
            index = rest[part] if kinds else part
            start = Walks.start(x[:, index].repeat(1, w), i[index].repeat(w), count)
            slope = None if gradient is None else gradient[:, index].repeat(1, w)
            return walk(rule, start, self.max_steps, generator, self.antithetic, slope)

        out, most = x.new_empty(6, x.shape[1], dtype=torch.float64), (1.0, 0.0)
        for follow, own in [(plain, rest), *kinds]:
            out[:, own], *more = self._sums(follow, len(i[own]), x)
            most = map(max, most, more)
        return out, *most

    def _close(
        self, rule: WalkRule, exact: Tensor, i: Tensor, generator: torch.Generator
    ) -> list[tuple[Follow, Tensor]]:
        """Return other kinds of walks and the points `(n,)` they are for, close to the boundary.

        Here out of balls that touch it.
        """
        domain, x = rule.domain, exact.double()
        if domain.dim < 2:
            return []
        level = domain.level(x, i)
        most = self.close * domain.pick(domain.scale(), x, i).expand_as(level)
        index = ((level < 0) & (level > -most)).nonzero()[:, 0]
        if not len(index):
            return []
        balls = Tangent.of(domain, x[:, index], i[index], rule.rate)
        own = rule.touches(balls, most[index]).nonzero()[:, 0]
        if not len(own):
            return []
        balls, index = balls.take(own), index[own]

        def follow(part: slice, w: int) -> Found:
            return walk_from(rule, balls.take(part).repeat(w), self.max_steps, generator)

        return [(follow, index)]

    def _sums(self, follow: Follow, count: int, like: Tensor) -> tuple[Tensor, float, float]:
        """Return what `_moments` does for `count` points, from w walks of a slice at a time."""
        chunk = self.chunk or (2**17 if like.device.type == "cpu" else 2**22)
        # whole points where a chunk holds all their walks, else one point and some of its walks
        most = min(self.walks, chunk - chunk % 2)
        rounds = -(-self.walks // most)
        group = max(1, chunk // most)
        out, top = like.new_zeros(6, count, dtype=torch.float64), 1.0
        farthest = 0.0
        for first in range(0, count, group):
            part = slice(first, min(first + group, count))
            sums = WalkMoments(out[:, part])
            for k in range(rounds):
                w = min(most, self.walks - k * most)
                value, steps, stopped, peak, away = follow(part, w)
                value = value.view(w, -1).double()
                if self.antithetic:
                    value = (value[: w // 2] + value[w // 2 :]) / 2
                sums.add(value, steps.view(w, -1), stopped.view(w, -1))
                top, farthest = max(top, peak), max(farthest, away)
            sums.finish()
        return out, top, farthest

    def _samples(self, walks: int) -> int:
        return walks // 2 if self.antithetic else walks

    def _rule(
        self, domain: Domain, problem: Dirichlet, generator: torch.Generator, limit: Tensor
    ) -> WalkRule:
        """Return what the loop needs: constants per domain, and the fields to evaluate."""
        if isinstance(domain, Reflecting):
            raise InvalidArgument(
                "walks on spheres in a domain with reflecting sides", "WalkOnStars with a Mixed"
            )
        check_kind("problem", problem, Dirichlet, "With reflecting sides use WalkOnStars")
        common = {
            "domain": domain,
            "limit": limit,
            "source": problem.source,
            "boundary": problem.boundary,
        }
        sigma = problem.screening
        if problem.diffusion is None and not callable(sigma):
            if sigma is None:
                return Balls(**common)
            sigma = constants("screening", sigma, domain, limit)
            if not bool((sigma >= 0).all()):
                raise InvalidArgument(
                    f"screening={float(sigma.min())}", "at least 0", "Pass a field for other signs"
                )
            return Balls(**common, rate=sigma) if bool((sigma > 0).any()) else Balls(**common)
        reduced = problem.reduced or reduced_screening(problem.diffusion, sigma)
        bound = problem.bound
        if bound is None:
            bound = tracking_bound(domain, reduced, generator, limit.dtype)
        rate = constants("bound", bound, domain, limit)
        if not bool((rate > 0).all()):
            raise InvalidArgument(f"bound={float(rate.min())}", "positive numbers")
        return Balls(**common, rate=rate, reduced=reduced, diffusion=problem.diffusion)
