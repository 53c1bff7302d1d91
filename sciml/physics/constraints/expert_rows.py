"""The least-squares rows of all experts: assembly of what `HardConstraint` then solves.

Rows of an expert are the equation at its points, all conditions, and in later sweeps those that
couple it to its neighbours. Features of the basis are taken on the whole grid before it is cut.

Columns are scaled to root mean square 1 over the grid, so the ridge and the solver do not see how
large the network made a function. Rows count as means: over an expert's own points, over the
points that all experts share, and over the conditions as the equation weighs them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.physics.constraints import equation_checks
from sciml.physics.constraints.equation import ConstrainedEquation
from sciml.physics.constraints.expert_split import Split
from sciml.physics.constraints.points import ExpertPoints

# theta of `PointwiseRows`: features, offsets, aux, scale, matrix, target; P = B K in front
ExpertRows = tuple[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor, Tensor]


def unit_columns(columns: Tensor) -> Tensor:
    """Return functions `(B, N, *grid)` over their root mean squares; those that vanish stay."""
    dims = tuple(range(2, columns.dim()))
    size = columns.square().mean(dims, keepdim=True)
    return columns / torch.where(size > 0, size, 1.0).sqrt()


def detached(rows: ExpertRows) -> ExpertRows:
    """Return the rows without graph."""
    features, offsets, aux, *rest = rows
    lists = ([t.detach() for t in part] for part in (features, offsets, aux))
    return *lists, *(t.detach() for t in rest)


def expert_rows(
    equation: ConstrainedEquation,
    columns: Tensor,
    offset: Tensor,
    inputs: Tensor,
    points: ExpertPoints,
) -> ExpertRows:
    """Return the rows of all experts, see `PointwiseRows`; P = B K.

    Args:
        equation: What is imposed.
        columns: Basis functions `(B, N, *grid)`.
        offset: `(B, *grid)`.
        inputs: As the problem samples them.
        points: Where the equation is imposed.
    """
    dims, experts = len(equation.axes), len(points.index)

    def matrices(t: Tensor) -> Tensor:
        # (B, N, K, m) -> (B K, m, N)
        return points.gather(t, dims).permute(0, 2, 3, 1).flatten(0, 1).contiguous()

    def vectors(t: Tensor) -> Tensor:
        return points.gather(t, dims).flatten(0, 1)

    features = [
        matrices(t) for t in equation_checks.features(equation, columns, inputs, data=False)
    ]
    offsets = [vectors(t) for t in equation_checks.features(equation, offset, inputs, data=True)]
    aux = [vectors(t) for t in equation.aux(inputs, columns.shape[2:])]
    scale = points.scale.to(columns.device).repeat(len(columns), 1)
    matrix = equation_checks.conditions(equation, columns, inputs, data=False).mT
    target = -equation_checks.conditions(equation, offset, inputs, data=True)
    matrix = matrix.repeat_interleave(experts, 0)
    return features, offsets, aux, scale, matrix, target.repeat_interleave(experts, 0)


def coupled_rows(
    rows: ExpertRows, columns: Tensor, mixture: Tensor, split: Split, coupling: float
) -> ExpertRows:
    """Return the rows with those that ask for the assembled field next to every block.

    Args:
        rows: From `expert_rows`.
        columns: Basis functions `(B, N, *grid)`.
        mixture: The assembled field of the sweep before, less the offset, `(B, *grid)`.
        split: The blocks.
        coupling: Weight of the new rows.
    """
    halo = split.halo()
    most = max(len(h) for h in halo)
    if most == 0:
        return rows
    index = torch.zeros(len(halo), most, dtype=torch.long)
    scale = torch.zeros(len(halo), most, dtype=torch.float64)
    for k, h in enumerate(halo):
        index[k, : len(h)], scale[k, : len(h)] = h, coupling / max(len(h), 1) ** 0.5
    beside = ExpertPoints(index, scale, tuple(len(h) for h in halo))
    dims, size = columns.dim() - 2, scale.to(columns.device)
    more = (beside.gather(columns, dims) * size).permute(0, 2, 3, 1).flatten(0, 1)
    wanted = (beside.gather(mixture, dims) * size).flatten(0, 1)
    *first, matrix, target = rows
    return *first, torch.cat([matrix, more], -2), torch.cat([target, wanted], -1)
