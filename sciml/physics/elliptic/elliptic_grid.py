"""Elliptic problems on a square or cubic grid, the inputs of networks on grids.

A grid has `nodes` points per axis from `-half` to `half`. A domain is seen as its signed distance,
boundary data as their values at the closest boundary point of every node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_positive
from sciml.physics.elliptic.elliptic_problem import Dirichlet, ScalarField
from sciml.physics.geometry import Domain
from sciml.shapes import check_kind


@dataclass(frozen=True)
class Grid:
    """A square or cubic grid around the origin.

    Args:
        nodes: Points per axis, at least 8.
        half: Half the side of the box.
        dim: Number of axes.

    Raises:
        InvalidArgument: For fewer nodes or a box without inside.
    """

    nodes: int = 44
    half: float = 1.5
    dim: int = 2

    def __post_init__(self) -> None:
        """Refuse grids without an inside."""
        check_positive("half", self.half)
        for name in ("nodes", "dim"):
            check_kind(name, getattr(self, name), int)
        if self.nodes < 8 or self.dim < 1:
            raise InvalidArgument(
                f"a grid of {self.nodes} nodes along {self.dim} axes",
                "at least 8 nodes, and an axis",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along every axis."""
        return (self.nodes,) * self.dim

    def points(self, count: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return all nodes `(count, n^d, d)` in float64, the last axis fastest."""
        axis = torch.linspace(-self.half, self.half, self.nodes, dtype=torch.float64, device=device)
        places = torch.stack(torch.meshgrid([axis] * self.dim, indexing="ij"), -1)
        return places.reshape(1, -1, self.dim).expand(count, -1, -1)


@dataclass(frozen=True)
class Shapes:
    """What a grid sees of B domains.

    Attributes:
        sdf: `(B, n^d)` signed distance, negative inside.
        closest: `(B, n^d, d)` closest boundary points.
    """

    sdf: Tensor
    closest: Tensor

    @classmethod
    def of(cls, domain: Domain, grid: Grid) -> Shapes:
        """Return the distances and closest points of a grid's nodes, in float32."""
        points = grid.points(domain.count, domain.bounds()[0].device)
        closest = domain.project(points)
        distance = torch.linalg.vector_norm(points - closest, dim=2)
        sdf = torch.where(domain.inside(points), -distance, distance)
        return cls(sdf.float(), closest.float())

    def select(self, index: Tensor) -> Shapes:
        """Return the domains `index (K,)`."""
        return Shapes(self.sdf[index], self.closest[index])


def grid_inputs(
    domain: Domain, problem: Dirichlet, grid: Grid, shapes: Shapes | None = None
) -> dict[str, Tensor]:
    """Return the inputs of `sciml.networks.elliptic.wos_fno.WosFNO` for B problems.

    Args:
        domain: B domains inside the grid's box.
        problem: Their equation.
        grid: The grid.
        shapes: The domains as the grid sees them, where they are known.

    Returns:
        `sdf`, `boundary`, `source`, and `screening` and `diffusion` where the equation has them,
        each `(B, n, ..., n)` in float32.
    """
    shapes = Shapes.of(domain, grid) if shapes is None else shapes
    points = grid.points(domain.count, shapes.sdf.device).float()
    shape = (domain.count, *grid.shape)

    def values(field: ScalarField | float | Tensor | None, at: Tensor) -> Tensor:
        x, i = domain.columns(at)
        if field is None:
            return x.new_zeros(shape)
        if callable(field):
            found = field(x, i).view(shape).float()
            if not bool(found.isfinite().all()):  # fields need no values outside their domain
                there = torch.where(shapes.sdf[..., None] < 0, at, shapes.closest)
                found = torch.where(
                    found.isfinite(), found, field(*domain.columns(there)).view(shape)
                )
            return found.float()
        constant = torch.as_tensor(field, device=x.device).float()
        return constant.reshape(-1, *[1] * grid.dim).expand(shape).contiguous()

    found = {
        "sdf": shapes.sdf.view(shape),
        "boundary": values(problem.boundary, shapes.closest),
        "source": values(problem.source, points),
    }
    if problem.screening is not None:
        found["screening"] = values(problem.screening, points)
    if problem.diffusion is not None:
        found["diffusion"] = values(problem.diffusion, points)
    return found


def values(
    network: Callable[..., Tensor],
    domain: Domain,
    problem: Dirichlet,
    points: Tensor,
    inputs: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return an operator's solutions `(B, P)` at `points (B, P, d)` inside the domains.

    Differentiable in the points, once: the gradient serves as a control variate of walks.

    Args:
        network: With `nodes`, `half`, `dim` and `at`, such as
        `sciml.networks.elliptic.wos_fno.WosFNO`.
        domain: B domains inside its box.
        problem: Their equation.
        points: `(B, P, d)`.
        inputs: What the network is shown, where that is known: `grid_inputs` on its grid.
    """
    like = next(network.parameters())
    if inputs is None:
        inputs = grid_inputs(domain, problem, Grid(network.nodes, network.half, network.dim))
    inputs = {name: field.to(like) for name, field in inputs.items()}
    fixed = points.detach().double()
    gap = points - domain.project(fixed)
    # the closest point moves along the boundary only: to first order the distance does not see it
    distance = gap.square().sum(2).clamp_min(1e-24).sqrt()
    distance = torch.where(domain.inside(fixed), -distance, distance)
    return network.at(points, distance, **inputs)
