from .advection import advect, advect_velocity
from .bodies import MovingBall, open_share, standing
from .flow import Flow, FlowState
from .flow_domains import RandomDomains
from .flow_scenes import LiquidFlow, SmokeFlow, WakeFlow
from .loops import DiskWake, ForcedBurgers
from .pressure_assembly import pressure_system
from .pressure_projection import Cell, PressureSystem, Projection
from .staggered import extrapolated, interpolate, points, vorticity
from .surface import redistance, same_volume, volume

__all__ = [
    "Cell",
    "DiskWake",
    "Flow",
    "FlowState",
    "ForcedBurgers",
    "LiquidFlow",
    "MovingBall",
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
