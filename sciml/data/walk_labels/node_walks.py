"""Walks on spheres from the nodes of a grid, and where their results stand on it."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from sciml.physics.elliptic.elliptic_families import Instances
from sciml.physics.elliptic.elliptic_grid import Grid, Shapes
from sciml.physics.walks.control_variate import estimate, fitted
from sciml.physics.walks.distance_table import inside_points
from sciml.physics.walks.estimate import Estimate
from sciml.physics.walks.spheres import WalkOnSpheres

BAND = 0.1  # nodes this close to the boundary show where it is


def walked_nodes(
    engine: WalkOnSpheres,
    instances: Instances,
    shapes: Shapes,
    mask: Tensor,
    grid: Grid,
    control: int,
    generator: torch.Generator,
) -> tuple[Estimate, tuple[Tensor, Tensor]]:
    """Return estimates at some nodes, `(B, m)`, and which nodes these are.

    Args:
        engine: How walks go.
        instances: B problems in their domains.
        shapes: The domains as the grid sees them.
        mask: Nodes to walk from, `(B, n^d)`.
        grid: The grid.
        control: Degree of the polynomial that is subtracted, 0 for none.
        generator: Source of the walks.

    Returns:
        Estimates, and index `(B, m)` of their nodes with whether they are own or padding.
    """
    domain, problem = instances.domain, instances.problem
    index, own = inside_points(mask)
    d = grid.dim
    nodes = grid.points(domain.count, index.device)
    points = nodes.gather(1, index[..., None].expand(-1, -1, d))
    psi = None
    if control:
        band, _ = inside_points(shapes.sdf.abs() < BAND)
        on = shapes.closest.gather(1, band[..., None].expand(-1, -1, d))
        psi = fitted(problem, domain, on, points, own, control, grid.half)
    return estimate(engine, domain, problem, points, generator, psi), (index, own)


def at_nodes(values: Tensor, index: Tensor, own: Tensor, grid: Grid) -> Tensor:
    """Return values `(B, m)` at their nodes, `(B, n, ..., n)`, zero elsewhere."""
    count = len(values)
    flat = values.new_zeros(count, grid.nodes**grid.dim)
    # padding repeats the first node: added as zeros
    flat = flat.scatter_add(1, index, torch.where(own, values, 0.0).nan_to_num())
    return flat.view(count, *grid.shape)


def walk_statistics(found: Estimate, start: float) -> dict[str, Tensor | float]:
    """Return what walks did that began at the reading `start` of the clock."""
    return {
        "seconds": time.perf_counter() - start,
        "steps": found.steps.nanmean(),
        "truncated": found.truncated.nanmean(),
    }
