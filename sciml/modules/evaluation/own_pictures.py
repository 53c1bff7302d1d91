"""Pictures of a solution that nothing is known of: its outputs, over the domain or in a cut of it.

One variable gives curves. More give maps over two of them, the first two of space, or space and
time; time, where it is another one, has its start, middle and end; all others have their middles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sciml.physics.systems import System

GRID, LINE = 121, 401  # nodes along each axis of a map, and of a curve


def pictures(system: System, predict: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Any]:
    """Return the entries of a report, see `sciml.callbacks.plots`.

    Args:
        system: Has the domain and the names of the outputs.
        predict: Returns outputs `(N,)` by name at points `(N, D)`.
    """
    region, names = system.region, system.region.variables
    middle = ((region.low + region.high) / 2).double()
    if len(names) == 1:
        x = torch.linspace(float(region.low[0]), float(region.high[0]), LINE).double()
        found = predict(x[:, None])
        values = {name: found[name].cpu().numpy() for name in system.outputs}
        return {"curves": {"solution": {"x": x.numpy(), "y": values, "xlabel": names[0]}}}
    # the variables across and up
    order = [*range(min(2, len(region.space)))]
    if len(order) < 2 and region.time is not None:
        order.append(names.index("t"))
    order += [k for k in range(len(names)) if k not in order]
    a, b = order[:2]
    times: list[float | None] = [None]
    if region.time is not None and names.index("t") not in (a, b):
        first, last = region.time.low, region.time.high
        times = [first, (first + last) / 2, last]
    sides = [torch.linspace(float(region.low[k]), float(region.high[k]), GRID) for k in (a, b)]
    grid = torch.meshgrid(*(side.double() for side in sides), indexing="xy")
    panels: dict[str, list] = {name: [] for name in system.outputs}
    for time in times:
        x = middle.expand(GRID * GRID, -1).clone()
        x[:, a], x[:, b] = (part.reshape(-1) for part in grid)
        held = {names[k]: float(middle[k]) for k in range(len(names)) if k not in (a, b)}
        if time is not None:
            x[:, names.index("t")] = held["t"] = time
        outside, found = ~region.contains(x), predict(x)
        title = ", ".join(f"{key} = {value:g}" for key, value in held.items())
        for name, shown in panels.items():
            value = found[name].cpu().masked_fill(outside, torch.nan)
            shown.append((title, value.view(GRID, GRID).numpy()))
    extent = [float(v) for k in (a, b) for v in (region.low[k], region.high[k])]
    axes = {"extent": extent, "xlabel": names[a], "ylabel": names[b]}
    return {"maps": [{"symbol": name, "panels": shown, **axes} for name, shown in panels.items()]}
