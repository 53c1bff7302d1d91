"""Families of elliptic problems on varying domains, with exact solutions: what operators learn.

    div(alpha grad u) - sigma u = -f  in the domain,    u = g  on its boundary

(so `Laplacian u = -f`: the source of a positive charge is positive). A family draws domains, and
fields on given domains; both are functions of a generator. Every instance knows its solution.

    StarPoisson         the family of arXiv 2603.01193: stars, sums of Gaussians as source,
                        trigonometric boundary data. (There `Laplacian u = +f`; amplitudes are
                        symmetric, so the law is the same.) Solutions by boundary integrals.
    StarScreened        the same domains, sigma > 0 constant in each; solutions in closed form,
                        Gaussians plus exponentials with `Laplacian h = sigma h`
    StarDiffusion       alpha varies in space; solutions in closed form, Gaussians plus harmonic
                        polynomials, the source computed from them
    BoxPoisson          boxes in 3D; solutions in closed form, Gaussians plus the potential of
                        charges outside, so that no two problems share their data

`test_domains` adds domains of another kind, with the same kind of fields, that no run trains on.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.curve_reference import curve_reference
from sciml.physics.geometry import Ball, Box, Domain, Ellipse, Polygon, Star, l_shape, star_family
from sciml.physics.geometry.domain import uniform
from sciml.physics.star_reference import Gaussians
from sciml.physics.walk_on_spheres import Dirichlet, Field

Law = Callable[[int, torch.Generator], Domain]

# Orders of the radii of `wide` stars, and bounds of their radius.
WIDE_ORDERS = (1, 2, 3, 4, 5, 6, 8)
WIDE_SHARE = 0.38  # largest sum of amplitudes, of the mean radius
REACH = 1.4  # no point of a domain is farther from the origin


@dataclass(frozen=True)
class Instances:
    """B problems with their solutions.

    Attributes:
        domain: B domains.
        problem: Their equation.
        solution: `points (B, P, d) -> (B, P)`, exact, in float64.
    """

    domain: Domain
    problem: Dirichlet
    solution: Callable[[Tensor], Tensor]


class Family(ABC):
    """A law of problems; all domains lie within `REACH` of the origin.

    Attributes:
        dim: d.
        coefficients: Names of the coefficients a network has to see beside f and g: "screening",
            "diffusion".
    """

    dim: int = 2
    coefficients: tuple[str, ...] = ()

    @abstractmethod
    def domains(self, count: int, generator: torch.Generator) -> Domain:
        """Return `count` random domains."""

    @abstractmethod
    def fields(self, domain: Domain, generator: torch.Generator) -> Instances:
        """Return random equations and data, one for each of the B domains."""

    def draw(self, count: int, generator: torch.Generator) -> Instances:
        """Return `count` random problems."""
        return self.fields(self.domains(count, generator), generator)

    def test_domains(self) -> dict[str, Law]:
        """Return the laws of the domains of test sets; "test" is the family's own."""
        return {"test": self.domains}


class Stars(Family):
    """Star-shaped domains in the plane.

    Args:
        spread: `r = 1 + c1 cos 4 theta + c2 cos 8 theta`, both c uniform on [-spread, spread].
        wide: Share of domains of a wider law instead: random size, orders up to 8, random phases.

    Raises:
        InvalidArgument: For a spread beyond 0.2, which leaves the box, or a share outside [0, 1].
    """

    def __init__(self, spread: float = 0.2, wide: float = 0.0) -> None:
        if not 0 <= spread <= 0.2:
            raise InvalidArgument(f"spread={spread}", "a number between 0 and 0.2")
        if not 0 <= wide <= 1:
            raise InvalidArgument(f"wide={wide}", "a share between 0 and 1")
        self.spread, self.wide = spread, wide

    def domains(self, count: int, generator: torch.Generator) -> Star:
        """Return stars, the share `wide` of them of the wider law."""
        return stars(count, generator, self.spread, self.wide)

    def test_domains(self) -> dict[str, Law]:
        """Return the paper's stars, and ellipses, polygons and L-shapes, which no run trains on."""
        return {
            "test": functools.partial(stars, spread=self.spread),
            "test_ellipse": ellipses,
            "test_polygon": polygons,
            "test_l_shape": l_shapes,
        }


