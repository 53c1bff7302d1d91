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
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import count, generator, made, takes
from sciml.errors import InvalidArgument
from sciml.physics.elliptic.curve_reference import curve_reference
from sciml.physics.elliptic.domain_families import REACH, balls, ellipses, l_shapes, polygons, stars
from sciml.physics.elliptic.elliptic_problem import Dirichlet, ScalarField
from sciml.physics.elliptic.elliptic_solutions import (
    Angular,
    Charges,
    Exponentials,
    LogSine,
    Polynomial,
    gaussians,
    normal,
)
from sciml.physics.geometry import Box, Domain, Star
from sciml.physics.geometry.domain_rows import uniform
from sciml.typed_arguments import typed

Law = Callable[[int, torch.Generator], Domain]


@dataclass(frozen=True)
class Instances:
    """B problems with their solutions.

    Attributes:
        domain, problem: B domains, and their equation.
        solution: `points (B, P, d) -> (B, P)`, exact, in float64.
    """

    domain: Domain
    problem: Dirichlet
    solution: Callable[[Tensor], Tensor]


class Family(ABC):
    """A law of problems; all domains lie within `REACH` of the origin.

    Attributes:
        dim: d.
        coefficients: Names of those a network sees beside f and g: "screening", "diffusion".

    Example:
        >>> from sciml.physics.elliptic import Family, StarPoisson
        >>> isinstance(StarPoisson(), Family), StarPoisson().dim
        (True, 2)
    """

    dim: int = 2
    coefficients: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the check of arguments around the two laws that the class defines."""
        super().__init_subclass__(**kwargs)
        domain = made("bounds", "nearest", what="a domain of sciml.physics.geometry")
        check = takes(count=count, domain=domain, generator=generator)
        for name in {"domains", "fields"} & vars(cls).keys():
            setattr(cls, name, check(vars(cls)[name]))

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


@typed
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


@typed
class StarPoisson(Stars):
    """The two-dimensional family of arXiv 2603.01193.

    f = sum of 2 beta exp(-|x - mu|^2),    mu and beta normal
    g = b0 + sum_k (b_k cos k theta + b_k' sin k theta) / 4, k = 1, 2,    b uniform on [-1, 1]

    Example:
        >>> from sciml.physics.elliptic import StarPoisson
        >>> sorted(StarPoisson().test_domains())
        ['test', 'test_ellipse', 'test_l_shape', 'test_polygon']
    """

    def fields(self, domain: Domain, generator: torch.Generator) -> Instances:
        """Return random sources and boundary data with their solutions."""
        source = gaussians(domain.count, domain.dim, generator)
        b = 2 * uniform((domain.count, 5), generator, torch.float64) - 1
        boundary = Angular(torch.cat([b[:, :1], b[:, 1:] / 4], 1))

        def solution(points: Tensor) -> Tensor:
            return curve_reference(domain, boundary, points, source)

        return Instances(domain, Dirichlet(boundary, source), solution)


@typed
class StarScreened(Stars):
    """Screened problems: `Laplacian u - sigma u = -f`, sigma log-uniform on a range.

        u = sum of 2 beta exp(-|x - mu|^2) + sum of 3 a exp(q (e . x - 1)),    q^2 = sigma,

    e uniform directions, a normal.

    Args:
        screening: Ends of the range of sigma.

    Example:
        >>> from sciml.physics.elliptic import StarScreened
        >>> StarScreened(screening=(1.0, 4.0)).coefficients
        ('screening',)
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
        height = normal((count, 3), generator)
        waves = Exponentials(height, torch.stack([angle.cos(), angle.sin()], 2), sigma.sqrt())

        def value(x: Tensor, i: Tensor) -> Tensor:
            return bumps(x, i) + waves(x, i)

        def source(x: Tensor, i: Tensor) -> Tensor:
            return sigma.to(x)[i] * bumps(x, i) - bumps.laplacian(x, i)

        return Instances(
            domain, Dirichlet(value, source, screening=sigma), lambda p: _at(domain, value, p)
        )


@typed
class StarDiffusion(Stars):
    """Diffusion that varies in space: `div(alpha grad u) = -f`.

        log alpha = contrast * sin(k . x + phase),    |k| uniform on [1, 2]
        u = sum of 2 beta exp(-|x - mu|^2) + real part of a polynomial in x + i y of degree 3

    Args:
        contrast: Largest logarithm of alpha; each instance has its own, uniform below it.

    Example:
        >>> from sciml.physics.elliptic import StarDiffusion
        >>> StarDiffusion(contrast=0.5).coefficients
        ('diffusion',)
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
        waves = Polynomial(normal((count, 8), generator) / 3)

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


@typed
class BoxPoisson(Family):
    """Boxes in three dimensions: `Laplacian u = -f`.

        u = sum of 2 beta exp(-|x - mu|^2) + sum of 4 q |p| / |x - p|,

    charges p at 1.15 to 2.2 times the distance of the corners from the centre, q normal.

    Args:
        side: Ends of the range of half the sides.

    Example:
        >>> from sciml.physics.elliptic import BoxPoisson
        >>> sorted(BoxPoisson(side=(0.8, 1.0)).test_domains())
        ['test', 'test_ball']
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
        e = normal((count, 4, 3), generator)
        e = e / torch.linalg.vector_norm(e, dim=2, keepdim=True)
        charges = Charges(normal((count, 4), generator) * away[..., 0], away * e)
        bumps = gaussians(count, 3, generator)

        def value(x: Tensor, i: Tensor) -> Tensor:
            return bumps(x, i) + charges(x, i)

        def source(x: Tensor, i: Tensor) -> Tensor:
            return -bumps.laplacian(x, i)

        return Instances(domain, Dirichlet(value, source), lambda p: _at(domain, value, p))


def _at(domain: Domain, field: ScalarField, points: Tensor) -> Tensor:
    """Return a field at `points (B, P, d)`, `(B, P)` in float64."""
    return field(*domain.columns(points.double())).view(domain.count, -1)
