"""Taylor jets through networks and stochastic estimators of differential operators."""

from sciml.autodiff.coordinate_functions import (
    linear_map,
    max_coordinate,
    quadratic_form,
    squared_norm,
    sum_coordinates,
)
from sciml.autodiff.coordinates import Coordinates
from sciml.autodiff.differentiable import Differentiable
from sciml.autodiff.directions import (
    DenseDirections,
    RadialDirection,
    SparseDirections,
    TimeDirection,
    one_hot,
)
from sciml.autodiff.estimators import SDGD, Exact, Hutchinson
from sciml.autodiff.jet import Jet
from sciml.autodiff.operators import (
    bilaplacian,
    d_x_d_t,
    directional,
    laplacian,
    mixed,
    second_mixed,
    trace,
)
from sciml.autodiff.seed import push, seed

__all__ = [
    "SDGD",
    "Coordinates",
    "DenseDirections",
    "Differentiable",
    "Exact",
    "Hutchinson",
    "Jet",
    "RadialDirection",
    "SparseDirections",
    "TimeDirection",
    "bilaplacian",
    "d_x_d_t",
    "directional",
    "laplacian",
    "linear_map",
    "max_coordinate",
    "mixed",
    "one_hot",
    "push",
    "quadratic_form",
    "second_mixed",
    "seed",
    "squared_norm",
    "sum_coordinates",
    "trace",
]
