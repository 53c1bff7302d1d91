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
from sciml.physics.checks import check_choice, check_positive
from sciml.physics.geometry import Domain
from sciml.physics.walks.loop import Equation, Walks, walk

# f(x, i): x (d, N) coordinates first, i (N,) the domain of each column; returns (N,).
Field = Callable[[Tensor, Tensor], Tensor]

# Truncated walks above this share are worth a warning: their bias is no longer O(eps).
TRUNCATED = 0.01
# Interior points drawn of each domain to find the bound of delta tracking.
BOUND_POINTS = 2048


@dataclass(frozen=True)
class Dirichlet:
    """`div(alpha grad u) - sigma u = -f` with `u = g` on the boundary, for B domains.

    Fields are functions `(x (d, N), i (N,)) -> (N,)` of points, coordinates first, and of the
    domain each belongs to.

    Attributes:
        boundary: g.
        source: f, or None for 0.
        screening: sigma: None for 0, a number or `(B,)` of constants, not negative, or a field.
        diffusion: alpha, a positive field, or None for 1.
        reduced: sigma' in closed form; by automatic differentiation of `diffusion` if None.
        bound: s of delta tracking, a number or `(B,)`; found from random points if None.
    """

    boundary: Field
    source: Field | None = None
    screening: float | Tensor | Field | None = None
    diffusion: Field | None = None
    reduced: Field | None = None
    bound: float | Tensor | None = None


@dataclass(frozen=True)
class Estimate:
    """What walks found at P points of B domains; all tensors float64.

    Attributes:
        mean: `(B, P)`; NaN at points outside.
        squares: `(B, P)` sum of the squared deviations of the samples from `mean`.
        halves: `(2, B, P)` means over two independent halves of the samples; NaN with one sample.
        samples: Independent samples per point: the walks, or the antithetic pairs.
        walks: Walks per point.
        steps: `(B, P)` mean number of steps of a walk.
        truncated: `(B, P)` share of the walks that were stopped by `max_steps` and projected.
        inside: `(B, P)` whether the point lies in the domain, or within `eps` of it.
        max_weight: Largest weight of any walk: far above 1, a few walks decide the mean.
        farthest: Largest distance between the end of a walk and its boundary point, in units of
            `eps`: 1, or more where the domain knows a bound of its distance only. Walks that were
            truncated do not count.
    """

    mean: Tensor
    squares: Tensor
    halves: Tensor
    samples: int
    walks: int
    steps: Tensor
    truncated: Tensor
    inside: Tensor
    max_weight: float
    farthest: float

    @property
    def variance(self) -> Tensor:
        """Variance of `mean`, `(B, P)`; NaN with one sample.

        Estimated from the samples: close to the boundary, where hardly any walk ends elsewhere,
        a hundred walks may all agree and still be wrong. Means over many points are safe.
        """
        if self.samples == 1:
            return torch.full_like(self.mean, torch.nan)
        return self.squares / (self.samples * (self.samples - 1))

    @property
    def standard_error(self) -> Tensor:
        """Standard error of `mean`, `(B, P)`; NaN with one sample."""
        return self.variance.sqrt()

    def squared_error(self, value: Tensor) -> Tensor:
        """Return unbiased estimates `(B, P)` of `(value - u)^2`, which may be negative.

        The product of the deviations from two independent halves: their noise averages out.
        """
        first, second = self.halves
        return (value - first) * (value - second)


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

    Raises:
        InvalidArgument: For settings out of range.
    """

    walks: int = 64
    eps: float = 1e-3
    max_steps: int = 1000
    antithetic: bool = False
    chunk: int | None = None
    dtype: torch.dtype = torch.float32
    outside: str = "raise"

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name in ("walks", "max_steps", "eps"):
            check_positive(name, getattr(self, name))
        check_choice("outside", self.outside, ("raise", "nan"))
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
        x, i = domain.columns(points.detach().to(self.dtype))
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
            equation = self._equation(domain, problem, generator, limit)
            where = None if bool(inside.all()) else inside.nonzero()[:, 0]
            if where is not None:
                x, i = x[:, where], i[where]
                gradient = None if gradient is None else gradient[:, where]
            moments, max_weight, farthest = self._moments(equation, x, i, gradient, generator)
        shape = (domain.count, points.shape[1])
        if where is not None:
            full = moments.new_full((len(moments), inside.numel()), torch.nan)
            moments = full.index_copy(1, where, moments)
        mean, squares, first, second, steps, truncated = moments.view(-1, *shape)
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
        equation: Equation,
        x: Tensor,
        i: Tensor,
        gradient: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, float, float]:
        """Return the rows of `Moments` `(6, N)`, the largest weight and the farthest landing."""
        chunk = self.chunk or (2**17 if x.device.type == "cpu" else 2**22)
        # whole points where a chunk holds all their walks, else one point and some of its walks
        most = min(self.walks, chunk - chunk % 2)
        rounds = -(-self.walks // most)
        group = max(1, chunk // most)
        out, top = x.new_zeros(6, x.shape[1], dtype=torch.float64), 1.0
        farthest = 0.0
        for first in range(0, x.shape[1], group):
            part = slice(first, first + group)
            sums = Moments(out[:, part])
            for k in range(rounds):
                w = min(most, self.walks - k * most)
                start = Walks.start(
                    x[:, part].repeat(1, w), i[part].repeat(w), equation.domain.count
                )
                slope = None if gradient is None else gradient[:, part].repeat(1, w)
                value, steps, stopped, peak, away = walk(
                    equation, start, self.max_steps, generator, self.antithetic, slope
                )
                value = value.view(w, -1).double()
                if self.antithetic:
                    value = (value[: w // 2] + value[w // 2 :]) / 2
                sums.add(value, steps.view(w, -1), stopped.view(w, -1))
                top, farthest = max(top, peak), max(farthest, away)
            sums.finish()
        return out, top, farthest

    def _samples(self, walks: int) -> int:
        return walks // 2 if self.antithetic else walks

    def _equation(
        self, domain: Domain, problem: Dirichlet, generator: torch.Generator, limit: Tensor
    ) -> Equation:
        """Return what the loop needs: constants per domain, and the fields to evaluate."""
        common = {
            "domain": domain,
            "limit": limit,
            "source": problem.source,
            "boundary": problem.boundary,
        }
        sigma = problem.screening
        if problem.diffusion is None and not callable(sigma):
            if sigma is None:
                return Equation(**common)
            sigma = torch.as_tensor(sigma).to(limit).expand(domain.count)
            if not bool((sigma >= 0).all()):
                raise InvalidArgument(
                    f"screening={float(sigma.min())}", "at least 0", "Pass a field for other signs"
                )
            return Equation(**common, rate=sigma) if bool((sigma > 0).any()) else Equation(**common)
        reduced = problem.reduced or reduced_screening(problem.diffusion, sigma)
        bound = problem.bound
        if bound is None:
            bound = tracking_bound(domain, reduced, generator, limit.dtype)
        rate = torch.as_tensor(bound).to(limit).expand(domain.count)
        if not bool((rate > 0).all()):
            raise InvalidArgument(f"bound={float(rate.min())}", "positive numbers")
        return Equation(**common, rate=rate, reduced=reduced, diffusion=problem.diffusion)


class Moments:
    """Running moments of samples `(S, N)` that arrive in parts, kept in rows of `(6, N)`.

    Args:
        rows: Zeros to fill: mean, squares, two half means, steps, truncated.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.count, self.walks, self.half = rows, 0, 0, [0, 0]

    def add(self, value: Tensor, steps: Tensor, stopped: Tensor) -> None:
        """Add `value (S, N)`, and `steps` and `stopped` `(W, N)` (Chan's update)."""
        n, total = len(value), self.count + len(value)
        mean, squares, *halves, step_sum, stopped_sum = self.rows
        change = value.mean(0) - mean
        squares += (value - value.mean(0)).square_().sum(0)
        squares += change.square() * (self.count * n / total)
        mean += change * (n / total)
        for k, half in enumerate(halves):
            half += value[(self.count + k) % 2 :: 2].sum(0)
            self.half[k] += len(value[(self.count + k) % 2 :: 2])
        step_sum += steps.sum(0)
        stopped_sum += stopped.sum(0)
        self.count, self.walks = total, self.walks + len(steps)

    def finish(self) -> None:
        """Turn sums into means."""
        for half, count in zip(self.rows[2:4], self.half, strict=True):
            half /= count if min(self.half) else torch.nan
        self.rows[4:] /= self.walks