class StarPoisson(Stars):
    """The two-dimensional family of arXiv 2603.01193.

    f = sum of 2 beta exp(-|x - mu|^2),    mu and beta normal
    g = b0 + sum_k (b_k cos k theta + b_k' sin k theta) / 4, k = 1, 2,    b uniform on [-1, 1]
    """

    def fields(self, domain: Domain, generator: torch.Generator) -> Instances:
        """Return random sources and boundary data with their solutions."""
        source = gaussians(domain.count, domain.dim, generator)
        b = 2 * uniform((domain.count, 5), generator, torch.float64) - 1
        boundary = Angular(torch.cat([b[:, :1], b[:, 1:] / 4], 1))

        def solution(points: Tensor) -> Tensor:
            return curve_reference(domain, boundary, points, source)

        return Instances(domain, Dirichlet(boundary, source), solution)


class StarScreened(Stars):
    """Screened problems: `Laplacian u - sigma u = -f`, sigma log-uniform on a range.

        u = sum of 2 beta exp(-|x - mu|^2) + sum of 3 a exp(q (e . x - 1)),    q^2 = sigma,

    e uniform directions, a normal.

    Args:
        screening: Ends of the range of sigma.
    """

    coefficients = ("screening",)

    def __init__(
        self, spread: float = 0.2, wide: float = 0.0, screening: tuple[float, float] = (1.0, 16.0)
    ) -> None:
        super().__init__(spread, wide)
        low, high = screening
        if not 0 < low <= high:
            raise InvalidArgument(f"screening={list(screening)}", "0 < low <= high")
        self.screening = (float(low), float(high))

    def fields(self, domain: Domain, generator: torch.Generator) -> Instances:
        """Return random problems with their solutions."""
        count = domain.count
        low, high = (math.log(s) for s in self.screening)
        u = uniform((count,), generator, torch.float64)
        sigma = (low + (high - low) * u).exp()
        bumps = gaussians(count, domain.dim, generator)
        angle = 2 * math.pi * uniform((count, 3), generator, torch.float64)
        height = _normal((count, 3), generator)
        waves = Exponentials(height, torch.stack([angle.cos(), angle.sin()], 2), sigma.sqrt())

        def value(x: Tensor, i: Tensor) -> Tensor:
            return bumps(x, i) + waves(x, i)

        def source(x: Tensor, i: Tensor) -> Tensor:
            return sigma.to(x)[i] * bumps(x, i) - bumps.laplacian(x, i)

        return Instances(
            domain, Dirichlet(value, source, screening=sigma), lambda p: _at(domain, value, p)
        )


class StarDiffusion(Stars):
    """Diffusion that varies in space: `div(alpha grad u) = -f`.

        log alpha = contrast * sin(k . x + phase),    |k| uniform on [1, 2]
        u = sum of 2 beta exp(-|x - mu|^2) + real part of a polynomial in x + i y of degree 3

    Args:
        contrast: Largest logarithm of alpha; each instance has its own, uniform below it.
    """

    coefficients = ("diffusion",)

    def __init__(self, spread: float = 0.2, wide: float = 0.0, contrast: float = 0.7) -> None:
        super().__init__(spread, wide)
        if contrast < 0:
            raise InvalidArgument(f"contrast={contrast}", "a number of at least 0")
        self.contrast = contrast

    def fields(self, domain: Domain, generator: torch.Generator) -> Instances:
        """Return random problems with their solutions."""
        count = domain.count
        alpha = LogSine.draw(count, self.contrast, generator)
        bumps = gaussians(count, domain.dim, generator)
        waves = Polynomial(_normal((count, 8), generator) / 3)

        def value(x: Tensor, i: Tensor) -> Tensor:
            return bumps(x, i) + waves(x, i)

        def source(x: Tensor, i: Tensor) -> Tensor:
            # div(alpha grad u) = alpha (Laplacian u + grad log alpha . grad u)
            slope = bumps.gradient(x, i) + waves.gradient(x, i)
            drift = (alpha.log_gradient(x, i) * slope).sum(0)
            return -alpha(x, i) * (bumps.laplacian(x, i) + drift)

        problem = Dirichlet(
            value, source, diffusion=alpha, reduced=alpha.reduced, bound=alpha.bound()
        )
        return Instances(domain, problem, lambda p: _at(domain, value, p))


