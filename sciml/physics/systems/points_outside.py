"""Points at which a solution is asked although its domain does not contain them."""

from __future__ import annotations

import warnings

from torch import Tensor

from sciml.errors import RangeWarning
from sciml.physics.systems.region import Region

CHUNK = 65_536  # points that are looked at together


def points_outside(region: Region, points: Tensor) -> int:
    """Return how many points `(N, D)` lie outside a region: in a hole, before the start, beyond.

    Points on the boundary are inside, up to rounding. A point that is no number is outside.
    """
    return sum(int((~region.contains(part)).sum()) for part in points.split(CHUNK))


def warn_outside(region: Region, points: Tensor, stacklevel: int = 3) -> None:
    """Warn once of the points `(N, D)` outside a region, where a network extrapolates.

    Args:
        region: The domain of the system.
        points: All points of a call.
        stacklevel: Of `warnings.warn`; 3 is the line that called the caller of this function.
    """
    outside = points_outside(region, points)
    if outside:
        box = zip(region.variables, region.low.tolist(), region.high.tolist(), strict=True)
        where = ", ".join(f"{v} from {a:.4g} to {b:.4g}" for v, a, b in box)
        hole = ", without what is cut out" if region.shape and len(region.shape.leaves) > 1 else ""
        warnings.warn(
            f"{outside} of {len(points)} points lie outside the domain ({where}{hole}): no "
            "equation holds there, and values are extrapolated. Ask at points inside",
            RangeWarning,
            stacklevel=stacklevel,
        )
