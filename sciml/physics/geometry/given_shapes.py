"""Domains from images and from triangulations of the plane."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.geometry.domain_rows import Numbers, rows_of
from sciml.physics.geometry.grid import SDFGrid
from sciml.physics.geometry.polygon import Polygon
from sciml.shapes import WHOLE, as_array

BORDER = 2  # cells of background at least around a mask
ROOM = 0.6  # of the domain's longest side around it: distances are known as far as operators look


class MaskDomain(SDFGrid):
    """The domain of `mask_domain`: distances on a grid around it, a box that touches it.

    Args:
        values: See `SDFGrid`.
        low: First node `(d,)` of the grid.
        high: Last node.
        box: Corners `(2, d)` of the cells that are inside.
    """

    def __init__(self, values: Numbers, low: Numbers, high: Numbers, box: Tensor) -> None:
        super().__init__(values, low, high)
        self.first, self.last = box[:1].clone(), box[1:].clone()

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the corners of the cells that are inside."""
        return self.first, self.last


def mask_domain(mask: Numbers, low: Numbers, high: Numbers) -> MaskDomain:
    """Return the domain that a mask shows: the cells where it is true.

    Distances are those to the middle between the closest cells of both kinds, off by less than a
    cell from the smooth domain that was drawn.

    Args:
        mask: `(n_1, ..., n_d)` true or 1 inside; the first axis is x. A picture whose rows run
            from top to bottom is `numpy.flipud(picture).T`.
        low: Lower corner `(d,)` of the first cell, not its middle.
        high: Upper corner `(d,)` of the last cell. Cells must be squares or cubes.

    Raises:
        InvalidArgument: For a mask that is not 0 and 1, is all of one kind, or has cells of other
            shapes.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import mask_domain
        >>> x, y = torch.meshgrid(*[torch.linspace(-1.15, 1.15, 24)] * 2, indexing="ij")
        >>> disk = mask_domain(x**2 + y**2 < 1, (-1.2, -1.2), (1.2, 1.2))
        >>> disk.inside(torch.tensor([[[0.0, 0.5], [1.1, 1.1]]])).tolist()
        [[True, False]]
    """
    mask = as_array("mask", mask, "an array of 0 and 1").cpu().numpy()
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise InvalidArgument(
            f"a mask with values from {mask.min():g} to {mask.max():g}",
            "true and false, or 0 and 1",
            "Compare a picture with a threshold first: picture > 127",
        )
    mask = mask.astype(bool)
    if mask.all() or not mask.any():
        raise InvalidArgument("a mask that is all of one kind", "cells inside and cells outside")
    low, high = (rows_of(name, v, (mask.ndim,))[0] for name, v in (("low", low), ("high", high)))
    cell = (high - low) / torch.tensor(mask.shape)
    size = float(cell[0])
    if not size > 0 or float((cell - size).abs().max()) > 1e-6 * size:
        raise InvalidArgument(f"cells with sides {cell.tolist()}", "squares or cubes")
    where = np.nonzero(mask)
    first = torch.tensor([int(index.min()) for index in where])
    last = torch.tensor([int(index.max()) + 1 for index in where])
    longest = int((last - first).max())
    wide = BORDER + (longest - (last - first)) // 2 + int(ROOM * longest)
    # cut the mask to what is inside, then put room around it
    mask = mask[tuple(slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True))]
    mask = np.pad(mask, [(w, w) for w in wide.tolist()])
    inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
    distance = torch.from_numpy(np.where(mask, 0.5 - inside, outside - 0.5)) * size
    box = torch.stack([low + size * first, low + size * last])
    start = box[0] - size * (wide - 0.5)
    end = start + size * (torch.tensor(mask.shape) - 1)
    return MaskDomain(distance, start, end, box)


def triangulated_domain(vertices: Numbers, faces: Numbers) -> Polygon:
    """Return the polygon that triangles of the plane fill, with its holes.

    Args:
        vertices: `(V, 2)`.
        faces: `(F, 3)` corners of the triangles, either way round.

    Raises:
        InvalidArgument: For triangles without area, triangles that overlap or meet in a corner
            only, or that fill several separate domains.

    Example:
        >>> import torch
        >>> from sciml.physics.geometry import triangulated_domain
        >>> corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> square = triangulated_domain(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))
        >>> square.inside(torch.tensor([[[0.5, 0.5], [1.5, 0.5]]])).tolist()
        [[True, False]]
    """
    vertices, faces = (
        rows_of("vertices", vertices, (None, 2))[0],
        as_array("faces", faces, "whole numbers (F, 3)"),
    )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype not in WHOLE or len(faces) == 0:
        raise InvalidArgument(f"faces of shape {tuple(faces.shape)}", "whole numbers (F, 3)")
    faces = faces.long()
    if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
        raise InvalidArgument(f"faces of {len(vertices)} vertices", "rows that exist")
    a, b, c = vertices[faces].unbind(1)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    if bool((area == 0).any()):
        raise InvalidArgument(f"{int((area == 0).sum())} triangles without area", "none of them")
    faces = torch.where(area[:, None] > 0, faces, faces.flip(1))
    start, end = faces.flatten(), faces.roll(-1, 1).flatten()
    forward, backward = start * len(vertices) + end, end * len(vertices) + start
    if len(forward.unique()) < len(forward):
        raise InvalidArgument("triangles on the same side of one edge", "none that overlap")
    open_edge = ~torch.isin(forward, backward)
    loops = [vertices[loop] for loop in _loops(start[open_edge], end[open_edge])]
    signed = [_area(loop) for loop in loops]
    outer = [loop for loop, size in zip(loops, signed, strict=True) if size > 0]
    if len(outer) != 1:
        raise InvalidArgument(
            f"triangles that fill {len(outer)} separate domains", "one", "Make one of each"
        )
    return Polygon(outer[0], [loop for loop, size in zip(loops, signed, strict=True) if size < 0])


def _loops(start: Tensor, end: Tensor) -> list[list[int]]:
    """Return the closed paths along edges of the boundary, as rows of vertices."""
    following = dict(zip(start.tolist(), end.tolist(), strict=True))
    if len(following) < len(start):
        raise InvalidArgument(
            "triangles that meet in a corner only", "a boundary that does not touch itself"
        )
    loops = []
    while following:
        first, at = following.popitem()
        loop = [first]
        while at != first:
            loop.append(at)
            at = following.pop(at)
        loops.append(loop)
    return loops


def _area(loop: Tensor) -> float:
    """Return the signed area of a polygon `(V, 2)`."""
    x, y = loop.T
    return float((x * y.roll(-1) - y * x.roll(-1)).sum() / 2)
