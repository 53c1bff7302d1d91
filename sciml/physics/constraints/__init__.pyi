from .burgers_constraint import BurgersConstraint
from .constrained_field import Constrained
from .darcy_constraint import DarcyConstraint
from .equation import ConstrainedEquation
from .evolution_constraint import EvolutionEquation
from .exchange import ExpertParallel
from .expert_split import Split, counts_of
from .heat_constraint import HeatConstraint
from .interval_constraint import IntervalEquation
from .layer import HardConstraint
from .penalty import SoftConstraint
from .points import Balance, ExpertPoints, PointSampler
from .sorption_constraint import DiffusionSorptionConstraint
from .vorticity_constraint import VorticityConstraint

__all__ = [
    "Balance",
    "BurgersConstraint",
    "Constrained",
    "ConstrainedEquation",
    "DarcyConstraint",
    "DiffusionSorptionConstraint",
    "EvolutionEquation",
    "ExpertParallel",
    "ExpertPoints",
    "HardConstraint",
    "HeatConstraint",
    "IntervalEquation",
    "PointSampler",
    "SoftConstraint",
    "Split",
    "VorticityConstraint",
    "counts_of",
]
