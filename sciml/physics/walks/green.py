"""Green's functions of balls, as walks use them: mean weight, survival, and the radial law.

For the ball of radius R around x and `Laplacian u - sigma u = -f` (sigma = 0: Poisson)

    u(x) = P mean_sphere(u) + integral G(|y - x|) f(y) dy,    integral G = (1 - P) / sigma.

With the radial solution Phi(t) = sum_k Gamma(d/2) / (k! Gamma(k + d/2)) t^k at t = sigma R^2 / 4
(I0(q R) in 2D, sinh(q R) / (q R) in 3D, q = sqrt(sigma)), the survival is P = 1 / Phi and the
integral R^2 / 4 A / Phi with A = (Phi - 1) / t: no difference of close numbers, any d >= 2.

Source of the formulas for d = 2, 3: Sawhney and Crane, "Monte Carlo Geometry Processing", ACM
Transactions on Graphics 39 (2020), appendix.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from sciml.physics.geometry.primitives import sphere_area

# Balls are shrunk to q R <= 2, t <= 1: so many terms then reach round-off, at least half of the
# proposed radii are accepted, and a walk that is worth following loses no time.
LARGEST_T = 1.0
TERMS = {torch.float32: 7, torch.float64: 12}


def directions(n: int, dim: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return `(dim, n)` directions uniform on the unit sphere, coordinates first."""
    where = {"generator": generator, "device": generator.device, "dtype": dtype}
    if dim > 3:
        x = torch.randn(dim, n, **where)
        return x.div_(torch.linalg.vector_norm(x, dim=0))
    out = torch.empty(dim, n, device=generator.device, dtype=dtype)
    angle = torch.rand(n, **where).mul_(2 * math.pi)
    torch.cos(angle, out=out[0])
    torch.sin(angle, out=out[1])
    if dim == 3:
        # the height is uniform (Archimedes)
        height = torch.rand(n, **where).mul_(2).sub_(1)
        out[:2] *= (1 - height * height).sqrt_()
        out[2] = height
    return out


def harmonic_radius(n: int, dim: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return `n` radii s in units of R with the law of G at sigma = 0, for any d >= 2.

    The density `2 d / (d - 2) s (1 - s^(d - 2))`, in 2D `-4 s log s`, is that of
    `sqrt(U1) U2^(1/d)`.
    """
    u = torch.rand(2, n, generator=generator, device=generator.device, dtype=dtype)
    if dim == 2:
        return (u[0] * u[1]).sqrt_()
    return u[0].sqrt_().mul_(u[1].pow_(1 / dim))


def screened_radius(t: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Return radii `(n,)` in units of R with the law of G at t = sigma R^2 / 4, `t (n,)` <= 1.

    Proposals from the harmonic law are accepted with probability G_sigma / G_0, without a Bessel
    function: by reduction of order

        G_sigma(s) / G_0(s) = mean of Phi(s^2 t) / Phi(T^2 t)^2

    over T in [s, 1] with density proportional to T^(1 - d), and an event of that probability is
    had from a single random T.
    """
    out = torch.empty_like(t)
    rest = None
    while True:
        part = t if rest is None else t.index_select(0, rest)
        n = len(part)
        s = harmonic_radius(n, dim, generator, t.dtype)
        u = torch.rand(2, n, generator=generator, device=generator.device, dtype=t.dtype)
        other = _beyond(s, u[0], dim)
        ratio = growth(s * s * part, dim) / growth(other * other * part, dim).square_()
        accept = u[1] < ratio
        if rest is None:
            out.copy_(s)
            rest = (~accept).nonzero()[:, 0]
        else:
            out.index_copy_(0, rest, s)
            rest = rest[~accept]
        if len(rest) == 0:
            return out


def greens_function(s: Tensor, r: Tensor, dim: int, q: Tensor | None = None) -> Tensor:
    """Return G `(n,)` of balls of radius `r (n,)` at distance `s (n,)` from the centre, 0 beyond.

    Args:
        s: Distances, positive.
        r: Radii.
        dim: d; 2 or 3 with screening.
        q: Root of the screening `(n,)`, positive; None without.
    """
    if q is None and dim == 2:
        return torch.log(r / s).clamp_min(0) / (2 * math.pi)
    if q is None:
        return (s ** (2 - dim) - r ** (2 - dim)).clamp_min(0) / ((dim - 2) * sphere_area(dim))
    s = torch.minimum(s, r)
    if dim == 2:
        outer = _k0(q * r) / _i0(q * r)
        return (_k0(q * s) - _i0(q * s) * outer) / (2 * math.pi)
    return torch.sinh(q * (r - s)) / (4 * math.pi * s * torch.sinh(q * r))


def exit_weight(s: Tensor, r: Tensor, dim: int, q: Tensor) -> Tensor:
    """Return the weight `(n,)` of leaving a part of a ball at distance `s (n,)` from its centre.

    The flux of G through a sphere of radius s: 1 near the centre, the survival P at s = r. Two and
    three dimensions; arguments as in `greens_function`.
    """
    z = q * s.clamp_min(torch.finfo(s.dtype).tiny ** 0.5)
    if dim == 2:
        outer = _k0(q * r) / _i0(q * r)
        return z * (torch.special.modified_bessel_k1(z) + torch.special.i1(z) * outer)
    return (torch.sinh(q * r - z) + z * torch.cosh(q * r - z)) / torch.sinh(q * r)


def _k0(z: Tensor) -> Tensor:
    return torch.special.modified_bessel_k0(z)


def _i0(z: Tensor) -> Tensor:
    return torch.special.i0(z)


def growth(t: Tensor, dim: int) -> Tensor:
    """Return Phi(t)."""
    return _tail(t, dim).mul_(t).add_(1)


def survival(t: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return P and the integral of G over R^2, each `(n,)`."""
    tail = _tail(t, dim)
    inverse = 1 / torch.addcmul(torch.ones_like(t), tail, t)
    return inverse, tail.mul_(inverse).mul_(0.25)


def _tail(t: Tensor, dim: int) -> Tensor:
    """Return A(t) = (Phi(t) - 1) / t by Horner's scheme."""
    *rest, last = _coefficients(dim, TERMS[t.dtype])
    value = torch.full_like(t, last)
    for c in reversed(rest):
        value = value.mul_(t).add_(c)
    return value


@functools.cache
def _coefficients(dim: int, terms: int) -> tuple[float, ...]:
    """Return the coefficients of Phi at t^1, ..., t^terms."""
    half = dim / 2
    return tuple(
        math.exp(math.lgamma(half) - math.lgamma(k + 1) - math.lgamma(k + half))
        for k in range(1, terms + 1)
    )


def _beyond(s: Tensor, u: Tensor, dim: int) -> Tensor:
    """Return T in [s, 1] with density proportional to T^(1 - d) from uniform `u`."""
    s = s.clamp_min(1e-12)
    if dim == 2:
        return s**u
    return (1 + u * (s ** (2 - dim) - 1)) ** (-1 / (dim - 2))
