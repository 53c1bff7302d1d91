from .burgers import Burgers1D
from .coefficients import HeatCoefficient, PoissonCoefficient
from .poisson_holes import Poisson2DHoles
from .simple import Heat2DMultiscale, Helmholtz2D, Kovasznay, Wave1D

__all__ = [
    "Burgers1D",
    "Heat2DMultiscale",
    "HeatCoefficient",
    "Helmholtz2D",
    "Kovasznay",
    "Poisson2DHoles",
    "PoissonCoefficient",
    "Wave1D",
]
