"""Taylor jets through networks and stochastic estimators of differential operators."""

from sciml.autodiff.coordinates import (
    Coordinates,
    linear_map,
    max_coordinate,
    quadratic_form,
    squared_norm,
    sum_coordinates,
)
from sciml.autodiff.directions import Dense, Radial, Sparse, Time, one_hot
from sciml.autodiff.jet import Jet
from sciml.autodiff.seed import push, seed

__all__ = [
    "Coordinates",
    "Dense",
    "Jet",
    "Radial",
    "Sparse",
    "Time",
    "linear_map",
    "max_coordinate",
    "one_hot",
    "push",
    "quadratic_form",
    "seed",
    "squared_norm",
    "sum_coordinates",
]
