"""A classical solve of the same problem on a coarse grid, or from coarse data, as an input.

A solver has `solve(inputs, on_failure) -> solution` for inputs `(B, C, *grid)`, whose `value` has
the outputs as channels in front of the grid; `channels`, names of the inputs that it takes, the
first ones of the data; and `grids`, where it works on a grid of its own, between which and the
data's fields are interpolated. `sciml.physics.steady.NodalDarcy` and the problems of
`sciml.physics.evolution` are such.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.fields.description import FieldSet
from sciml.networks.fields.field_interpolation import interpolated


@torch.no_grad()
def coarse_solve(solver: Any, fields: FieldSet, packed: Tensor) -> Tensor:
    """Return the solver's answer on the grid of the inputs, `(B, C_out, *space)`.

    Args:
        solver: See the top of this file.
        fields: The data's description.
        packed: Inputs `(B, C_in, *space)`.

    Raises:
        InvalidArgument: If the solver takes or returns other fields than the data have.
    """
    name, wanted = type(solver).__name__, getattr(solver, "channels", ("input",))
    if packed.shape[1] < len(wanted):
        raise InvalidArgument(
            f"data.coarse={name}, which takes {', '.join(wanted)}",
            f"a solver of {packed.shape[1]} input channels",
        )
    grid = list(packed.shape[2:])
    own = [len(g) for g in getattr(solver, "grids", ())] or grid
    if len(own) != len(grid):
        raise InvalidArgument(
            f"data.coarse={name} in {len(own)} directions", f"a solver in {len(grid)}"
        )
    given = packed[:, : len(wanted)].double()
    given = interpolated(given, own, fields.grid, fields.periodic)
    value = solver.solve(given, on_failure="warn").value.reshape(len(packed), -1, *own)
    if value.shape[1] < fields.out_channels:
        raise InvalidArgument(
            f"data.coarse={name} with {value.shape[1]} channels out",
            f"at least {fields.out_channels}, those of the data",
            "Set its times to those of the file",
        )
    value = value[:, -fields.out_channels :]  # solvers in time repeat the first state
    return interpolated(value, grid, fields.grid, True).to(packed)
