"""Trained models of elliptic problems as walks judge them: problems to draw, and values there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.walks.clouds import cloud_values
from sciml.physics.walks.grid import values
from sciml.physics.walks.verification import Given, Predict, Problems
from sciml.pretrained import table
from sciml.pretrained.operator import PretrainedOperator
from sciml.pretrained.predictor import PretrainedPINN

CLOUD = {"interior": 512, "boundary": 256}  # points an operator on clouds is shown

# (count, generator) -> count independent problems
Draw = Callable[[int, torch.Generator], Problems]


def judged(model: PretrainedPINN | PretrainedOperator) -> tuple[Draw, Predict]:
    """Return the problems a model is made for, and its values at points of such problems.

    A solution belongs to one problem, which is drawn as so many equal copies; an operator to the
    family that its card names (`data.recipe.family`).

    Raises:
        InvalidArgument: If the model is not one of an elliptic problem with Dirichlet data.
    """
    if isinstance(model, PretrainedPINN):
        return _solution(model)
    return _operator(model)


def _solution(model: PretrainedPINN) -> tuple[Draw, Predict]:
    problem = model.solution.problem
    if not hasattr(problem, "dirichlet"):
        raise InvalidArgument(
            f"a model of {type(problem).__name__}",
            "a linear elliptic problem with Dirichlet data, such as Poisson or PoissonBox",
            "Walks know no other equation",
        )

    def draw(count: int, generator: torch.Generator) -> Given:
        domain, equation = problem.dirichlet(count)
        return Given(domain.to(generator.device), equation)

    def predict(problems: Problems, points: Tensor) -> Tensor:
        weight = next(model.parameters())
        rows = points.reshape(-1, points.shape[2]).to(weight.device, weight.dtype)
        return model(rows)[:, 0].view(points.shape[:2]).to(points)

    return draw, predict


def _operator(model: PretrainedOperator) -> tuple[Draw, Predict]:
    recipe = model.spec["data"].get("recipe") or {}
    node = recipe.get("family") if isinstance(recipe, dict) else None
    name = table.name_of("family", str(node.get("_target_", ""))) if node else None
    cloud = "points" in model.spec["inputs"]
    if name is None or not (cloud or hasattr(model.network, "at")):
        raise InvalidArgument(
            f"a model of {type(model.network).__name__}",
            "an operator for a family of elliptic problems, named in its card under data.recipe",
            f"Known families: {', '.join(table.CLASSES['family'])}",
        )
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    family = table.build("family", {"class": name, "arguments": arguments})
    sizes = {key: int(recipe.get(key, size)) for key, size in CLOUD.items()}

    def predict(problems: Problems, points: Tensor) -> Tensor:
        if cloud:
            return cloud_values(model.network, problems.domain, problems.problem, points, **sizes)
        return values(model.network, problems.domain, problems.problem, points)

    return family.draw, predict
