"""Marching in windows of time: what changes in training; the network is `TimeWindows`.

The run has as many parts as there are windows (`sciml.modules.run_parts`). In each part points are
drawn in one window; its initial condition is the one of the system first, and then the state that
the window before ended with: every quantity that an `Initial` prescribes is taken from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.data.collocation import CollocationBatch
from sciml.errors import InvalidArgument
from sciml.modules import run_parts
from sciml.networks.solutions.time_windows import TimeWindows
from sciml.physics.systems import At, Initial, Observed, On, PointSet, Same, System
from sciml.physics.systems.conditions import read

if TYPE_CHECKING:
    from sciml.modules.system_pinn import PINN


def check(system: System, windows: int) -> None:
    """Refuse what has no meaning in windows.

    Raises:
        InvalidArgument: With the reason.
    """
    title = f"module.windows={windows} for {type(system).__name__}"
    if "t" in system.periodic:
        raise InvalidArgument(f"{title}, periodic in t", "a problem that starts somewhere")
    if system.unknowns:
        raise InvalidArgument(
            f"{title} with unknown constants, which every window would find for itself",
            "a system with known coefficients",
            "Type module.windows=1",
        )
    for name, condition in system.every_condition.items():
        final = isinstance(condition, On) and "final" in condition.where.labels
        paired = isinstance(condition, Same) and condition.variable == "t"
        if isinstance(condition, Observed | At) or final or paired:
            raise InvalidArgument(
                f"{title} with the condition '{name}' at times of its own",
                "conditions on the boundary or at the start, which every window has",
                "Type module.windows=1; a pressure needs no point: write gauge = ('p',)",
            )
    for name, integral in system.integrals.items():
        if integral.variable == "t":
            raise InvalidArgument(
                f"{title} with the integral '{name}' over t, which goes beyond a window",
                "integrals in space",
                "Type module.windows=1",
            )
    starts = [c for c in system.terms.values() if _is_start(c)]
    if not starts or any(c.operator is not None for c in starts):
        raise InvalidArgument(
            f"{title} without Initial(...) among the terms of its loss",
            "Initial(u=...), whose values a window takes from the one before",
            "Leave it out of hard_conditions, and t out of hard()",
        )
    if _pinned(system):
        raise InvalidArgument(
            f"{title}, whose hard() leaves the network nothing to say at the start",
            "an ansatz that is free at the start, and Initial(...) as a term of the loss",
        )


def _is_start(condition: Any) -> bool:
    on = isinstance(condition, On) and condition.where.labels == {"initial"}
    return on or isinstance(condition, Initial)


def _pinned(system: System) -> bool:
    """Return whether the ansatz at the start is the same whatever the network says."""
    if system.transform is None:
        return False
    region, k = system.region, len(system.outputs)
    x = region.sample_end("initial", 16, torch.Generator().manual_seed(0))
    places = {name: x[:, i : i + 1] for i, name in enumerate(region.variables)}
    made = []
    for value in (0.0, 1.0):
        own = {name: x.new_full((len(x), 1), value) for name in system.outputs}
        found = system.transform({**places, **own})
        found = found if isinstance(found, dict) else {system.outputs[0]: found}
        made.append(torch.cat([found.get(n, own[n]).expand(len(x), 1) for n in own], 1))
    return bool((made[0] == made[1]).all(0).any()) and k > 0


def moved(batch: CollocationBatch, network: TimeWindows) -> CollocationBatch:
    """Return a batch with its points in the present window; the same points for the same batch."""
    conditions = {name: _in_window(p, network) for name, p in batch.conditions.items()}
    return CollocationBatch(
        _in_window(batch.points, network), conditions, batch.streams, batch.counts
    )


def _in_window(p: PointSet, network: TimeWindows) -> PointSet:
    key = ("window", network.index)
    if key not in p.cache:
        x = p.x.clone()
        x[:, network.column] = network.moved(x[:, network.column])
        p.cache[key] = PointSet(x, p.normals, p.data)
    return p.cache[key]


def handed_over(
    module: PINN, name: str, p: PointSet, found: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the residuals of a condition; of a start, against the end of the window before.

    Args:
        module: The module.
        name: The condition.
        p: Its points.
        found: What the system says.
    """
    network, condition = module.network, module.problem.terms.get(name)
    if network.before is None or not _is_start(condition):
        return found
    system, now = module.problem, module.network.jet(p, module.needs[name])
    if "end" not in p.cache:
        with torch.no_grad():
            p.cache["end"] = network.before.jet(PointSet(p.x, p.normals), module.needs[name])
    known, end = system.fields(p, now), system.fields(p, p.cache["end"])
    one = len(found) == 1
    return {
        name if one else f"{name}.{key}": read(system, key, known, name)
        - read(system, key, end, name)
        for key in condition.values
    }


def go_on(module: PINN) -> None:
    """Begin the next window, with an optimizer as new, when it is time."""
    network, wanted = module.network, run_parts.part_due(module)
    while network.index < wanted:
        network.advance()
        run_parts.begin_anew(module)
