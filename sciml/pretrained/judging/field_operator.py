"""How wrong an operator on people's own files is, where an equation of the house was named.

The equation is that of `module.equation`, whose problem has a solver of its own, or the problem of
`data.coarse`. Errors are |a - b|_2 / |b|_2 of every sample. Where the data have solutions, all is
compared with these as well, so that an equation that is not the data's shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.fields.coarse_input import coarse_solve
from sciml.networks.fields.field_network import FieldNetwork
from sciml.physics.constraints.penalty import SoftConstraint
from sciml.pretrained.classes.described_objects import build
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator


@dataclass(frozen=True)
class FieldVerification:
    """Errors of n samples.

    Attributes:
        problem: Name of the class that solved them.
        coarse: Whether that is the solve that the operator corrects.
        to_solver: Of the operator, against the solver `(n,)`.
        to_data: Of the operator, against known solutions; None without any.
        solver_to_data: Of the solver, against these.
        residual: Root mean square of the equation over the operator's outputs; None without one.
        residual_of_solver: The same over the solver's.
    """

    problem: str
    coarse: bool
    to_solver: Tensor
    to_data: Tensor | None
    solver_to_data: Tensor | None
    residual: Tensor | None
    residual_of_solver: Tensor | None

    def error(self) -> float:
        """Return the mean error that counts: against the data where the solver is coarse."""
        known = self.to_data if self.coarse and self.to_data is not None else self.to_solver
        return float(known.mean())


def is_field_operator(model: object) -> bool:
    """Return whether a model was trained on files of fields."""
    return isinstance(getattr(model, "network", None), FieldNetwork)


def named_equation(model: PretrainedOperator) -> Any:
    """Return the constraint that training named, None without one."""
    node = model.spec["data"].get("equation")
    return None if node is None else build("part", node)


def fresh_inputs(model: PretrainedOperator, count: int, generator: torch.Generator) -> dict:
    """Return inputs by name that the named problem draws.

    Args:
        model: The operator.
        count: Samples.
        generator: Their source, on the CPU.

    Raises:
        InvalidArgument: If the problem draws none, or other inputs than the operator has.
    """
    equation = named_equation(model)
    problem = model.network.coarse if equation is None else equation.problem
    fields = model.network.fields
    if not hasattr(problem, "sample") or len(fields.inputs) != 1:
        raise InvalidArgument(
            f"samples of {type(problem).__name__}, which draws none that fit",
            "the file that the operator was trained on",
            "Put it back where model.json, data.recipe.path, says it is",
        )
    return fields.inputs_of(problem.sample(count, generator))


@torch.no_grad()
def verify_fields(
    model: PretrainedOperator,
    given: Mapping[str, Tensor],
    target: Tensor | None = None,
) -> FieldVerification:
    """Compare an operator with the solver of the equation that its training named.

    Args:
        model: The operator.
        given: Inputs by name, on the grid of training.
        target: Known solutions `(n, C, *space)`; None without any.

    Raises:
        InvalidArgument: If no equation was named, or trajectories are rolled out.
    """
    network, equation = model.network, named_equation(model)
    fields = network.fields
    if fields.bundle or (equation is None and network.coarse is None):
        why = (
            "which rolls out trajectories" if fields.bundle else "whose training named no equation"
        )
        raise InvalidArgument(
            f"{model.spec['name']}, {why},",
            "an operator with module.equation or data.coarse",
            "The test metrics of its card say how wrong it is on its own data",
        )
    packed = fields.pack({k: v.double() for k, v in given.items()})
    if equation is not None and list(packed.shape[2:]) != fields.size:
        raise InvalidArgument(
            f"samples on {tuple(packed.shape[2:])} points",
            f"the grid of the equation, {fields.size}",
        )
    found = fields.target(model.predict(**given)).double().cpu()
    residual = of_solver = None
    if equation is None:
        solver = network.coarse
        solved = coarse_solve(solver, fields, packed)
    else:
        solver = equation.problem
        value = solver.solve(packed[:, : equation.in_channels]).value
        timed = "t" in equation.axes
        solved = value if timed else value[:, -1:]
        imposed = SoftConstraint(equation)

        def size(u: Tensor) -> Tensor:
            field = u if timed else u[:, 0]
            rows = imposed.residual(field, packed[:, : equation.in_channels])
            return rows.flatten(1).square().mean(1).sqrt()

        residual, of_solver = size(found), size(solved)
    known = None if target is None else target.double()
    return FieldVerification(
        type(solver).__name__,
        equation is None,
        _relative(found, solved),
        None if known is None else _relative(found, known),
        None if known is None else _relative(solved, known),
        residual,
        of_solver,
    )


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    error, size = (found - wanted).flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1)
    return error / size.clamp_min(1e-300)
