"""Staggered (MAC) grids: where values stand, interpolation, path lines, extrapolation.

Points are given in cell widths from the low corner of the grid, so the centre of the first cell is
at 1/2 on every axis and its low face of axis a at 0 on axis a. Every array begins with a batch
dimension B; a velocity is one array per axis, `(B, *faces)`, with one entry more along its axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import (
    booleans,
    count,
    counts,
    flag,
    maybe,
    number,
    shown,
    takes,
    tensor,
    tensors,
)
from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.linear import high, low
from sciml.tensor_types import check_alike

Velocity = tuple[Tensor, ...]


def on_grid(value: Any) -> str:
    """Accept values on a grid of two or three axes, with a batch dimension before them."""
    fits = not tensor(value) and value.dim() in (3, 4)
    return "" if fits else "a tensor of real numbers (B, nx, ny), or (B, nx, ny, nz) in 3-D"


@takes(shape=counts, face_axis=maybe(count), like=maybe(tensor))
def points(
    shape: Sequence[int], face_axis: int | None = None, *, like: Tensor | None = None
) -> list[Tensor]:
    """Return the coordinates of cell centres, or of the faces of an axis, ready to broadcast.

    Args:
        shape: Cells per axis.
        face_axis: Axis of the faces; None for cell centres.
        like: Gives dtype and device; float64 on the CPU without it.

    Returns:
        One array per axis with a batch dimension of 1, `(1, n, 1)` and `(1, 1, m)` in 2-D.

    Example:
        >>> from sciml.physics.fluids.staggered import points
        >>> [x.flatten().tolist() for x in points((2, 3), face_axis=0)]
        [[0.0, 1.0, 2.0], [0.5, 1.5, 2.5]]
    """
    if any(n < 1 for n in shape):
        raise InvalidArgument(f"shape={tuple(shape)}", "one cell or more per axis")
    like = torch.zeros((), dtype=torch.float64) if like is None else like
    out = []
    for a, n in enumerate(shape):
        faces = a == face_axis
        x = torch.arange(n + faces, dtype=like.dtype, device=like.device) + (0.0 if faces else 0.5)
        out.append(x.reshape(1, *(-1 if i == a else 1 for i in range(len(shape)))))
    return out


def shape_of(velocity: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the cells per axis of the grid that a velocity stands on.

    Raises:
        InvalidType: For components that are no tensors of one type.
        InvalidArgument: If the components do not stand at the faces of one grid.
    """
    if wanted := tensors(velocity):
        raise InvalidType(f"velocity is {shown(velocity)}", f"{wanted}, one per axis")
    d = len(velocity)
    if d not in (2, 3):
        raise InvalidArgument(f"a velocity with {d} components", "two or three, one per axis")
    shape = tuple(n - (a == 0) for a, n in enumerate(velocity[0].shape[1:]))
    batch = velocity[0].shape[:1]
    wanted = [(*batch, *(n + (i == a) for i, n in enumerate(shape))) for a in range(d)]
    got = [tuple(u.shape) for u in velocity]
    if got != wanted:
        raise InvalidArgument(
            f"a velocity with components of shapes {got}",
            "one component per axis, at its faces: (B, nx + 1, ny) and (B, nx, ny + 1) in 2-D",
        )
    check_alike(**{f"velocity[{a}]": u for a, u in enumerate(velocity)})
    return shape


