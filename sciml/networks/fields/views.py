"""Fields seen through a symmetry of their problem.

transpose   directions of space exchanged (all sizes equal)
flip_x, _y  reflected; on grids with the left end only, nodes i become n - i: what stands at
the right end, which no file has, is taken from its neighbour in inputs, and from
the left end (where outputs vanish) in outputs
shift       moved by whole points, where the domain is periodic
odd         input and output with their signs changed
flip_x_odd  both at once: a velocity along x, reflected
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.networks.fields.description import FieldSet

FLIPS = ("flip_x", "flip_y", "flip_z")
NAMES = ("transpose", *FLIPS, "shift", "odd", *(f"{name}_odd" for name in FLIPS))


def view(value: Tensor, name: str, fields: FieldSet, target: bool, by: int = 1) -> Tensor:
    """Return channels `(B, C, *space)` seen through a symmetry; numbers `(B, C)` stay.

    Args:
        value: Inputs or outputs.
        name: Of `NAMES`.
        fields: Their description.
        target: Whether these are outputs.
        by: Points of a shift.
    """
    if name.endswith("odd"):
        value, name = -value, name.removesuffix("odd").rstrip("_")
    if not name:
        return value
    if value.dim() < 3:
        return value
    if name == "transpose":
        return value.transpose(2, 3)
    if name == "shift":
        return value.roll(by, 2)
    axis = 2 + direction(name)
    value = value.flip(axis)
    if fields.grid[axis - 2] != "left":
        return value
    value = value.roll(1, axis)
    if target or fields.periodic:
        return value
    n = value.shape[axis]
    return torch.cat([value.narrow(axis, 1, 1), value.narrow(axis, 1, n - 1)], axis)


def direction(name: str) -> int:
    """Return along which direction of space a flip reflects."""
    return "xyz".index(name[5])


def back(value: Tensor, name: str, fields: FieldSet, by: int = 1) -> Tensor:
    """Return outputs as they were before `view`: all but shifts are their own inverse."""
    return view(value, name, fields, True, -by if name == "shift" else by)


def combinations(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return all ways to see a sample: every subset of the symmetries, the empty one first.

    Where directions may be exchanged, what is mirrored along one may be so along the other.
    """
    if "transpose" in names and {"flip_x", "flip_y"} & set(names):
        names = ("transpose", "flip_x", "flip_y", *names)
    names = tuple(dict.fromkeys(names))
    found: list[tuple[str, ...]] = [()]
    for name in names:
        found += [(*others, name) for others in found]
    return found
