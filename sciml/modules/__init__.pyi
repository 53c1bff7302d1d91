from .cgs import ConvergentGraphSolver
from .conjugate_direction import ConjugateDirectionLearner
from .deq import DEQClassifier
from .equino import EquilibriumOperator
from .evaluation.training_law import TrainingLaw
from .fno_deq import SteadyOperator
from .hard_constraint import HardConstraintOperator
from .homoode import HomoODEClassifier
from .sdgd_pinn import SDGDPINN
from .solver_in_the_loop import SolverInTheLoop
from .stress_law import StressLaw
from .supervised import Supervised
from .supervised_clouds import SupervisedClouds
from .supervised_operator import SupervisedOperator
from .system_pinn import PINN
from .training_method import TrainingMethod
from .vpionet import VariationalOperator
from .wos_operator import WalkOperator

__all__ = [
    "ConjugateDirectionLearner",
    "ConvergentGraphSolver",
    "DEQClassifier",
    "EquilibriumOperator",
    "HardConstraintOperator",
    "HomoODEClassifier",
    "PINN",
    "SDGDPINN",
    "SolverInTheLoop",
    "SteadyOperator",
    "StressLaw",
    "Supervised",
    "SupervisedClouds",
    "SupervisedOperator",
    "TrainingLaw",
    "TrainingMethod",
    "VariationalOperator",
    "WalkOperator",
]
