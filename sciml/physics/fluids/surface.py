"""A liquid's surface as a level set: redistancing and volume.

phi is negative in the liquid, in cell widths, `(B, *grid)`. Transport by any velocity bends it out
of being a distance and loses a little volume; each step restores both:

    redistance    d phi / d tau = S(phi0) (1 - |grad phi|), upwind; beside the surface phi is
                  phi0 over its own slope instead, so that the surface itself stays where it is
    same_volume   phi + c, one number c per sample with the volume that is wanted

Sources: Sussman, Smereka & Osher 1994, JCP 114; Russo & Smereka 2000, JCP 163 (surface kept).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import count, number, takes, tensor
from sciml.errors import InvalidArgument
from sciml.physics.fluids.staggered import on_grid
from sciml.solvers.linear import high, low
from sciml.tensor_types import check_alike

WIDTH = 1.0  # half width of the smoothed step, in cells
FLAT = 1e-3  # least slope that phi0 is divided by


def liquid_share(level_set: Tensor) -> Tensor:
    """Return the share of liquid in every cell, a step smoothed over two cells."""
    return (0.5 - level_set / (2 * WIDTH)).clamp(0, 1)


@takes(level_set=on_grid)
def volume(level_set: Tensor) -> Tensor:
    """Return the volume of the liquid in cells, `(B,)`.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import volume
        >>> x = torch.arange(8.0).reshape(1, 8, 1).expand(1, 8, 8) + 0.5
        >>> round(volume(x - 4.0).item(), 3)  # half of 64 cells
        32.0
    """
    return liquid_share(level_set).flatten(1).sum(1)


@takes(level_set=on_grid, sweeps=count)
def redistance(level_set: Tensor, sweeps: int = 8) -> Tensor:
    """Return a signed distance with the same surface, right within about `sweeps` / 2 cells.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids.surface import redistance
        >>> x = torch.arange(6.0) - 2.5
        >>> steep = 4 * x.expand(1, 6, 6)
        >>> [round(d, 3) for d in redistance(steep, sweeps=40)[0, 0, 1:5].tolist()]
        [-1.5, -0.5, 0.5, 1.5]
    """
    d = level_set.dim() - 1
    start, sign = level_set, level_set.sign()
    beside = torch.zeros_like(level_set, dtype=torch.bool)
    slope = torch.full_like(level_set, FLAT).square()
    for a in range(d):
        before, after = _differences(start, a - d, d)
        crossed = low(start, a - d) * high(start, a - d) < 0
        width = [0, 0] * (d - 1 - a)
        beside = beside | pad(crossed, [*width, 1, 0]) | pad(crossed, [*width, 0, 1])
        slope = slope + ((before + after) / 2).square()
    near = start / slope.sqrt()
    phi = start
    for _ in range(sweeps):
        square = torch.zeros_like(phi)
        for a in range(d):
            before, after = _differences(phi, a - d, d)
            before, after = sign * before, sign * after
            square = square + before.clamp_min(0).square().maximum(after.clamp_max(0).square())
        away = phi - 0.5 * sign * (square.clamp_min(1e-12).sqrt() - 1)
        phi = torch.where(beside, phi - 0.5 * (phi - near), away)
    return phi


@takes(level_set=on_grid, wanted=tensor, most=number)
def same_volume(level_set: Tensor, wanted: Tensor, most: float = 0.5) -> Tensor:
    """Return phi + c with the volume that is wanted.

    Args:
        level_set: `(B, *grid)`.
        wanted: Volumes in cells, `(B,)`.
        most: Largest size of c in cell widths.

    Raises:
        InvalidArgument: If there is not one volume per sample.

    Example:
        >>> import torch
        >>> from sciml.physics.fluids import same_volume, volume
        >>> water = (torch.arange(8) - 2.5).expand(1, 8, 8)  # three rows deep
        >>> volume(water).item(), volume(same_volume(water, torch.tensor([26.0]))).item()
        (24.0, 26.0)
    """
    if wanted.shape != level_set.shape[:1] or not most > 0:
        raise InvalidArgument(
            f"wanted of shape {tuple(wanted.shape)}, most={most}",
            f"one volume per sample, {tuple(level_set.shape[:1])}, and a positive shift",
        )
    check_alike(level_set=level_set, wanted=wanted)
    wide = (-1, *(1,) * (level_set.dim() - 1))
    least, greatest = (torch.full_like(wanted, s * most) for s in (-1.0, 1.0))
    for _ in range(40):  # bisection: the volume falls with c
        middle = (least + greatest) / 2
        much = volume(level_set + middle.reshape(wide)) > wanted
        least, greatest = torch.where(much, middle, least), torch.where(much, greatest, middle)
    near = (least + greatest).detach() / 2
    # a Newton step from there, which is what carries the derivative of c
    moved = level_set + near.reshape(wide)
    edge = (moved.detach().abs() < WIDTH).flatten(1).sum(1) / (2 * WIDTH)
    shift = near + ((volume(moved) - wanted) / edge.clamp_min(1)).clamp(-most, most)
    return level_set + shift.reshape(wide)


def _differences(x: Tensor, axis: int, d: int) -> tuple[Tensor, Tensor]:
    """Return backward and forward differences, zero at the ends."""
    jump = high(x, axis) - low(x, axis)
    width = [0, 0] * (-axis - 1)
    return pad(jump, [*width, 1, 0]), pad(jump, [*width, 0, 1])
