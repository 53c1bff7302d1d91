"""Incompressible flow on MAC grids: transport, pressure, bodies, surfaces, random domains.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.physics.fluids.advection import advect, advect_velocity
    from sciml.physics.fluids.bodies import Ball, open_share, standing
    from sciml.physics.fluids.domains import RandomDomains
    from sciml.physics.fluids.flow import (
        Flow,
        FlowState,
        LiquidFlow,
        Projection,
        SmokeFlow,
        WakeFlow,
    )
    from sciml.physics.fluids.pressure import Cell, PressureSystem, pressure_system
    from sciml.physics.fluids.staggered import extrapolated, interpolate, points, vorticity
    from sciml.physics.fluids.surface import redistance, same_volume, volume

# Public names and the files they live in.
_HOMES = {
    "Ball": "bodies",
    "Cell": "pressure",
    "Flow": "flow",
    "FlowState": "flow",
    "LiquidFlow": "flow",
    "PressureSystem": "pressure",
    "Projection": "flow",
    "RandomDomains": "domains",
    "SmokeFlow": "flow",
    "WakeFlow": "flow",
    "advect": "advection",
    "advect_velocity": "advection",
    "extrapolated": "staggered",
    "interpolate": "staggered",
    "open_share": "bodies",
    "points": "staggered",
    "pressure_system": "pressure",
    "redistance": "surface",
    "same_volume": "surface",
    "standing": "bodies",
    "volume": "surface",
    "vorticity": "staggered",
}

__all__ = [
    "Ball",
    "Cell",
    "Flow",
    "FlowState",
    "LiquidFlow",
    "PressureSystem",
    "Projection",
    "RandomDomains",
    "SmokeFlow",
    "WakeFlow",
    "advect",
    "advect_velocity",
    "extrapolated",
    "interpolate",
    "open_share",
    "points",
    "pressure_system",
    "redistance",
    "same_volume",
    "standing",
    "volume",
    "vorticity",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
