from .elliptic import Dirichlet
from .pde import PDE, Fields, Points
from .problems.biharmonic import Biharmonic
from .problems.black_scholes import BlackScholesBarenblatt
from .problems.evolution_box import Heat, LogFokkerPlanck
from .problems.hjb import HJBLQG, HJBRosenbrock
from .problems.hjb_linear import HJBLinear
from .problems.poisson_box import PoissonBox
from .problems.schrodinger import HarmonicOscillator
from .problems.semilinear import SemilinearHeat, SemilinearSineGordon
from .problems.semilinear_allen_cahn import SemilinearAllenCahn
from .problems.unit_ball import AllenCahn, Poisson, SineGordon
from .problems.wave import Wave
from .walks import Mixed, WalkOnSpheres, WalkOnStars

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