@takes(field=tensor, at=tensors, face_axis=maybe(count), periodic=flag, bounds=flag)
def interpolate(
    field: Tensor,
    at: Sequence[Tensor],
    face_axis: int | None = None,
    *,
    periodic: bool = False,
    bounds: bool = False,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Return the multilinear interpolation of a field, differentiable in values and points.

    Args:
        field: `(B, *grid)` at cell centres, or at the faces of an axis.
        at: Per axis coordinates that broadcast to `(B, *Q)`. Points beyond the outermost values
            take these values, or come in again on the other side.
        face_axis: Axis of the faces that the field stands at; None for cell centres.
        periodic: Whether the grid repeats itself (fields at cell centres only).
        bounds: Also return the least and the greatest of the values around every point.

    Raises:
        InvalidArgument: If there is not one array of coordinates per axis of the field, or their
            batch is neither that of the field nor 1.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import interpolate
        >>> field = torch.arange(4.0).reshape(1, 4, 1).expand(1, 4, 4)  # centres at i + 1/2
        >>> at = [torch.tensor([[[2.0]]]), torch.tensor([[[2.0]]])]
        >>> interpolate(field, at).item()
        1.5
    """
    d = field.dim() - 1
    if d < 1 or len(at) != d or any(len(x) not in (1, len(field)) for x in at if x.dim()):
        raise InvalidArgument(
            f"points with coordinates of shapes {[tuple(x.shape) for x in at]} in a field of "
            f"shape {tuple(field.shape)}",
            "a field (B, *grid), and per axis of the grid coordinates (B, *Q) or (1, *Q)",
        )
    shape = field.shape[1:]
    place, share = [], []
    for a, n in enumerate(shape):
        x = at[a] if a == face_axis else at[a] - 0.5
        x = x if periodic else x.clamp(0, n - 1)
        cell = x.detach().floor() if periodic else x.detach().floor().clamp(max=max(n - 2, 0))
        # NaN, which is no index; its share makes the value NaN
        place.append(cell.long() if periodic else cell.long().clamp(0, n - 1))
        share.append(x - cell)
    wide = torch.broadcast_shapes(
        *(x.shape for x in share), (len(field),) + (1,) * (at[0].dim() - 1)
    )
    flat = field.reshape(len(field), -1)
    total: Tensor | float = 0.0
    least, most = None, None
    for corner in product((0, 1), repeat=d):
        index: Tensor | int = 0
        weight: Tensor | float = 1.0
        for a, step in enumerate(corner):
            i = place[a] + step
            i = i % shape[a] if periodic else i.clamp(max=shape[a] - 1)
            index = index * shape[a] + i
            weight = weight * (share[a] if step else 1 - share[a])
        index = index.expand(wide).reshape(len(field), -1)
        value = flat.gather(1, index).reshape(wide)
        total = total + weight * value
        if bounds:
            least = value if least is None else least.minimum(value)
            most = value if most is None else most.maximum(value)
    return (total, least, most) if bounds else total


def velocity_at(velocity: Sequence[Tensor], at: Sequence[Tensor]) -> list[Tensor]:
    """Return the components of a velocity at points."""
    return [interpolate(u, at, a) for a, u in enumerate(velocity)]


def trace(velocity: Sequence[Tensor], start: Sequence[Tensor], steps: float) -> list[Tensor]:
    """Return where points were before a time step, by the midpoint rule; second order.

    Args:
        velocity: At the faces.
        start: Points.
        steps: dt / h; negative to look ahead.
    """
    first = velocity_at(velocity, start)
    middle = [x - 0.5 * steps * u for x, u in zip(start, first, strict=True)]
    second = velocity_at(velocity, middle)
    return [x - steps * u for x, u in zip(start, second, strict=True)]


def centred(velocity: Sequence[Tensor]) -> Velocity:
    """Return the velocity at cell centres, per axis `(B, *grid)`."""
    d = len(velocity)
    return tuple((low(u, a - d) + high(u, a - d)) / 2 for a, u in enumerate(velocity))


@takes(spacing=number)
def vorticity(velocity: Sequence[Tensor], spacing: float = 1.0) -> Tensor:
    """Return the size of the curl at cell centres, `(B, *grid)`; signed in 2-D.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import vorticity
        >>> y = (torch.arange(8.0) + 0.5).reshape(1, 1, 8)
        >>> shear = y.expand(1, 9, 8), torch.zeros(1, 8, 9)  # u = y
        >>> vorticity(shear)[0, 4, 4].item()
        -1.0
    """
    shape_of(velocity)
    if not spacing > 0:
        raise InvalidArgument(f"spacing={spacing}", "a positive cell width")
    u = centred(velocity)
    slope = [torch.gradient(c, spacing=spacing, dim=list(range(1, c.dim()))) for c in u]
    if len(u) == 2:
        return slope[1][0] - slope[0][1]
    curl = [slope[(a + 2) % 3][(a + 1) % 3] - slope[(a + 1) % 3][(a + 2) % 3] for a in range(3)]
    return torch.stack(curl).square().sum(0).sqrt()


@takes(values=on_grid, known=booleans, layers=count)
def extrapolated(values: Tensor, known: Tensor, layers: int) -> Tensor:
    """Return values carried on beyond where they are known, one layer of neighbours at a time.

    What is unknown becomes the mean of its known neighbours, `layers` times; farther values are 0.

    Args:
        values: `(B, *grid)`.
        known: Booleans of that shape.
        layers: Number of layers.

    Raises:
        InvalidArgument: If the two shapes differ.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids.staggered import extrapolated
        >>> values = torch.tensor([[[5.0, 0.0, 0.0]]])
        >>> extrapolated(values, values > 0, layers=1).tolist()
        [[[5.0, 5.0, 0.0]]]
    """
    if known.shape != values.shape:
        raise InvalidArgument(
            f"known of shape {tuple(known.shape)}", f"that of the values, {tuple(values.shape)}"
        )
    d = values.dim() - 1
    values = torch.where(known, values, 0.0)
    for _ in range(min(layers, sum(values.shape[1:]))):  # which is all there are
        sums, count = torch.zeros_like(values), torch.zeros_like(values)
        for a in range(d):
            width = [0, 0] * (d - 1 - a)
            for side in ([*width, 1, 0], [*width, 0, 1]):
                keep = low if side[-2] else high
                sums = sums + pad(keep(values, a - d), side)
                count = count + pad(keep(known, a - d).to(values.dtype), side)
        new = ~known & (count > 0)
        values = torch.where(new, sums / count.clamp_min(1), values)
        known = known | new
    return values
