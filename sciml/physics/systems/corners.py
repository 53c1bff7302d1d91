"""Finds places where two conditions prescribe different values of one output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.physics.systems.conditions import Initial, On
from sciml.physics.systems.named_arguments import call, coordinates
from sciml.physics.systems.system_fields import rows

if TYPE_CHECKING:
    from sciml.physics.systems.system import System

NEAR = 1e-9  # distance, relative to the size of the domain, at which two corners are one
APART = 1e-6  # difference, relative to the values, that counts


def contradictions(system: System) -> list[str]:
    """Return a sentence for every place and output where conditions contradict each other.

    Looked at are common corners of parts of the boundary, and parts of the boundary at the start of
    time; values are those of conditions that prescribe the output itself.
    """
    places = {
        name: on for name, on in system.every_condition.items()
        if isinstance(on, On) and any(key in system.outputs for key in on.values)
    }  # fmt: skip
    found = []
    names = list(places)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            x = _common(system, places[first], places[second])
            for output in system.outputs if len(x) else ():
                a, b = (_value(system, n, places[n], output, x) for n in (first, second))
                if a is None or b is None:
                    continue
                apart = (a - b).abs() > APART * (1 + a.abs())
                if bool(apart.any()):
                    k = int(apart.nonzero()[0])
                    pairs = zip(system.region.variables, x[k].tolist(), strict=True)
                    where = ", ".join(f"{v}={c:.3g}" for v, c in pairs)
                    found.append(
                        f"the conditions '{first}' and '{second}' contradict each other: {output} "
                        f"is {float(a[k]):.4g} and {float(b[k]):.4g} at {where}"
                    )
    return found


def _value(system: System, name: str, on: On, output: str, x: Tensor) -> Tensor | None:
    """Return what a condition prescribes of an output; None where it does not say by itself."""
    wanted = on.values.get(output)
    if wanted is None:
        return None
    if callable(wanted):
        known = coordinates(x, system.names, None)
        known |= {k: c().detach() for k, c in system.unknowns.items()}
        wanted = call(f"{output} of condition '{name}'", wanted, known)
    return rows(f"{output} of condition '{name}'", wanted, x)


def _common(system: System, first: On, second: On) -> Tensor:
    """Return points `(m, D)` that belong to both conditions; m may be 0."""
    region, none = system.region, torch.zeros(0, len(system.region.variables)).double()
    if isinstance(first, Initial) and isinstance(second, Initial):
        return none
    if isinstance(first, Initial) or isinstance(second, Initial):
        boundary = second if isinstance(first, Initial) else first
        if boundary.where.labels & {"initial", "final"}:
            return none
        generator = torch.Generator().manual_seed(0)
        x, _ = region.sample_part(system.pieces(boundary), 16, generator)
        x[:, len(region.space)] = region.time.low
        return x
    if len(region.space) != 2:
        return none
    a, b = ([c for p in system.pieces(on) for c in p.corners()] for on in (first, second))
    shared = [p for p in a if any((p - q).norm() < NEAR * region.shape.size for q in b)]
    if not shared:
        return none
    rest = ((region.low + region.high) / 2)[2:].expand(len(shared), -1)
    return torch.cat([torch.stack(shared), rest], 1)
