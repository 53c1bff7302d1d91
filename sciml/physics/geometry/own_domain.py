"""Consistency checks of domains that users write.

    level      at most the distance to `nearest`, zero at `nearest`
    gap        positive inside, at most that distance
    bounds     around `nearest`

Walks believe all of it, and where it is wrong they end somewhere else without a word. So the first
points inside that a domain of another package is asked about are looked at. Samples need not be
exact: what is off by less than a hundredth of the domain's size passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.shapes import check_returned

if TYPE_CHECKING:
    from sciml.physics.geometry.domain import Domain

MOST = 256  # points looked at
NEAR = 1e-2  # in units of the domain's size


def check_own(domain: Domain, x: Tensor, i: Tensor) -> bool:
    """Refuse a domain whose methods contradict each other.

    Args:
        domain: The domain.
        x: Points `(d, N)`.
        i: Their domains `(N,)`.

    Returns:
        Whether any of the points lies inside, so that there was something to be seen.

    Raises:
        InvalidArgument: With the method, and at how many points.
        InvalidType: For bounds that are no tensors.
    """
    name, x, i = type(domain).__name__, x[:, :MOST].detach(), i[:MOST]
    with torch.no_grad():
        low, high = _bounds(domain, name)
        level = domain.level(x, i)
        _need(level.isfinite(), f"{name}.level() is not finite")
        x, i, level = x[:, level < 0], i[level < 0], level[level < 0]
        if not len(i):
            return False
        nearest, gap = domain.nearest(x, i), domain.gap(x, i)
        _need(nearest.isfinite().all(0), f"{name}.nearest() is not finite")
        slack = NEAR * (high - low).amax(1)[i].to(x)
        distance = torch.linalg.vector_norm(x - nearest, dim=0) + slack
        _need(domain.level(nearest, i).abs() <= slack, f"{name}.level() is not zero at nearest()")
        _need(-level <= distance, f"{name}.level() exceeds the distance to nearest()")
        _need((gap > 0) & (gap <= distance), f"{name}.gap() is no number from 0 to the distance")
        _need(domain.land(x, i).isfinite().all(0), f"{name}.land() is not finite")
        inside = (nearest >= low.T[:, i] - slack) & (nearest <= high.T[:, i] + slack)
        _need(inside.all(0), f"{name}.bounds() leaves nearest() outside")
    return True


def _bounds(domain: Domain, name: str) -> tuple[Tensor, Tensor]:
    corners = domain.bounds()
    if not isinstance(corners, tuple) or len(corners) != 2:
        raise InvalidType(
            f"{name}.bounds() returned a {type(corners).__name__}", "two tensors, low and high"
        )
    for corner in corners:
        check_returned(f"{name}.bounds()", corner, (domain.count, domain.dim), what="a corner each")
    if not bool((corners[0] < corners[1]).all()):
        raise InvalidArgument(f"{name}.bounds() of no extent", "low below high in every coordinate")
    return corners


def _need(fine: Tensor, what: str) -> None:
    if not bool(fine.all()):
        raise InvalidArgument(
            f"{what} at {int((~fine).sum())} of {fine.numel()} points",
            "level < 0 inside, zero at the closest boundary point that nearest returns, and its "
            "size at most the distance to that point",
        )
