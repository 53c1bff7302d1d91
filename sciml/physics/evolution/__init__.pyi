from .burgers import Burgers
from .darcy import DarcyFlow
from .diffusion_sorption import DiffusionSorption, HeterogeneousDiffusionSorption
from .heat import Heat
from .pod import PODRegression, pod_modes
from .problem import EvolutionProblem
from .vorticity import VorticityNavierStokes

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
