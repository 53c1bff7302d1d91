"""Steady Darcy flow as a constraint: -div(a grad u) = f with u = 0 on the boundary, linear in u."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sciml.arguments import made, takes
from sciml.physics.constraints.equation import ConstrainedEquation, per_field


class DarcyConstraint(ConstrainedEquation):
    """-div(a grad u) = 1 in the unit square by the problem's own finite volumes, walls included.

    The inputs are the coefficient a `(B, 1, n, n)`.

    Args:
        problem: A `sciml.physics.evolution.DarcyFlow`; knows the equation as `steady`.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import DarcyConstraint
        >>> from sciml.physics.evolution import DarcyFlow
        >>> problem = DarcyFlow(cells=16)
        >>> equation = DarcyConstraint(problem)
        >>> equation.axes, equation.sizes, equation.linear
        (('x', 'y'), (16, 16), True)
    """

    axes = ("x", "y")
    periodic = (False, False)
    linear = True

    @takes(problem=made("cells", "steady", what="a DarcyFlow of sciml.physics.evolution"))
    def __init__(self, problem: Any) -> None:
        self.problem = problem
        self.sizes = (problem.cells, problem.cells)

    def features(self, field: Tensor, inputs: Tensor, *, data: bool) -> list[Tensor]:
        """Return -div(a grad u)."""
        return [self.problem.steady.product(field, per_field(inputs[:, 0], field))]

    def formula(self, values: Sequence[Tensor], aux: Sequence[Tensor]) -> Tensor:
        """Return -div(a grad u) - 1."""
        return values[0] - 1
