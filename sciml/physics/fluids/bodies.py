"""Solid bodies in a flow: open shares of faces from a signed distance, and moving balls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.arguments import number, some, takes, tensor
from sciml.errors import InvalidArgument
from sciml.physics.fluids.staggered import points
from sciml.typed_arguments import typed

CLOSED = 0.05  # open shares below it are closed


@takes(distance=tensor)
def open_share(distance: Tensor) -> Tensor:
    """Return the open share of faces with a signed distance (cell widths, positive outside).

    Example:
        >>> import torch
        >>> from sciml.physics.fluids.bodies import open_share
        >>> open_share(torch.tensor([-2.0, 0.0, 2.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    share = (0.5 + distance).clamp(0, 1)
    return torch.where(share < CLOSED, 0.0, share)


def all_closed(opening: Sequence[Tensor]) -> Tensor:
    """Return the cells without an open face, `(B, *grid)`."""
    most: Tensor | None = None
    for a, share in enumerate(opening):
        axis = a - len(opening)
        n = share.shape[axis] - 1
        pair = share.narrow(axis, 0, n).maximum(share.narrow(axis, 1, n))
        most = pair if most is None else most.maximum(pair)
    return most == 0


@typed
@dataclass(frozen=True)
class MovingBall:
    """A disk or a ball that moves; lengths in units of the flow.

    Args:
        centre: time -> coordinates of the centre.
        velocity: time -> its velocity, one number per axis.
        radius: Positive.

    Raises:
        InvalidArgument: For a radius that is not positive.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import MovingBall
        >>> ball = MovingBall(lambda t: (0.5 + t, 0.5), velocity=lambda t: (1.0, 0.0), radius=0.2)
        >>> at = [torch.tensor([1.0]), torch.tensor([0.5])]
        >>> [round(ball.distance(at, time).item(), 3) for time in (0.0, 0.5)]
        [0.3, -0.2]
    """

    centre: Callable[[float], Sequence[float]]
    velocity: Callable[[float], Sequence[float]]
    radius: float

    def __post_init__(self) -> None:
        """Check the radius."""
        if number(self.radius) or not 0 < self.radius < math.inf:
            raise InvalidArgument(f"radius={self.radius}", "a positive radius")

    def distance(self, at: Sequence[Tensor], time: float) -> Tensor:
        """Return the signed distance at points, positive outside, in units of the flow."""
        square = sum((x - c).square() for x, c in zip(at, self.centre(time), strict=True))
        return square.sqrt() - self.radius

    def opening(
        self, shape: Sequence[int], spacing: float, time: float, like: Tensor
    ) -> list[Tensor]:
        """Return the open shares `(1, *faces)` per axis of a grid of cells of width `spacing`."""
        out = []
        for a in range(len(shape)):
            at = [x * spacing for x in points(shape, a, like=like)]
            out.append(open_share(self.distance(at, time) / spacing))
        return out


@takes(centre=some, radius=number)
def standing(centre: Sequence[float], radius: float) -> MovingBall:
    """Return a ball at rest.

    Example:
        >>> from sciml.physics.fluids.bodies import standing
        >>> standing([16.0, 8.0], radius=3.0).radius
        3.0
    """
    if not all(math.isfinite(c) for c in centre):
        raise InvalidArgument(f"centre={centre}", "finite coordinates")
    return MovingBall(lambda time: centre, lambda time: (0.0,) * len(centre), radius)
