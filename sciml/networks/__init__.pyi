from .cells.equino_law import EquiNO
from .cells.vpionet_law import VPIONet
from .elliptic.neuraloperator_elliptic import NeuralopCloud, NeuralopGrid
from .elliptic.wos_fno import WosFNO
from .elliptic.wos_gino import WosGINO
from .graph.convergent import CGS
from .graph.convergent_rounds import RefinedCGS
from .graph.graph_baselines import IGNN, MessagePassing
from .image.deq_classifier import DEQ, UnrolledNetwork
from .image.flow_classifier import ExplicitNetwork, NeuralODE
from .image.homoode_classifier import HomoODE
from .pointwise.fbpinn import FBPINN
from .pointwise.mlp import MLP, FourierMLP, ModifiedMLP, ResidualMLP
from .pointwise.pairs import PairNetwork
from .pointwise.per_output import PerOutput
from .pointwise.random_features import RandomFeatures
from .pointwise.staged import Staged
from .pointwise.standing import StandingWaves
from .pointwise.tensor import TensorNetwork
from .preconditioners import DCDM, LearnedMultigrid
from .preconditioners.corrector import Corrector
from .solutions.ansatz import Ansatz
from .solutions.time_windows import TimeWindows
from .solutions.trial import TrialSolution
from .spectral.basis_fno import BasisFNO
from .spectral.constrained_fno import ConstrainedFNO
from .spectral.fourier_equilibrium import FNODEQ
from .spectral.square_fno import FNO

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
    "RandomFeatures",
    "RefinedCGS",
    "ResidualMLP",
    "Staged",
    "StandingWaves",
    "TensorNetwork",
    "TimeWindows",
    "TrialSolution",
    "UnrolledNetwork",
    "VPIONet",
    "WosFNO",
    "WosGINO",
]
