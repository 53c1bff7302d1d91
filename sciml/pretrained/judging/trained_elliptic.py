"""Trained models of elliptic problems, solutions and operators alike, as walks judge them."""

from __future__ import annotations

from sciml.errors import InvalidArgument
from sciml.physics.walks.verification import Predict
from sciml.pretrained.classes import class_table, described_objects
from sciml.pretrained.elliptic.corrections import Draw, solution_problems
from sciml.pretrained.elliptic.elliptic_operator import operator_values
from sciml.pretrained.predictors.pretrained_operator import PretrainedOperator
from sciml.pretrained.predictors.pretrained_pinn import PretrainedPINN


def judged(model: PretrainedPINN | PretrainedOperator) -> tuple[Draw, Predict]:
    """Return the problems a model is made for, and its values at points of such problems.

    A solution belongs to one problem, which is drawn as so many equal copies; an operator to the
    family that its card names (`data.recipe.family`).

    Raises:
        InvalidArgument: If the model is not one of an elliptic problem with Dirichlet data.
    """
    if isinstance(model, PretrainedPINN):
        return solution_problems(model.solution)
    return family_problems(model)


def family_problems(model: PretrainedOperator) -> tuple[Draw, Predict]:
    """Return the family of problems that an operator's card names, and its values at points.

    Raises:
        InvalidArgument: If the card names none, or the operator is not elliptic.
    """
    recipe = model.spec["data"].get("recipe") or {}
    node = recipe.get("family") if isinstance(recipe, dict) else None
    name = class_table.name_of("family", str(node.get("_target_", ""))) if node else None
    if name is None or not ("points" in model.spec["inputs"] or hasattr(model.network, "at")):
        raise InvalidArgument(
            f"a model of {type(model.network).__name__}",
            "an operator for a family of elliptic problems, named in its card under data.recipe",
            f"Known families: {', '.join(class_table.CLASSES['family'])}",
        )
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    family = described_objects.build("family", {"class": name, "arguments": arguments})
    return family.draw, operator_values(model.network, model.spec)
