"""Transport along a staggered velocity: semi-Lagrangian and MacCormack steps.

    semi-Lagrangian   f1(x) = f(y),  y where x was a time step before (midpoint rule); order 1
    MacCormack        f1 + (f - back) / 2, back = the step taken from f1 in reverse; order 2

The second is limited to the values around y, so it makes no new extremes, and is the first one
where a path leaves the grid. Both are stable for any time step and differentiable.

Source: Selle, Fedkiw, Kim, Liu & Rossignac 2008, J. Sci. Comput. 35 (MacCormack with limits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sciml.arguments import count, maybe
from sciml.errors import InvalidArgument
from sciml.physics.fluids.staggered import Velocity, interpolate, points, shape_of, trace
from sciml.typed_arguments import typed

Method = Literal["maccormack", "semi_lagrangian"]


@typed(face_axis=maybe(count))
def advect(
    fields: Sequence[Tensor],
    velocity: Sequence[Tensor],
    steps: float,
    *,
    method: Method = "maccormack",
    face_axis: int | None = None,
) -> list[Tensor]:
    """Return fields of one kind a time step later.

    Args:
        fields: `(B, *grid)` each, at cell centres, or at the faces of an axis.
        velocity: Per axis `(B, *faces)`.
        steps: dt / h.
        method: `maccormack` or `semi_lagrangian`.
        face_axis: Axis of the faces that the fields stand at; None for cell centres.

    Raises:
        InvalidType: For fields that are no tensors.
        InvalidArgument: For another method, or a velocity that fits no grid or not the fields.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import advect
        >>> u = torch.ones(1, 9, 8), torch.zeros(1, 8, 9)  # one cell to the right
        >>> f = torch.arange(8.0).reshape(1, 8, 1).expand(1, 8, 8)
        >>> advect([f], u, 1.0, method="semi_lagrangian")[0][0, :, 0].tolist()
        [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    """
    shape = shape_of(velocity)
    faces = tuple(n + (a == face_axis) for a, n in enumerate(shape))
    batch = len(velocity[0])
    for f in fields:
        if f.shape[1:] != faces or (batch != 1 and len(f) != batch):
            raise InvalidArgument(
                f"a field of shape {tuple(f.shape)} for a velocity on a grid of {shape} cells",
                f"shape {(batch if batch != 1 else 'B', *faces)}, with face_axis={face_axis}",
            )
    here = points(shape, face_axis, like=velocity[0])
    before = trace(velocity, here, steps)
    if method == "semi_lagrangian":
        return [interpolate(f, before, face_axis) for f in fields]
    after = trace(velocity, here, -steps)
    inside = _inside(before, shape) & _inside(after, shape)
    out = []
    for f in fields:
        first, least, most = interpolate(f, before, face_axis, bounds=True)
        back = interpolate(first, after, face_axis)
        limited = (first + (f - back) / 2).maximum(least).minimum(most)
        out.append(torch.where(inside, limited, first))
    return out


@typed
def advect_velocity(
    velocity: Sequence[Tensor], steps: float, *, method: Method = "maccormack"
) -> Velocity:
    """Return a velocity that was carried along itself, further arguments as in `advect`.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import advect_velocity
        >>> u, v = torch.ones(1, 9, 8), torch.zeros(1, 8, 9)
        >>> [tuple(part.shape) for part in advect_velocity([u, v], 0.5)]
        [(1, 9, 8), (1, 8, 9)]
    """
    return tuple(
        advect([u], velocity, steps, method=method, face_axis=a)[0] for a, u in enumerate(velocity)
    )


def _inside(at: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    inside = [(x >= 0) & (x <= n) for x, n in zip(at, shape, strict=True)]
    out = inside[0]
    for one in inside[1:]:
        out = out & one
    return out
