"""Problems in space and time with random inputs and solvers of their own; Darcy flow beside them.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.physics.evolution.burgers import Burgers
    from sciml.physics.evolution.darcy import DarcyFlow
    from sciml.physics.evolution.diffusion_sorption import (
        DiffusionSorption,
        HeterogeneousDiffusionSorption,
    )
    from sciml.physics.evolution.heat import Heat
    from sciml.physics.evolution.pod import PODRegression, pod_modes
    from sciml.physics.evolution.problem import EvolutionProblem
    from sciml.physics.evolution.vorticity import VorticityNavierStokes

# Public names and the files they live in.
_HOMES = {
    "Burgers": "burgers",
    "DarcyFlow": "darcy",
    "DiffusionSorption": "diffusion_sorption",
    "EvolutionProblem": "problem",
    "Heat": "heat",
    "HeterogeneousDiffusionSorption": "diffusion_sorption",
    "PODRegression": "pod",
    "VorticityNavierStokes": "vorticity",
    "pod_modes": "pod",
}

__all__ = [
    "Burgers",
    "DarcyFlow",
    "DiffusionSorption",
    "EvolutionProblem",
    "Heat",
    "HeterogeneousDiffusionSorption",
    "PODRegression",
    "VorticityNavierStokes",
    "pod_modes",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
