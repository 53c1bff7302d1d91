"""Assembles pressure systems from what cells hold, open shares of faces, densities and surfaces.

The rules for fluid, solid and air neighbours are in `sciml.physics.fluids.pressure_projection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import integers, number, some
from sciml.errors import InvalidArgument, InvalidType
from sciml.physics.fluids.pressure_projection import Cell, PressureSystem
from sciml.solvers.linear import build_stencil, high, low
from sciml.typed_arguments import typed

# What lies beyond the low and the high end of every axis: one for all, or integers `(*P)`.
Walls = Sequence[tuple[Any, Any]]


@typed(cells=integers)
def pressure_system(
    cells: Tensor,
    *,
    walls: Walls | None = None,
    opening: Sequence[Tensor] | None = None,
    density: Tensor | None = None,
    permeability: Sequence[Tensor] | None = None,
    level_set: Tensor | None = None,
    surface: Tensor | None = None,
    spacing: float | Sequence[float] = 1.0,
    least_fraction: float = 0.01,
    dtype: torch.dtype = torch.float64,
) -> PressureSystem:
    """Return the pressure systems of a batch of geometries.

    Args:
        cells: `(*P, *grid)` integers, see `Cell`; two or three axes of the grid.
        walls: Per axis what lies beyond its low and its high end; solid everywhere by default.
        opening: Per axis `(*P, *faces)`, open shares A_f; None is 1. Faces of solid cells are
            closed whatever stands here.
        density: `(*P, *grid)`, positive; None is 1.
        permeability: Per axis a factor on 1 / rho, broadcast to `(*P, *faces)`; None is 1.
        level_set: `(*P, *grid)`, negative in the liquid; places the surface between a fluid cell
            and an air cell. None has it at the centre of the air cell.
        surface: `(*P, *grid)`, p of air cells; None is 0.
        spacing: Cell width, or one per axis.
        least_fraction: Least theta.
        dtype: Of the matrices.

    Raises:
        InvalidType: If `cells` are not integers.
        InvalidArgument: For shapes that do not fit, shares outside [0, 1], or a density or a width
            that is not positive.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import Cell, pressure_system
        >>> cells = torch.zeros(1, 8, 8, dtype=torch.long)  # Cell.FLUID
        >>> open_top = [(Cell.SOLID, Cell.SOLID), (Cell.SOLID, Cell.AIR)]
        >>> pressure_system(cells, walls=open_top).stencil.diagonal[0, 0].tolist()
        [2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    """
    if number(spacing) and some(spacing):
        raise InvalidType(f"spacing={spacing!r}", "a cell width, or one per axis")
    spacing = float(spacing) if isinstance(spacing, Real | Tensor) else spacing
    for name, value in (("density", density), ("level_set", level_set), ("surface", surface)):
        if value is not None and value.shape != cells.shape:
            raise InvalidArgument(
                f"{name} of shape {tuple(value.shape)}", f"that of cells, {tuple(cells.shape)}"
            )
        if name != "density" and value is not None and not bool(value.isfinite().all()):
            raise InvalidArgument(f"{name} with entries that are not finite", "finite numbers")
    d = _axes(cells, walls, opening, spacing)
    h = (float(spacing),) * d if isinstance(spacing, int | float) else tuple(map(float, spacing))
    _check_values(cells, density, opening, h, least_fraction)
    walls = walls or [(Cell.SOLID, Cell.SOLID)] * d
    rho = torch.ones(cells.shape) if density is None else density
    rho = rho.to(cells.device, dtype)
    fluid = cells == Cell.FLUID
    faces, opened, mobilities = [], [], []
    shift = torch.zeros(cells.shape, dtype=dtype, device=cells.device)
    known = torch.zeros_like(shift)
    for a in range(d):
        axis = a - d
        kinds = _with_ends(cells, walls[a], axis)
        below, above = low(kinds, axis), high(kinds, axis)
        closed = (below == Cell.SOLID) | (above == Cell.SOLID)
        both = (below == Cell.FLUID) & (above == Cell.FLUID)
        under = (below == Cell.FLUID) & (above == Cell.AIR)  # the fluid lies below the surface
        over = (below == Cell.AIR) & (above == Cell.FLUID)
        share = torch.ones(closed.shape, dtype=dtype, device=cells.device)
        share = share if opening is None else opening[a].to(share)
        share = torch.where(closed, 0.0, share)
        wide = _repeated(rho, axis)
        r_low, r_high = low(wide, axis), high(wide, axis)
        r = torch.where(both, (r_low + r_high) / 2, torch.where(under, r_low, r_high))
        theta = _way(level_set, under, axis, least_fraction, dtype)
        mobility = torch.where(both | under | over, 1 / (r * torch.where(both, 1.0, theta)), 0.0)
        if permeability is not None:
            mobility = mobility * permeability[a].to(mobility)
        mobility = torch.where(share > 0, mobility, 0.0)
        w = (min(h) / h[a]) ** 2 * share * mobility
        inner = both.narrow(axis, 1, both.shape[axis] - 2)
        faces.append(torch.where(inner, w.narrow(axis, 1, w.shape[axis] - 2), 0.0))
        # a surface above a cell stands at its high face, one below at its low face
        down, up = torch.where(under, w, 0.0), torch.where(over, w, 0.0)
        shift = shift + high(down, axis) + low(up, axis)
        if surface is not None:
            width = [0, 0] * (d - 1 - a)
            p = pad(torch.where(cells == Cell.AIR, surface.to(shift), 0.0), [*width, 1, 1])
            known = known + high(down * high(p, axis), axis) + low(up * low(p, axis), axis)
        opened.append(share)
        mobilities.append(mobility)
    return PressureSystem(
        build_stencil(faces, shift, fluid),
        tuple(opened),
        tuple(mobilities),
        None if surface is None else torch.where(cells == Cell.AIR, surface.to(shift), 0.0),
        None if surface is None else known,
        h,
    )


def _axes(cells: Tensor, walls: Any, opening: Any, spacing: Any) -> int:
    """Return the number of axes of the grid, as the arguments that have one entry per axis say."""
    for name, value in (("walls", walls), ("opening", opening), ("spacing", spacing)):
        if value is not None and not isinstance(value, int | float):
            if not 1 <= len(value) <= min(3, cells.dim()):
                raise InvalidArgument(
                    f"{name} with {len(value)} entries for cells of shape {tuple(cells.shape)}",
                    "one entry per axis of the grid, at most three",
                )
            return len(value)
    return cells.dim() - 1 if cells.dim() in (3, 4) else min(3, cells.dim())


def _check_values(
    cells: Tensor,
    density: Tensor | None,
    opening: Sequence[Tensor] | None,
    spacing: tuple[float, ...],
    least_fraction: float,
) -> None:
    """Refuse values that make no pressure system; looks once, when a system is built."""
    if not all(0 < h < float("inf") for h in spacing) or not 0 < least_fraction <= 1:
        raise InvalidArgument(
            f"spacing={spacing}, least_fraction={least_fraction}",
            "positive widths, and a fraction in (0, 1]",
        )
    if bool(((cells < 0) | (cells > max(Cell))).any()):
        raise InvalidArgument(
            f"cells from {int(cells.min())} to {int(cells.max())}",
            "Cell.FLUID (0), Cell.SOLID (1) and Cell.AIR (2)",
        )
    if density is not None:
        wet = density[(cells == Cell.FLUID).expand(density.shape)]
        if density.shape != cells.shape or not bool(((wet > 0) & wet.isfinite()).all()):
            raise InvalidArgument(
                f"a density of shape {tuple(density.shape)} with least value "
                f"{float(wet.min()) if wet.numel() else 0.0:.3g} in the fluid",
                f"positive and finite numbers of shape {tuple(cells.shape)}",
            )
    for a, share in enumerate(opening or ()):
        axis = cells.dim() - len(spacing) + a
        wanted = [n + (i == axis) for i, n in enumerate(cells.shape)]
        if list(share.shape) != wanted or not bool(((share >= 0) & (share <= 1)).all()):
            raise InvalidArgument(
                f"opening[{a}] of shape {tuple(share.shape)}",
                f"shares in [0, 1] of shape {tuple(wanted)}",
            )


def _with_ends(cells: Tensor, ends: tuple[Any, Any], axis: int) -> Tensor:
    """Return the cells with one more at both ends of an axis."""
    one = cells.narrow(axis, 0, 1)

    def layer(kind: Any) -> Tensor:
        kind = torch.as_tensor(kind, device=cells.device, dtype=cells.dtype)
        return kind.reshape(kind.shape + (1,) * (cells.dim() - kind.dim())).expand_as(one)

    return torch.cat([layer(ends[0]), cells, layer(ends[1])], axis)


def _repeated(x: Tensor, axis: int) -> Tensor:
    """Return cell values with the outermost ones repeated at both ends of an axis."""
    return torch.cat([x.narrow(axis, 0, 1), x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)


def _way(
    level_set: Tensor | None, under: Tensor, axis: int, least: float, dtype: torch.dtype
) -> Tensor:
    """Return theta, the share of the way from the fluid cell to the air cell, at every face."""
    if level_set is None:
        return torch.ones(under.shape, dtype=dtype, device=under.device)
    phi = _repeated(level_set.to(under.device, dtype), axis)
    one, two = low(phi, axis), high(phi, axis)
    wet, dry = torch.where(under, one, two), torch.where(under, two, one)
    gap = wet - dry
    # beyond the grid, and where both have one sign, the surface is at the air cell's centre
    between = (wet < 0) & (dry >= 0)
    return torch.where(between, wet / torch.where(gap == 0, 1.0, gap), 1.0).clamp(least, 1.0)
