"""Elliptic problems as clouds of points, the inputs of networks on clouds.

A cloud has random points inside a domain and on its boundary. Boundary data are known at all of
them, as the value at the closest boundary point.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.physics.elliptic.elliptic_problem import Dirichlet, ScalarField
from sciml.physics.geometry import Domain


def cloud_inputs(
    domain: Domain, problem: Dirichlet, inner: Tensor, outer: Tensor
) -> dict[str, Tensor]:
    """Return the inputs of `sciml.networks.elliptic.wos_gino.WosGINO` for B problems.

    Args:
        domain: B domains.
        problem: Their equation, without coefficients that vary.
        inner: Points inside `(B, P, d)`.
        outer: Points on the boundary `(B, Q, d)`.

    Returns:
        `points` `(B, P + Q, d)`; `boundary`, `distance` and `source` `(B, P + Q)`; in float32.
    """
    points = torch.cat([inner, outer], 1)
    closest = domain.project(points)
    # zero where a point is its own closest one, up to rounding
    distance = -torch.linalg.vector_norm(points - closest, dim=2)

    def values(field: ScalarField | None, at: Tensor) -> Tensor:
        if field is None:
            return torch.zeros_like(distance)
        return field(*domain.columns(at)).view(at.shape[:2])

    return {
        "points": points.float(),
        "boundary": values(problem.boundary, closest).float(),
        "distance": distance.float(),
        "source": values(problem.source, points).float(),
    }


def cloud_values(
    network: Callable[..., Tensor],
    domain: Domain,
    problem: Dirichlet,
    points: Tensor,
    interior: int,
    boundary: int,
) -> Tensor:
    """Return an operator's solutions `(B, P)` at `points (B, P, d)`, seen from random clouds.

    Args:
        network: Called with `cloud_inputs` and `query`, such as `WosGINO`.
        domain: B domains inside the box of its grid.
        problem: Their equation.
        points: Inside the domains.
        interior: Points of the cloud inside a domain.
        boundary: Points of the cloud on its boundary.
    """
    generator = Streams(0, 0, device=domain.bounds()[0].device).generator("cloud")
    inner = domain.sample_interior(interior, generator, torch.float64)
    outer = domain.sample_boundary(boundary, generator, torch.float64).points
    like = next(network.parameters())
    inputs = cloud_inputs(domain, problem, inner, outer)
    inputs = {name: field.to(like) for name, field in inputs.items()}
    return network(**inputs, query=points.to(like))
