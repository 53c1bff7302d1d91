"""Smooth curves in the plane as polygons, for what works edge by edge."""

from __future__ import annotations

import math

import torch

from sciml.errors import InvalidArgument
from sciml.physics.geometry.curves import Ellipse
from sciml.physics.geometry.domain import Domain
from sciml.physics.geometry.polygon import Polygon
from sciml.physics.geometry.primitives import Annulus, Ball
from sciml.physics.geometry.star_domain import Star
from sciml.shapes import check_kind
from sciml.typed_arguments import typed


@typed
def inscribed(domain: Ball | Ellipse | Star | Annulus, corners: int = 128) -> Polygon:
    """Return polygons with their corners on smooth curves in the plane.

    They miss at most `size^2 curvature / 8` of the domain, size being the length of an edge: for
    128 corners on a unit circle 3e-4.

    Args:
        domain: B domains in two dimensions; an annulus becomes a polygon with a hole.
        corners: Corners of each.

    Raises:
        InvalidArgument: For other kinds of domains.

    Example:
        >>> from sciml.physics.geometry import Ball, inscribed
        >>> tuple(inscribed(Ball(), corners=64).vertices.shape)
        (1, 64, 2)
    """
    check_kind("domain", domain, Domain)
    if corners < 3:
        raise InvalidArgument(f"corners={corners}", "at least 3")
    t = torch.arange(corners, dtype=torch.float64, device=domain.bounds()[0].device)
    t = t * (2 * math.pi / corners)
    if isinstance(domain, Star):
        i = torch.arange(domain.count, device=t.device).repeat_interleave(corners)
        flat = domain._point(t.repeat(domain.count), i)
        return Polygon(flat.view(2, domain.count, corners).permute(1, 2, 0))
    circle = torch.stack([t.cos(), t.sin()], 1)
    if isinstance(domain, Ellipse):
        c, s = domain.angle.cos(), domain.angle.sin()
        turn = torch.stack([torch.stack([c, s], 1), torch.stack([-s, c], 1)], 1)
        local = circle * domain.axes[:, None]
        return Polygon(local @ turn + domain.center[:, None])
    if isinstance(domain, Ball | Annulus) and domain.dim == 2:
        radii = [domain.radius] if isinstance(domain, Ball) else [domain.outer, domain.inner]
        loops = [domain.center[:, None] + r[:, None, None] * circle for r in radii]
        return Polygon(loops[0], loops[1:])
    raise InvalidArgument(
        f"a {type(domain).__name__} in {domain.dim}D", "a disk, an ellipse, a star or an annulus"
    )
