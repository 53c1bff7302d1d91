from .darcy_snapshots import DarcyFlow
from .diffusion_sorption import DiffusionSorption
from .evolution_problem import EvolutionProblem
from .heat_interval import Heat
from .heterogeneous_sorption import HeterogeneousDiffusionSorption
from .pod_interpolation import PODRegression, pod_modes
from .viscous_burgers import Burgers
from .vorticity_flow import VorticityNavierStokes

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
