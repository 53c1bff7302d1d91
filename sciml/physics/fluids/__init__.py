"""Incompressible flow on MAC grids: pressure systems and random domains.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.physics.fluids.domains import RandomDomains
    from sciml.physics.fluids.pressure import Cell, PressureSystem, pressure_system

# Public names and the files they live in.
_HOMES = {
    "Cell": "pressure",
    "PressureSystem": "pressure",
    "RandomDomains": "domains",
    "pressure_system": "pressure",
}

__all__ = ["Cell", "PressureSystem", "RandomDomains", "pressure_system"]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
