from .estimate import Estimate
from .gradients import estimate_gradients
from .spheres import WalkOnSpheres
from .stars import Mixed, WalkOnStars

__all__ = [
    "Estimate",
    "Mixed",
    "WalkOnSpheres",
    "WalkOnStars",
    "estimate_gradients",
]