class BoxPoisson(Family):
    """Boxes in three dimensions: `Laplacian u = -f`.

        u = sum of 2 beta exp(-|x - mu|^2) + sum of 4 q |p| / |x - p|,

    charges p at 1.15 to 2.2 times the distance of the corners from the centre, q normal.

    Args:
        side: Ends of the range of half the sides.
    """

    dim = 3

    def __init__(self, side: tuple[float, float] = (0.6, 1.1)) -> None:
        low, high = side
        if not 0 < low <= high <= REACH:
            raise InvalidArgument(f"side={list(side)}", f"0 < low <= high <= {REACH}")
        self.side = (float(low), float(high))

    def domains(self, count: int, generator: torch.Generator) -> Box:
        """Return boxes around the origin."""
        low, high = self.side
        half = low + (high - low) * uniform((count, 3), generator, torch.float64)
        return Box(-half.cpu(), half.cpu()).to(generator.device)

    def test_domains(self) -> dict[str, Law]:
        """Return boxes, and balls, which no run trains on."""
        return {"test": self.domains, "test_ball": balls}

    def fields(self, domain: Domain, generator: torch.Generator) -> Instances:
        """Return random sources and charges with the solutions."""
        count = domain.count
        low, high = domain.bounds()
        corner = torch.linalg.vector_norm((high - low) / 2, dim=1)[:, None, None]
        away = corner * (1.15 + 1.05 * uniform((count, 4, 1), generator, torch.float64))
        e = _normal((count, 4, 3), generator)
        e = e / torch.linalg.vector_norm(e, dim=2, keepdim=True)
        charges = Charges(_normal((count, 4), generator) * away[..., 0], away * e)
        bumps = gaussians(count, 3, generator)

        def value(x: Tensor, i: Tensor) -> Tensor:
            return bumps(x, i) + charges(x, i)

        def source(x: Tensor, i: Tensor) -> Tensor:
            return -bumps.laplacian(x, i)

        return Instances(domain, Dirichlet(value, source), lambda p: _at(domain, value, p))


# --- laws of domains ------------------------------------------------------------------------------
def stars(count: int, generator: torch.Generator, spread: float, wide: float = 0.0) -> Star:
    """Return stars; see `Stars`. If `wide` is positive all have the orders of the wide ones."""
    if wide == 0:
        return star_family(count, generator, spread)
    kind = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    k = len(WIDE_ORDERS)
    narrow = (2 * torch.rand(count, 2, **kind) - 1) * spread
    cosine = torch.zeros(count, k, **{n: kind[n] for n in ("device", "dtype")})
    cosine[:, [WIDE_ORDERS.index(4), WIDE_ORDERS.index(8)]] = narrow
    # higher orders are smaller, as in the boundary of something smooth
    order = torch.tensor(WIDE_ORDERS, **{n: kind[n] for n in ("device", "dtype")})
    size = torch.rand(count, k, **kind) / order.clamp_min(2)
    share = WIDE_SHARE * torch.rand(count, 1, **kind)
    size = size / size.sum(1, keepdim=True) * share
    mean = REACH / (1 + share[:, 0]) * (0.55 + 0.45 * torch.rand(count, **kind))
    phase = 2 * math.pi * torch.rand(count, k, **kind)
    take = torch.rand(count, **kind) < wide
    pick = take[:, None]
    return Star(
        torch.where(pick, size * phase.cos() * mean[:, None], cosine).cpu(),
        WIDE_ORDERS,
        torch.where(pick, size * phase.sin() * mean[:, None], 0.0).cpu(),
        torch.where(take, mean, 1.0).cpu(),
    ).to(generator.device)


