"""Stencils from weights that look at nothing: only unknowns are joined, none has a zero row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.arguments import booleans
from sciml.solvers.linear.grid_graph import around, high, low
from sciml.solvers.linear.stencil import Stencil
from sciml.typed_arguments import typed


@typed(unknown=booleans)
def build_stencil(faces: Sequence[Tensor], shift: Tensor, unknown: Tensor) -> Stencil:
    """Return a stencil in which only unknowns are joined and none has a zero row.

    Args:
        faces: Per axis `(*P, *grid)`, one entry less along the axis; whatever stands at faces of
            cells that are no unknowns is dropped.
        shift: `(*P, *grid)`; likewise.
        unknown: `(*P, *grid)` booleans; cells that nothing is joined to are taken out.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import build_stencil
        >>> faces, wet = torch.ones(1, 3), torch.tensor([[True, True, False, True]])
        >>> build_stencil([faces], torch.tensor([[1.0, 0.0, 0.0, 0.0]]), wet).unknown.tolist()
        [[True, True, False, False]]
    """
    given = Stencil(tuple(faces), shift, unknown)  # which looks at the shapes
    faces, shift, unknown, d = given.faces, given.shift, given.unknown, given.ndim
    joined = tuple(
        torch.where(low(unknown, a - d) & high(unknown, a - d), w, 0.0) for a, w in enumerate(faces)
    )
    shift = torch.where(unknown, shift, 0.0)
    unknown = unknown & (around(joined) + shift > 0)
    return Stencil(joined, shift, unknown)
