from .elliptic_families import BoxPoisson, Family, StarDiffusion, StarPoisson, StarScreened
from .elliptic_problem import Dirichlet

__all__ = [
    "BoxPoisson",
    "Dirichlet",
    "Family",
    "StarDiffusion",
    "StarPoisson",
    "StarScreened",
]
