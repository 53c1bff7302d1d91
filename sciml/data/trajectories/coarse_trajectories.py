"""Trajectories of a file on the coarser grid of a problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml.data.trajectories.pdebench import Trajectories
from sciml.errors import InvalidArgument

CLOSE = 1e-4  # of the spacing: coordinates in files are float32


def on_grid_of(problem: Any, found: Trajectories, path: str | Path) -> tuple[Tensor, Tensor]:
    """Return inputs `(N, C, *grid)` and values `(N, nt, *grid)` in float64 on a problem's axes.

    Along every axis the file's points are either those of the problem, or several times as many:
    then points that fall together are taken, or cells are averaged whose centre falls on one of the
    problem's cells. Where the problem is periodic, grids may be shifted against each other.

    Args:
        problem: Knows `times`, `grids`, `periods` and `channels`.
        found: From the file.
        path: For messages.

    Raises:
        InvalidArgument: If an axis does not fit, or the channels differ.
    """
    directions = len(problem.grids)
    if len(found.grids) != directions or found.inputs.shape[1] != len(problem.channels):
        raise InvalidArgument(
            f"{path} with {len(found.grids)} directions of space and {found.inputs.shape[1]} input "
            f"fields for {type(problem).__name__}",
            f"{directions} directions and the inputs {', '.join(problem.channels)}",
        )
    inputs, values = found.inputs.double(), found.values.double()
    axes = (*zip(problem.grids, found.grids, problem.periods, strict=True),)
    for place, (wanted, axis, period) in enumerate(axes):
        name = f"{'xyz'[place]} coordinates"
        inputs = _coarser(inputs, 2 + place, wanted, axis, name, path, cyclic=period is not None)
        values = _coarser(values, 2 + place, wanted, axis, name, path, cyclic=period is not None)
    if len(problem.times) > 1:
        values = _coarser(values, 1, problem.times, found.times, "times", path, cells=False)
    return inputs, values


def _coarser(
    field: Tensor,
    dim: int,
    wanted: Tensor,
    axis: Tensor,
    name: str,
    path: str | Path,
    *,
    cyclic: bool = False,
    cells: bool = True,
) -> Tensor:
    """Return the field at the wanted coordinates along one axis."""
    axis, wanted = axis.double(), wanted.double().cpu()
    spacing = wanted[1] - wanted[0]
    for factor in range(1, len(axis) // len(wanted) + 2):
        points = axis[::factor]
        if _same(points, wanted, spacing, cyclic):
            return field.index_select(dim, torch.arange(0, len(axis), factor))
        if cells and factor * len(wanted) == len(axis):
            centres = axis.view(-1, factor).mean(1)
            if _same(centres, wanted, spacing, cyclic):
                return field.unflatten(dim, (len(wanted), factor)).mean(dim + 1)
    raise InvalidArgument(
        f"{path} with {len(axis)} {name} from {float(axis[0]):.6g} to {float(axis[-1]):.6g}",
        f"the problem's {len(wanted)} from {float(wanted[0]):.6g} to {float(wanted[-1]):.6g}, or a "
        "multiple of them",
        "Set data.problem.cells (or points), time_count and horizon to fit the file",
    )


def _same(found: Tensor, wanted: Tensor, spacing: Tensor, cyclic: bool) -> bool:
    if found.shape != wanted.shape:
        return False
    gap = found - wanted
    gap = gap - gap[0] if cyclic else gap
    return bool((gap.abs() <= CLOSE * spacing.abs()).all())
