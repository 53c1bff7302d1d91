from .darcy import Darcy
from .navier_stokes import SteadyNavierStokes
from .semilinear import Semilinear, SteadyProblem

__all__ = [
    "Darcy",
    "Semilinear",
    "SteadyNavierStokes",
    "SteadyProblem",
]