def balls(count: int, generator: torch.Generator) -> Ball:
    """Return balls around the origin, radii uniform on [0.7, 1.1]."""
    radius = 0.7 + 0.4 * uniform((count,), generator, torch.float64)
    return Ball(radius.cpu(), torch.zeros(count, 3)).to(generator.device)


def ellipses(count: int, generator: torch.Generator) -> Ellipse:
    """Return ellipses at random angles: half axes uniform on [0.6, 1.3], centre near the origin."""
    axes = 0.6 + 0.7 * uniform((count, 2), generator, torch.float64)
    center = 0.2 * uniform((count, 2), generator, torch.float64) - 0.1
    angle = math.pi * uniform((count,), generator, torch.float64)
    return Ellipse(axes.cpu(), center.cpu(), angle.cpu()).to(generator.device)


def polygons(count: int, generator: torch.Generator) -> Polygon:
    """Return polygons with 6 corners around the origin, not convex in general."""
    step = 2 * math.pi / 6
    turn = 2 * math.pi * uniform((count, 1), generator, torch.float64)
    shift = 0.5 * step * (uniform((count, 6), generator, torch.float64) - 0.5)
    corner = torch.arange(6, dtype=torch.float64, device=turn.device) * step
    angle = corner + turn + shift
    r = 0.7 + 0.65 * uniform((count, 6), generator, torch.float64)
    return Polygon(torch.stack([r * angle.cos(), r * angle.sin()], 2))


def l_shapes(count: int, generator: torch.Generator) -> Polygon:
    """Return L-shapes: half sides uniform on [0.75, 0.95], notches on [0.3, 0.6], turned."""
    u = uniform((count, 3), generator, torch.float64)
    shape = l_shape(0.75 + 0.2 * u[:, 0], 0.3 + 0.3 * u[:, 1])
    angle = 2 * math.pi * u[:, 2:]
    x, y = shape.vertices.unbind(2)
    c, s = angle.cos(), angle.sin()
    return Polygon(torch.stack([c * x - s * y, s * x + c * y], 2))


# --- fields ---------------------------------------------------------------------------------------
class Angular:
    """`b0 + sum_k (b_k cos k theta + b_k' sin k theta)` of the angle around the origin.

    Args:
        coefficients: `(B, 5)`: b0, b1, b1', b2, b2'.
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (2, N)`."""
        b0, b1, c1, b2, c2 = self.coefficients.to(x).T.index_select(1, i)
        r = torch.hypot(x[0], x[1]).clamp_min(torch.finfo(x.dtype).tiny)
        c, s = x[0] / r, x[1] / r
        return b0 + b1 * c + c1 * s + b2 * (2 * c * c - 1) + c2 * (2 * s * c)


class Exponentials:
    """`sum_k a_k exp(q (e_k . x - 1))`: every term obeys `Laplacian h = q^2 h`.

    Args:
        height: a `(B, K)`.
        direction: Unit vectors e `(B, K, d)`.
        rate: q `(B,)`.
    """

    def __init__(self, height: Tensor, direction: Tensor, rate: Tensor) -> None:
        self.height, self.direction, self.rate = height, direction, rate

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (d, N)`."""
        q, total = self.rate.to(x)[i], torch.zeros_like(x[0])
        for k in range(self.height.shape[1]):
            along = (self.direction[:, k].to(x).T.index_select(1, i) * x).sum(0)
            total += self.height[:, k].to(x)[i] * (q * (along - 1)).exp()
        return total


class Polynomial:
    """The real part of `sum_k (a_k - i b_k) z^k`, z = x + i y, k = 0..3: harmonic.

    Args:
        coefficients: `(B, 8)`: a_0..a_3, b_0..b_3.
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.coefficients = coefficients

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (2, N)`."""
        return self._sum(x, i, lambda z, k: z**k).real

    def gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the gradient `(2, N)`."""
        slope = self._sum(x, i, lambda z, k: k * z ** max(k - 1, 0))
        return torch.stack([slope.real, -slope.imag])

    def _sum(self, x: Tensor, i: Tensor, power: Callable[[Tensor, int], Tensor]) -> Tensor:
        c = self.coefficients.to(x).T.index_select(1, i)
        z = torch.complex(x[0], x[1])
        return sum(torch.complex(c[k], -c[k + 4]) * power(z, k) for k in range(4))


