"""First steps of walks from points close to the boundary: out of a ball that touches it.

A walk on spheres from a point at distance delta of the boundary ends nearby with a probability of
about 1 - delta / r, and what the rare ones find at distance r decides the mean: a hundred walks may
all agree and be wrong by any number of their standard errors, and where delta is below the walks'
eps they find g at the closest point p and no noise at all. So the first step is another one. Take a
large ball in the domain that touches the boundary at p, with centre c and radius R: the point x
lies in it, off the centre, and for `Laplacian U = s U - F`

    U(x) = integral over the sphere of P(x, y) U(y) + integral over the ball of G(x, z) (F - s U)(z)

    P = (R^2 - a^2) / (omega_d R |x - y|^d),    a = |x - c| = R - delta,
    G = |x - z|^(2 - d) (1 - (1 + k)^(1 - d/2)) / ((d - 2) omega_d)    (2D: log(1 + k) / (4 pi)),
    k = (R^2 - a^2) (R^2 - |z - c|^2) / (R |x - z|)^2.

Both are sampled by importance: y uniform in the logarithm of its distance from p, z uniform in its
distance from p, or like the Green's function of a ball around x, whose radius is uniform in the
logarithm from delta to 2 R. With the weight w = P / density

    U(p) + w (U(y) - U(p)) + G / density (F - s U)(z)

has the mean U(x) and deviations of size delta, as U(x) - U(p) has itself, all of them seen: w is at
most of the order of log(R / delta). U(y) and U(z) come from walks of their own.

Kernels: Evans, "Partial Differential Equations", section 2.2.4 (the ball by reflection).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciml.physics.geometry.domain import Domain
from sciml.physics.geometry.domain_rows import length
from sciml.physics.walks.green import directions, harmonic_radius
from sciml.physics.walks.loop import WalkRule, Walks, walk

# A ball is worth it from this many times the distance to the boundary.
SMALLEST = 1.5
# Halvings of the interval of log R. Any R is right; a larger one has less noise.
HALVINGS = 7
# Projections are good to this share of a ball's radius, which is made smaller by as much.
TRUST = 1e-3
# Walks from the sphere end at this share of the usual distance: x is closer than that itself.
FINER = 0.1
# With screening s balls have s R^2 <= LARGEST: weights stay small.
LARGEST = 4.0


@dataclass(frozen=True)
class Tangent:
    """Balls that touch the boundary, one for each of N points.

    Attributes:
        x: `(d, N)` the points, in float64.
        i: `(N,)` their domains.
        on: `(d, N)` p, the closest boundary points.
        inward: `(d, N)` unit vectors from p towards x.
        delta: `(N,)` distances.
        radius: `(N,)` R.
    """

    x: Tensor
    i: Tensor
    on: Tensor
    inward: Tensor
    delta: Tensor
    radius: Tensor

    @property
    def worth(self) -> Tensor:
        """Whether the ball is much larger than the one around the point, `(N,)`."""
        return self.radius > SMALLEST * self.delta

    def take(self, index: Tensor | slice) -> Tangent:
        """Return the points `index`."""
        return Tangent(*(part[..., index] for part in vars(self).values()))

    def repeat(self, times: int) -> Tangent:
        """Return all points, over and over."""
        return self.take(torch.arange(len(self.i), device=self.i.device).repeat(times))

    @classmethod
    def of(cls, domain: Domain, x: Tensor, i: Tensor, rate: Tensor | None) -> Tangent:
        """Return the largest balls found by halving.

        Args:
            domain: B domains.
            x: Points inside `(d, N)`, in float64.
            i: Their domains.
            rate: `(B,)` screening or its bound; None for 0.
        """
        on = domain.nearest(x, i)
        delta = length(x - on)
        tiny = torch.finfo(x.dtype).tiny
        inward = (x - on) / delta.clamp_min(tiny)
        size = domain.pick(domain.scale(), x, i).expand_as(delta)
        if rate is not None:
            cap = (LARGEST / domain.pick(rate, x, i).clamp_min(tiny)).sqrt()
            size = torch.minimum(size, cap)
        # the ball around x itself touches at p and lies inside: logarithms of R / delta from 0 on
        low = torch.zeros_like(delta)
        high = (size / delta.clamp_min(tiny)).log().clamp_min(0)
        trial = high
        for _ in range(HALVINGS):
            radius = delta * trial.exp()
            center = on + inward * radius
            fits = length(center - domain.nearest(center, i)) >= radius * (1 - TRUST)
            fits &= domain.level(center, i) < 0
            low, high = torch.where(fits, trial, low), torch.where(fits, high, trial)
            trial = (low + high) / 2
        radius = torch.maximum(delta * low.exp() * (1 - TRUST), delta)
        return cls(x, i, on, inward, delta, radius)

    def exits(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a point of every sphere `(d, N)`, and P over its density `(N,)`."""
        dim, n = self.x.shape
        r, share = self.radius, self.delta / self.radius
        span = (math.pi / share).log1p()
        u = torch.rand(n, generator=generator, device=r.device, dtype=r.dtype)
        angle = share * torch.expm1(span * u)  # at the centre, between p and y
        across = directions(n, dim, generator, r.dtype)
        across = across - self.inward * (across * self.inward).sum(0)
        across = across / length(across).clamp_min(torch.finfo(r.dtype).tiny)
        deep = 2 * (angle / 2).sin().square()
        y = self.on + r * (self.inward * deep + across * angle.sin())
        square = self.delta**2 + 2 * (r - self.delta) * r * deep
        # powers of d of ratios alone: in 100 dimensions r^(2 - d) is beyond all numbers
        areas = math.exp(math.lgamma(dim / 2) - math.lgamma((dim - 1) / 2)) / math.sqrt(math.pi)
        part = areas * self._power() / square
        part = part * (r * angle.sin().abs() / square.sqrt()) ** (dim - 2)
        return y, part * (angle + share) * span

    def inner(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a point of every ball `(d, N)`, and G over its density `(N,)`."""
        dim, n = self.x.shape
        tiny = torch.finfo(self.x.dtype).tiny
        low, high = self.delta, 2 * self.radius
        span = (high / low).log()
        out = directions(n, dim, generator, self.x.dtype)
        u = torch.rand(3, n, generator=generator, device=out.device, dtype=out.dtype)
        size = low * (u[2] * span).exp()
        near = self.x + out * harmonic_radius(n, dim, generator, self.x.dtype) * size
        rise = (out * self.inward).sum(0)
        out = torch.where(rise < 0, -out, out)
        far = self.on + out * (u[0] * 2 * self.radius * rise.abs())
        z = torch.where(u[1] < 0.5, near, far)
        # G and both densities at z, whichever it came from, times s^(d - 2) (d - 2) omega_d with
        # s = |x - z|: of s^(2 - d) itself 100 dimensions make more than the largest number
        step = z - self.on
        reach, s = length(step).clamp_min(tiny), length(z - self.x).clamp_min(tiny)
        chord = (2 * self.radius * (step * self.inward).sum(0) / reach).clamp_min(tiny)
        k = self._power() * (reach * (chord - reach)).clamp_min(0) / (self.radius * s).square()
        wide = torch.where(reach <= chord, 2 / (chord * reach), 0.0)
        least = s.clamp(low, high)
        if dim == 2:  # the limits of what follows, over d - 2
            kernel = k.log1p() / 2
            close = ((least / s).log() * 2 + 1) / least**2 - ((high / s).log() * 2 + 1) / high**2
        else:
            kernel = -torch.expm1((1 - dim / 2) * k.log1p())
            wide = torch.where(wide > 0, wide * (dim - 2) * (s / reach) ** (dim - 2), 0.0)
            at_least, at_most = (s / least) ** (dim - 2), (s / high) ** (dim - 2)
            close = (dim - 2 * at_least) / least**2 - (dim - 2 * at_most) / high**2
        close = torch.where(s < high, close / span, 0.0)
        return z, kernel * 2 / (wide + close).clamp_min(tiny)

    def _power(self) -> Tensor:
        """Return R^2 - a^2, without a difference of close numbers."""
        return self.delta * (2 * self.radius - self.delta)


def walk_from(
    rule: WalkRule, start: Tangent, max_steps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """Return what `loop.walk` does, for walks whose first step leaves a touching ball.

    Args:
        rule: How the other steps are made; its boundary data are read at p as well.
        start: N points.
        max_steps: Where walks are stopped.
        generator: Source of randomness.
    """
    rule = replace(rule, limit=FINER * rule.limit)
    kind, i = rule.limit.dtype, start.i

    def root(x: Tensor) -> Tensor | float:
        return 1.0 if rule.diffusion is None else rule.diffusion(x.to(kind), i).double().sqrt()

    def follow(x: Tensor) -> tuple[Tensor, Tensor, Tensor, float, float]:
        begin = Walks.start(x.to(kind, copy=True), i, rule.domain.count)
        value, *rest = walk(rule, begin, max_steps, generator)
        return value.double() * root(x), *rest

    edge = rule.boundary(start.on.to(kind), i).double() * root(start.on)
    y, weight = start.exits(generator)
    found, steps, stopped, peak, away = follow(y)
    total = edge + weight * (found - edge)
    if rule.source is not None or rule.rate is not None:
        z, share = start.inner(generator)
        right = torch.zeros_like(total)
        if rule.source is not None:
            right = right + rule.source(z.to(kind), i).double() / root(z)
        if rule.rate is not None:
            screening = rule.domain.pick(rule.rate, z, i)
            if rule.reduced is not None:
                screening = rule.reduced(z.to(kind), i).double()
            inner, more, halted, top, farther = follow(z)
            right = right - screening * inner
            steps, stopped = steps + more, stopped | halted
            peak, away = max(peak, top), max(away, farther)
        total = total + share * right
    return total / root(start.x), steps + 1, stopped, peak, away
