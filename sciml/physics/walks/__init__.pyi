from .estimate import Estimate
from .families import BoxPoisson, Family, StarDiffusion, StarPoisson, StarScreened
from .gradients import estimate_gradients
from .problem import Dirichlet
from .spheres import WalkOnSpheres
from .stars import Mixed, WalkOnStars

__all__ = [
    "BoxPoisson",
    "Dirichlet",
    "Estimate",
    "Family",
    "Mixed",
    "StarDiffusion",
    "StarPoisson",
    "StarScreened",
    "WalkOnSpheres",
    "WalkOnStars",
    "estimate_gradients",
]