class LogSine:
    """`alpha = exp(contrast sin(k . x + phase))` with what delta tracking needs.

    Args:
        contrast: `(B,)`.
        wave: k `(B, 2)`.
        phase: `(B,)`.
    """

    def __init__(self, contrast: Tensor, wave: Tensor, phase: Tensor) -> None:
        self.contrast, self.wave, self.phase = contrast, wave, phase

    @classmethod
    def draw(cls, count: int, contrast: float, generator: torch.Generator) -> LogSine:
        """Return random coefficients, see `StarDiffusion`."""
        u = uniform((count, 4), generator, torch.float64)
        angle, size = 2 * math.pi * u[:, 0], 1 + u[:, 1]
        wave = torch.stack([size * angle.cos(), size * angle.sin()], 1)
        return cls(contrast * u[:, 2], wave, 2 * math.pi * u[:, 3])

    def _parts(self, x: Tensor, i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wave = self.wave.to(x).T.index_select(1, i)
        return self.contrast.to(x)[i], wave, (wave * x).sum(0) + self.phase.to(x)[i]

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return alpha `(N,)` at `x (2, N)`."""
        contrast, _, angle = self._parts(x, i)
        return (contrast * angle.sin()).exp()

    def log_gradient(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the gradient of log alpha `(2, N)`."""
        contrast, wave, angle = self._parts(x, i)
        return contrast * angle.cos() * wave

    def reduced(self, x: Tensor, i: Tensor) -> Tensor:
        """Return `Laplacian(log alpha) / 2 + |grad log alpha|^2 / 4`, `(N,)`."""
        contrast, wave, angle = self._parts(x, i)
        square = wave.square().sum(0)
        return square * (-contrast * angle.sin() / 2 + (contrast * angle.cos()) ** 2 / 4)

    def bound(self) -> Tensor:
        """Return a bound of `|reduced|` `(B,)` for delta tracking.

        With c the contrast `c |sin| / 2 + c^2 cos^2 / 4 <= c / 2 + c^2 / 4`; a tracking rate far
        below 1 costs nothing, so it is kept away from 0.
        """
        c = self.contrast
        return (self.wave.square().sum(1) * (c / 2 + c**2 / 4)).clamp_min(0.05)


class Charges:
    """`sum_k q_k / |x - p_k|`.

    Args:
        charge: q `(B, K)`.
        place: p `(B, K, 3)`.
    """

    def __init__(self, charge: Tensor, place: Tensor) -> None:
        self.charge, self.place = charge, place

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        """Return the field `(N,)` at `x (3, N)`."""
        total = torch.zeros_like(x[0])
        for k in range(self.charge.shape[1]):
            gap = x - self.place[:, k].to(x).T.index_select(1, i)
            total += self.charge[:, k].to(x)[i] * gap.square().sum(0).rsqrt()
        return total


def gaussians(count: int, dim: int, generator: torch.Generator) -> Gaussians:
    """Return `count` sums of 2 Gaussians, centres and amplitudes normal."""
    amplitude = _normal((count, 2), generator)
    return Gaussians(amplitude, _normal((count, 2, dim), generator))


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    kind = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    return torch.randn(shape, **kind)


def _at(domain: Domain, field: Field, points: Tensor) -> Tensor:
    """Return a field at `points (B, P, d)`, `(B, P)` in float64."""
    return field(*domain.columns(points.double())).view(domain.count, -1)
