from .darcy import Darcy
from .navier_stokes import SteadyNavierStokes
from .nodal_darcy import NodalDarcy
from .steady_semilinear import Semilinear, SteadyProblem

__all__ = [
    "Darcy",
    "NodalDarcy",
    "Semilinear",
    "SteadyNavierStokes",
    "SteadyProblem",
]
