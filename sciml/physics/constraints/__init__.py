"""Equations imposed on a combination of basis functions, block by block of the grid.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sciml.physics.constraints.burgers import BurgersConstraint
    from sciml.physics.constraints.constrained import Constrained
    from sciml.physics.constraints.darcy import DarcyConstraint
    from sciml.physics.constraints.diffusion_sorption import DiffusionSorptionConstraint
    from sciml.physics.constraints.equation import ConstrainedEquation
    from sciml.physics.constraints.evolution import EvolutionEquation
    from sciml.physics.constraints.exchange import ExpertParallel
    from sciml.physics.constraints.heat import HeatConstraint
    from sciml.physics.constraints.interval import IntervalEquation
    from sciml.physics.constraints.layer import HardConstraint
    from sciml.physics.constraints.penalty import SoftConstraint
    from sciml.physics.constraints.points import Balance, PointSampler, PointSet
    from sciml.physics.constraints.split import Split, counts_of
    from sciml.physics.constraints.vorticity import VorticityConstraint

# Public names and the files they live in.
_HOMES = {
    "Balance": "points",
    "BurgersConstraint": "burgers",
    "Constrained": "constrained",
    "ConstrainedEquation": "equation",
    "DarcyConstraint": "darcy",
    "DiffusionSorptionConstraint": "diffusion_sorption",
    "EvolutionEquation": "evolution",
    "ExpertParallel": "exchange",
    "HardConstraint": "layer",
    "HeatConstraint": "heat",
    "IntervalEquation": "interval",
    "PointSampler": "points",
    "PointSet": "points",
    "SoftConstraint": "penalty",
    "Split": "split",
    "VorticityConstraint": "vorticity",
    "counts_of": "split",
}

__all__ = [
    "Balance",
    "BurgersConstraint",
    "Constrained",
    "ConstrainedEquation",
    "DarcyConstraint",
    "DiffusionSorptionConstraint",
    "EvolutionEquation",
    "ExpertParallel",
    "HardConstraint",
    "HeatConstraint",
    "IntervalEquation",
    "PointSampler",
    "PointSet",
    "SoftConstraint",
    "Split",
    "VorticityConstraint",
    "counts_of",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
