from .ball import AllenCahn, Poisson, SineGordon
from .biharmonic import Biharmonic
from .black_scholes import BlackScholesBarenblatt
from .elliptic import PoissonBox
from .hjb import HJBLQG, HJBLinear, HJBRosenbrock
from .low_dim_time import Heat, LogFokkerPlanck
from .pde import PDE, Fields, Points
from .schrodinger import HarmonicOscillator
from .semilinear import SemilinearAllenCahn, SemilinearHeat, SemilinearSineGordon
from .walks import Dirichlet, Mixed, WalkOnSpheres, WalkOnStars
from .wave import Wave

__all__ = [
    "AllenCahn",
    "Biharmonic",
    "BlackScholesBarenblatt",
    "Dirichlet",
    "Fields",
    "HJBLQG",
    "HJBLinear",
    "HJBRosenbrock",
    "HarmonicOscillator",
    "Heat",
    "LogFokkerPlanck",
    "Mixed",
    "PDE",
    "Points",
    "Poisson",
    "PoissonBox",
    "SemilinearAllenCahn",
    "SemilinearHeat",
    "SemilinearSineGordon",
    "SineGordon",
    "WalkOnSpheres",
    "WalkOnStars",
    "Wave",
]
