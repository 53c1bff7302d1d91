"""Simulations with a trained part in their loop. Imports neither lightning nor hydra.

A simulation is one file with one frozen dataclass: its fields are the settings that
`sciml simulate NAME key=value` reads, its `run` does the work (see `sciml.simulate.simulation`). A
line in `SIMULATIONS` gives it a name on the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.simulate.dam_break import DamBreak
    from sciml.simulate.fe2 import FE2
    from sciml.simulate.flow_simulation import FlowSimulation
    from sciml.simulate.macro import MacroSolver
    from sciml.simulate.macro_results import MacroSolution, MacroState
    from sciml.simulate.micro import CellMicro, MaterialMicro, Micro, MicroResponse, OperatorMicro
    from sciml.simulate.pressure_solvers import PressureSolvers
    from sciml.simulate.simulation import Simulation, setting
    from sciml.simulate.smoke import Smoke
    from sciml.simulate.wake import Wake

# name on the command line -> (class, one line of help); imported when it is used
SIMULATIONS: dict[str, tuple[str, str]] = {
    "fe2": ("sciml.simulate.fe2:FE2", "two-scale finite elements: plate, L-profile, Cook's panel"),
    "smoke": ("sciml.simulate.smoke:Smoke", "a plume around a ball that swings"),
    "wake": ("sciml.simulate.wake:Wake", "the vortex street behind a disk"),
    "dam_break": ("sciml.simulate.dam_break:DamBreak", "a column of water that collapses"),
}

# Public names and the files they live in.
_HOMES = {
    "CellMicro": "micro",
    "DamBreak": "dam_break",
    "FE2": "fe2",
    "FlowSimulation": "flow_simulation",
    "MacroSolution": "macro",
    "MacroSolver": "macro",
    "MacroState": "macro",
    "MaterialMicro": "micro",
    "Micro": "micro",
    "MicroResponse": "micro",
    "OperatorMicro": "micro",
    "PressureSolvers": "pressure_solvers",
    "Simulation": "simulation",
    "Smoke": "smoke",
    "Wake": "wake",
    "setting": "simulation",
}

__all__ = [
    "CellMicro",
    "DamBreak",
    "FE2",
    "FlowSimulation",
    "MacroSolution",
    "MacroSolver",
    "MacroState",
    "MaterialMicro",
    "Micro",
    "MicroResponse",
    "OperatorMicro",
    "PressureSolvers",
    "Simulation",
    "Smoke",
    "Wake",
    "setting",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
