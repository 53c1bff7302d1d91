from .burgers_plane import Burgers2D
from .burgers_shock import Burgers1D
from .channel import ChannelLong
from .coefficients import HeatCoefficient, PoissonCoefficient
from .heat_holes import Heat2DHoles
from .heat_square import Heat2DLong, Heat2DVarying
from .many_dimensions import HeatND, PoissonND
from .patterns import GrayScott, KuramotoSivashinsky
from .poisson3d_holes import Poisson3DHoles
from .poisson_blocks import Poisson2DBlocks
from .poisson_boltzmann import PoissonBoltzmann2D
from .poisson_holes import Poisson2DHoles
from .simple import Heat2DMultiscale, Helmholtz2D, Kovasznay, Wave1D
from .stationary_flows import Cavity, StepFlow
from .waves import Wave2DLong, Wave2DVarying

__all__ = [
    "Burgers1D",
    "Burgers2D",
    "Cavity",
    "ChannelLong",
    "GrayScott",
    "Heat2DHoles",
    "Heat2DLong",
    "Heat2DMultiscale",
    "Heat2DVarying",
    "HeatCoefficient",
    "HeatND",
    "Helmholtz2D",
    "Kovasznay",
    "KuramotoSivashinsky",
    "Poisson2DBlocks",
    "Poisson2DHoles",
    "Poisson3DHoles",
    "PoissonBoltzmann2D",
    "PoissonCoefficient",
    "PoissonND",
    "StepFlow",
    "Wave1D",
    "Wave2DLong",
    "Wave2DVarying",
]
