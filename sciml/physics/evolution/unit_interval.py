"""Grids on the unit interval, and the odd continuation that makes zero ends periodic."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument

BoundaryKind = Literal["periodic", "dirichlet"]
BOUNDARIES = ("periodic", "dirichlet")


def interval_grid(points: int, boundary: BoundaryKind) -> Tensor:
    """Return j / points: j below `points` where periodic, up to `points` with zero ends."""
    last = points + (boundary == "dirichlet")
    return torch.arange(last, dtype=torch.float64) / points


def whole_period(u: Tensor, boundary: BoundaryKind) -> tuple[Tensor, float]:
    """Return a full period of u `(..., m)` and its length: 1, or 2 for the odd continuation.

    Equations that x -> -x, u -> -u leaves as they are keep the continuation odd, so its solution
    vanishes at both ends.

    Raises:
        InvalidArgument: If u does not vanish at the ends under `dirichlet`.
    """
    if boundary == "periodic":
        return u, 1.0
    ends = u[..., [0, -1]].abs()
    if bool((ends > 1e-10 * u.abs().amax(-1, keepdim=True)).any()):
        raise InvalidArgument(
            f"an initial state that is {float(ends.max()):.3g} at an end",
            "0 at both ends under boundary='dirichlet'",
        )
    inner = u[..., 1:-1]
    zero = torch.zeros_like(u[..., :1])
    return torch.cat([zero, inner, zero, -inner.flip(-1)], -1), 2.0
