"""Soft constraint, the baseline without a solve: the network's one function is the solution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.constraints.constrained_field import Constrained
from sciml.physics.constraints.equation import ConstrainedEquation
from sciml.physics.constraints.expert_split import Split
from sciml.physics.constraints.layer import HardConstraint
from sciml.solvers import Status
from sciml.solvers.solution import LinearReport
from sciml.typed_arguments import typed


@typed
class SoftConstraint:
    """u = offset + column for the one function of a network (PI-SC); nothing is solved.

    Args:
        equation: What the loss asks for.

    Raises:
        InvalidArgument: From the call, for more than one function.

    Example:
        >>> import torch
        >>> from sciml.physics.constraints import HeatConstraint, SoftConstraint
        >>> from sciml.physics.evolution import Heat
        >>> problem = Heat(points=32, time_count=6)
        >>> layer = SoftConstraint(HeatConstraint(problem))
        >>> inputs = problem.sample(1, torch.Generator().manual_seed(0))
        >>> value = problem.solve(inputs).value
        >>> tuple(layer.residual(value, inputs).shape)
        (1, 6, 32)
    """

    experts = 1
    solver = None

    def __init__(self, equation: ConstrainedEquation) -> None:
        self.equation = equation
        self._hard = HardConstraint(equation)  # knows residual and conditions

    def using(self, solver: Any = None, adjoint: Any = None) -> SoftConstraint:
        """Return this layer, which has no solver."""
        return self

    def judging(self) -> SoftConstraint:
        """Return this layer."""
        return self

    def __call__(
        self,
        basis: Tensor,
        inputs: Tensor,
        *,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Constrained:
        """Return the field; arguments as in `HardConstraint`."""
        if basis.shape[1] != 1:
            raise InvalidArgument(
                f"{basis.shape[1]} functions for a soft constraint",
                "one, the solution itself",
                "Type network.functions=1",
            )
        basis, inputs = basis.double(), inputs.double()
        columns = self.equation.columns(basis, inputs)
        value = self.equation.offset(basis, inputs) + columns[:, 0]
        one = torch.zeros(len(basis), 1, dtype=torch.long, device=basis.device)
        sizes = tuple(basis.shape[2:])
        with torch.no_grad():
            residual = self.residual(value, inputs).flatten(1).square().mean(1).sqrt()[:, None]
        return Constrained(
            value,
            columns,
            basis.new_ones(len(basis), 1, 1),
            one + int(Status.CONVERGED),
            one,
            residual,
            one + 1,
            self._hard.sampler(sizes).draw(None),
            Split(sizes, [1] * len(sizes)),
            LinearReport(),
        )

    def residual(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the equation's residual of a field, as `HardConstraint.residual`."""
        return self._hard.residual(value, inputs)

    def conditions(self, value: Tensor, inputs: Tensor) -> Tensor:
        """Return the residuals of the conditions, as `HardConstraint.conditions`."""
        return self._hard.conditions(value, inputs)
