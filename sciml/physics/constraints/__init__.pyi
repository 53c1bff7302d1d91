from .burgers import BurgersConstraint
from .constrained import Constrained
from .darcy import DarcyConstraint
from .diffusion_sorption import DiffusionSorptionConstraint
from .equation import ConstrainedEquation
from .evolution import EvolutionEquation
from .exchange import ExpertParallel
from .heat import HeatConstraint
from .interval import IntervalEquation
from .layer import HardConstraint
from .penalty import SoftConstraint
from .points import Balance, PointSampler, PointSet
from .split import Split, counts_of
from .vorticity import VorticityConstraint

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
