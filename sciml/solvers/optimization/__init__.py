"""Convex sets, proximal maps and the methods on them, with implicit derivatives."""

from sciml.solvers.optimization.first_order import (
    mirror_descent,
    projected_gradient,
    proximal_gradient,
)
from sciml.solvers.optimization.projections import (
    project_affine,
    project_box,
    project_l1_ball,
    project_l2_ball,
    project_nonnegative,
    project_second_order_cone,
    project_simplex,
)
from sciml.solvers.optimization.proximal import (
    group_soft_threshold,
    prox_elastic_net,
    soft_threshold,
)
from sciml.solvers.optimization.qp import QPPoint, qp

__all__ = [
    "QPPoint",
    "group_soft_threshold",
    "mirror_descent",
    "project_affine",
    "project_box",
    "project_l1_ball",
    "project_l2_ball",
    "project_nonnegative",
    "project_second_order_cone",
    "project_simplex",
    "projected_gradient",
    "prox_elastic_net",
    "proximal_gradient",
    "qp",
    "soft_threshold",
]