def reduced_screening(diffusion: Field | None, screening: float | Field | None = None) -> Field:
    """Return sigma' of the module's docstring, `diffusion` differentiated automatically.

    Args:
        diffusion: alpha, twice differentiable and positive, or None for 1.
        screening: sigma, or None for 0.
    """

    def reduced(x: Tensor, i: Tensor) -> Tensor:
        value = torch.zeros_like(x[0])
        if screening is not None:
            value = value + (screening(x, i) if callable(screening) else screening)
        if diffusion is None:
            return value
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            alpha = diffusion(x, i)
            # the zero keeps derivatives defined where alpha is affine or constant
            log = torch.log(alpha) + 0 * x.square().sum(0)
            (slope,) = torch.autograd.grad(log.sum(), x, create_graph=True)
            second = [
                torch.autograd.grad(slope[k].sum(), x, retain_graph=True)[0][k]
                for k in range(len(x))
            ]
        return (value / alpha + sum(second) / 2 + slope.square().sum(0) / 4).detach()

    return reduced


def tracking_bound(
    domain: Domain, reduced: Field, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Return a rate `(B,)` for delta tracking: max sigma', and at least max - min.

    From random points: a bound that is missed costs variance, seen in `max_weight`, not bias.
    """
    points = domain.sample_interior(BOUND_POINTS, generator, dtype)
    value = reduced(*domain.columns(points)).view(domain.count, -1)
    low, high = value.amin(1), value.amax(1)
    # a rate of zero would divide by zero where sigma' vanishes; then nothing is born again anyway
    floor = 1e-3 / domain.scale().to(value) ** 2
    return torch.maximum(torch.maximum(high, high - low), floor)
