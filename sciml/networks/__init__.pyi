from .ansatz import Ansatz
from .basis import BasisFNO
from .cgs import CGS
from .cgs_rounds import RefinedCGS
from .constrained import ConstrainedFNO
from .corrector import Corrector
from .deq import DEQ, UnrolledNetwork
from .equino import EquiNO
from .fbpinn import FBPINN
from .flow_classifier import ExplicitNetwork, NeuralODE
from .fno import FNO
from .fno_deq import FNODEQ
from .graph_baselines import IGNN, MessagePassing
from .homoode import HomoODE
from .mlp import MLP, FourierMLP, ModifiedMLP, ResidualMLP
from .neuraloperator import NeuralopCloud, NeuralopGrid
from .pairs import PairNetwork
from .per_output import PerOutput
from .preconditioners import DCDM, LearnedMultigrid
from .tensor import TensorNetwork
from .time_windows import TimeWindows
from .trial import TrialSolution
from .vpionet import VPIONet
from .wos_fno import WosFNO
from .wos_gino import WosGINO

__all__ = [
    "PerOutput",
    "Ansatz",
    "BasisFNO",
    "CGS",
    "ConstrainedFNO",
    "Corrector",
    "DCDM",
    "DEQ",
    "EquiNO",
    "ExplicitNetwork",
    "FBPINN",
    "FNO",
    "FNODEQ",
    "FourierMLP",
    "HomoODE",
    "IGNN",
    "LearnedMultigrid",
    "MLP",
    "MessagePassing",
    "ModifiedMLP",
    "NeuralODE",
    "NeuralopCloud",
    "NeuralopGrid",
    "PairNetwork",
    "RefinedCGS",
    "ResidualMLP",
    "TensorNetwork",
    "TimeWindows",
    "TrialSolution",
    "UnrolledNetwork",
    "VPIONet",
    "WosFNO",
    "WosGINO",
]
