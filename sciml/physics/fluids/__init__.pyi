from .advection import advect, advect_velocity
from .bodies import Ball, open_share, standing
from .flow import Flow, FlowState, LiquidFlow, Projection, SmokeFlow, WakeFlow
from .flow_domains import RandomDomains
from .loops import DiskWake, ForcedBurgers
from .pressure_system import Cell, PressureSystem, pressure_system
from .staggered import extrapolated, interpolate, points, vorticity
from .surface import redistance, same_volume, volume

__all__ = [
    "Ball",
    "Cell",
    "DiskWake",
    "Flow",
    "FlowState",
    "ForcedBurgers",
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
