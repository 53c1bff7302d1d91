"""The result of a hard constraint: the field, and the solve of every expert."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sciml.physics.constraints.expert_split import Split
from sciml.physics.constraints.points import ExpertPoints
from sciml.solvers import Status
from sciml.solvers.solution import LinearReport


@dataclass
class Constrained:
    """A field that obeys its equation as far as the basis can, and what every expert did.

    Attributes:
        value: u `(B, *grid)`, with its derivative.
        columns: The scaled functions `(B, N, *grid)` that the weights multiply.
        weights: `(B, K, N)`, of the scaled functions.
        status: `(B, K)` integers, see `sciml.solvers.Status`.
        iterations: `(B, K)`.
        residual: Root mean square of the equation's rows of every expert `(B, K)`, at its weights.
        rank: `(B, K)` numerical rank of the rows' Jacobian, up to N; None if not asked for.
        points: Points of every expert.
        split: The blocks.
        adjoint: Newest linear solve of the derivative, filled by the backward pass.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import HardConstraint, HeatConstraint
        >>> from sciml.physics.evolution import Heat
        >>> problem = Heat(points=32, time_count=6)
        >>> layer = HardConstraint(HeatConstraint(problem), experts=2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> inputs = problem.sample(1, generator)
        >>> found = layer(torch.randn(1, 4, 6, 32, generator=generator), inputs)
        >>> tuple(found.value.shape), found.converged.tolist(), tuple(found.jump.shape)
        ((1, 6, 32), [[True, True]], (1,))
    """

    value: Tensor
    columns: Tensor
    weights: Tensor
    status: Tensor
    iterations: Tensor
    residual: Tensor
    rank: Tensor | None
    points: ExpertPoints
    split: Split
    adjoint: LinearReport

    @property
    def converged(self) -> Tensor:
        """Return `(B, K)` booleans."""
        return self.status == Status.CONVERGED

    @property
    def jump(self) -> Tensor:
        """Return the root mean square of the jumps between blocks `(B,)`; 0 for one expert."""
        return self.split.jump(self.columns, self.weights)
