"""What kind of grid fields stand on, and whether they are periodic, where no file says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sciml.errors import InvalidArgument

KINDS = ("left", "both", "cells")
SMALL = 0.05  # of the size of a field, for values at an end that are called zero
EVEN = 1.8  # ratio of the spread at different points up to which no point is special


def places(n: int, kind: str) -> np.ndarray:
    """Return the coordinates of n points between 0 and 1."""
    i = np.arange(n)
    return i / max(n - 1, 1) if kind == "both" else (i + 0.5 * (kind == "cells")) / n


def is_periodic(
    attributes: Mapping[str, Any], given: Tensor, target: Tensor, notes: list[str]
) -> bool:
    """Return whether a domain is periodic: as the file says, else as its fields look.

    Args:
        attributes: Of the file.
        given: Inputs `(B, C, *space)`.
        target: Outputs, likewise.
        notes: Gets a sentence about a guess.
    """
    known = attributes.get("periodic")
    if isinstance(known, list):
        return all(known)
    found = looks_periodic(given) and looks_periodic(target)
    if found:
        notes.append("looks periodic (data.periodic=false if it is not)")
    return found


def looks_periodic(value: Tensor) -> bool:
    """Return whether fields close up at their ends and no place is unlike the others.

    The step from the last point to the first one is no larger than those between neighbours, and
    the spread over samples is the same everywhere, in all directions.

    Args:
        value: `(B, C, *space)`; at least eight samples are needed.
    """
    if len(value) < 8 or value.dim() < 3:
        return False
    for axis in range(2, value.dim()):
        if value.shape[axis] < 4:
            return False
        steps = value.diff(dim=axis).square()
        jump = (value.select(axis, 0) - value.select(axis, -1)).square().mean()
        if float(steps.mean()) == 0 or float(jump) > 1.5 * float(steps.mean()):
            return False
        others = tuple(k for k in range(value.dim()) if k != axis)
        power = (value - value.mean(0)).square().mean(others).sqrt()
        if float(power.max()) > EVEN * float(power.min()):
            return False
    return True


def grid_kinds(
    coordinates: Mapping[str, np.ndarray],
    size: Sequence[int],
    target: Tensor,
    periodic: bool,
    asked: str | None,
) -> list[str]:
    """Return the kind of every direction: as asked, by coordinates, or by where fields vanish.

    Args:
        coordinates: Of the file.
        size: Points per direction.
        target: Outputs `(B, C, *space)`.
        periodic: Whether the domain is.
        asked: What the user says.

    Raises:
        InvalidArgument: For another word than the three kinds.
    """
    if asked is not None:
        if asked not in KINDS:
            raise InvalidArgument(f"data.grid={asked}", " or ".join(KINDS))
        return [asked] * len(size)
    found, scale = [], float(target.square().mean().sqrt()) or 1.0
    for k, (letter, n) in enumerate(zip("xyz", size, strict=False)):
        x = coordinates.get(letter)
        if periodic:
            found.append("left")
            continue
        if x is not None and len(x) >= 3 and len(x) >= n:
            step, first = float(x[1] - x[0]), float(x[0])
            # from 0 or from the middle of the first cell
            half = step != 0 and abs(first / step - 0.5) < 0.01
            found.append("cells" if half else "both")
            continue
        # the median over samples: a few that a solver spoilt do not count
        ends = [
            target.select(2 + k, i).flatten(1).square().mean(1).sqrt().median() for i in (0, -1)
        ]
        zero = [float(end) < SMALL * scale for end in ends]
        found.append("both" if all(zero) else "left" if zero[0] else "cells")
    return found
