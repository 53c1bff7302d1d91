"""Random domains, on which the families of elliptic problems are posed."""

from __future__ import annotations

import math

import torch

from sciml.physics.geometry import Ball, Ellipse, Polygon, Star, l_shape, star_family
from sciml.physics.geometry.domain_rows import uniform

# Orders of the radii of `wide` stars, and bounds of their radius.
WIDE_ORDERS = (1, 2, 3, 4, 5, 6, 8)
WIDE_SHARE = 0.38  # largest sum of amplitudes, of the mean radius
REACH = 1.4  # no point of a domain is farther from the origin


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
