"""Trained models of elliptic problems: problems to draw for walks, values there, corrections.

A correction replaces what a model says by what a few walks from the same points find, the model's
gradient and a fitted polynomial taking out most of their noise: unbiased up to the walks' O(eps),
whatever the model's own error, with a standard error beside it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument, RangeWarning
from sciml.physics.elliptic.elliptic_clouds import cloud_values
from sciml.physics.elliptic.elliptic_grid import Grid, grid_inputs, values
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.elliptic.grid_problem import sampled_problem
from sciml.physics.geometry import Domain, Similar
from sciml.physics.walks.distance_table import inside_points
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verification import (
    Given,
    Predict,
    Problems,
    Verification,
    correct,
    verify,
)
from sciml.pretrained import class_table
from sciml.pretrained.operator import PretrainedOperator
from sciml.pretrained.placed import check_problem, place
from sciml.pretrained.predictor import PretrainedPINN, _real_tensor, check_finite

EPS = 2e-4  # where the walks of a correction end at most, in units of a domain's size
SHELL = 3e-3  # and times the root of their number
ROUNDING = 4.0  # last places of data in single precision
ON_BOUNDARY = 1e-6  # of a domain's size: points so close to the boundary are on it
SAMPLE, TIMED, WALKS = 64, (4, 64), 256  # points and walks that are timed; walks that are offered
CHUNK = 2**14  # points of each problem evaluated at once
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
    name = class_table.name_of("family", str(node.get("_target_", ""))) if node else None
    if name is None or not ("points" in model.spec["inputs"] or hasattr(model.network, "at")):
        raise InvalidArgument(
            f"a model of {type(model.network).__name__}",
            "an operator for a family of elliptic problems, named in its card under data.recipe",
            f"Known families: {', '.join(class_table.CLASSES['family'])}",
        )
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    family = class_table.build("family", {"class": name, "arguments": arguments})
    return family.draw, _values_of(model)


def _values_of(model: PretrainedOperator) -> Predict:
    """Return how an operator is evaluated at points of problems."""
    network, recipe = model.network, model.spec["data"].get("recipe") or {}
    cloud = "points" in model.spec["inputs"]
    if not cloud and not ("sdf" in model.spec["inputs"] and hasattr(network, "at")):
        raise InvalidArgument(
            f"a {type(network).__name__}", "an operator for elliptic problems on varying domains"
        )
    sizes = {key: int(recipe.get(key, size)) for key, size in CLOUD.items()}

    def predict(
        problems: Problems, points: Tensor, inputs: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        if cloud:
            return cloud_values(network, problems.domain, problems.problem, points, **sizes)
        return values(network, problems.domain, problems.problem, points, inputs)

    return predict


# --- solving and correcting ----------------------------------------------------------------------
def solve(
    model: PretrainedOperator,
    domain: Domain,
    problem: Dirichlet,
    points: Tensor,
    walks: int,
    seed: int,
) -> dict[str, Tensor]:
    """Return what `PretrainedOperator.solve` does."""
    predict, network = _values_of(model), model.network
    known, dim = model.spec["inputs"], int(getattr(network, "dim", 2))
    problem = check_problem(known, dim, domain, problem)
    if "points" in known and torch.is_grad_enabled() and _asks(domain):
        raise InvalidArgument(
            "derivatives with respect to a domain, by an operator on clouds of points",
            "domains without tensors that require gradients",
            "Its clouds are random points, held fixed; operators on grids have these derivatives",
        )
    points = _inside(domain, points)
    spacing = 2 * network.half / (network.nodes - 1)
    placed = place(known, network.half, spacing, domain, problem, points.double())
    given = Given(placed.domain, placed.problem)
    local = points if placed.points is points else placed.points
    if points.shape[1] == 0:
        found = points.new_zeros(points.shape[:2], dtype=torch.float32)
        empty = {"value": found}
        return empty if walks == 0 else empty | {"standard_error": found, "model": found}
    inputs = _shown(model, given)
    findings = model.findings({name: field.detach() for name, field in inputs.items()})
    if findings:
        warnings.warn(f"{' '.join(findings)} {_price(given, local)}", RangeWarning, stacklevel=3)
    parts = [predict(given, part, inputs) for part in local.split(CHUNK, 1)]
    unit = placed.unit.to(parts[0])
    found = torch.cat(parts, 1) * unit
    check_finite({"value": found})
    if walks == 0:
        return {"value": found}
    if found.requires_grad:
        raise InvalidArgument(
            f"walks={walks} where derivatives are asked for",
            "walks=0, whose values have derivatives, or no tensor that requires them",
            "Walks are random numbers without derivatives: call solve under torch.no_grad()",
        )
    generator = _stream(seed, points.device)
    new = _corrected(predict, given, local, walks, generator, found / unit)
    return {name: value * unit for name, value in new.items()}


def _inside(domain: Domain, points: object) -> Tensor:
    """Return points as a tensor `(B, P, d)`, all of them in their domain or on its boundary."""
    points = _real_tensor("points", points).to(domain.bounds()[0].device)
    x, i = domain.columns(points)  # refuses shapes that do not fit
    if not bool(points.isfinite().all()):
        raise InvalidArgument("points that are not finite", "numbers")
    if not points.numel():
        return points
    # the boundary belongs to it: u = g there
    slack = ON_BOUNDARY * domain.pick(domain.scale(), x.double(), i)
    outside = domain.level(x.double(), i) > slack
    if bool(outside.any()):
        raise InvalidArgument(
            f"{int(outside.sum())} of {outside.numel()} points outside their domain",
            "points inside",
        )
    return points


def _asks(domain: Domain) -> bool:
    """Return whether a domain is made from tensors that require gradients."""
    parts = vars(domain).values()
    return any(
        part.requires_grad if isinstance(part, Tensor) else _asks(part)
        for part in parts
        if isinstance(part, Tensor | Domain)
    )


def _shown(model: PretrainedOperator, given: Given) -> dict[str, Tensor]:
    """Return what an operator is shown of problems in its own coordinates, by input name."""
    network, known = model.network, model.spec["inputs"]
    grid = Grid(network.nodes, network.half, int(getattr(network, "dim", 2)))
    inputs = grid_inputs(given.domain, given.problem, grid)
    for name, field in inputs.items():
        if not bool(field.isfinite().all()):
            raise InvalidArgument(f"the {name} is not finite everywhere in its domain", "numbers")
    if "sdf" not in known:  # clouds are described by the same domains
        inputs["distance"] = inputs.pop("sdf")
    return {name: field for name, field in inputs.items() if name in known}


def _price(given: Given, points: Tensor) -> str:
    """Return what walks from these points would take, by a few of them."""
    index = torch.arange(SAMPLE, device=points.device) % points.shape[1]
    some = points[:, index].detach()
    generator = Streams(0, 0, device=points.device).generator("price")
    seconds = []
    for walks in TIMED:  # two numbers of walks: what a walk takes, and what a step of all does
        engine = WalkOnSpheres(walks, EPS, max_steps=100_000, outside="nan")
        start = time.perf_counter()
        engine(given.domain, given.problem, some, generator)
        seconds.append(time.perf_counter() - start)
    each = max(seconds[1] - seconds[0], 0.0) / ((TIMED[1] - TIMED[0]) * some.shape[:2].numel())
    total = seconds[0] + each * WALKS * points.shape[:2].numel()
    return (
        f"solve(..., walks={WALKS}) is right whatever the operator says; "
        f"from these points it takes about {total:.1g} s."
    )


def verify_own(
    model: PretrainedOperator,
    domain: Domain,
    problem: Dirichlet,
    *,
    points: int,
    walks: int,
    confidence: float,
    seed: int,
) -> Verification:
    """Return what `PretrainedOperator.verify` does."""
    predict, network = _values_of(model), model.network
    known = model.spec["inputs"]
    problem = check_problem(known, int(getattr(network, "dim", 2)), domain, problem)
    if domain.count != 1:
        raise InvalidArgument(f"{domain.count} domains", "one, of the problem asked about")
    spacing = 2 * network.half / (network.nodes - 1)
    nowhere = torch.zeros(1, 0, domain.dim, dtype=torch.float64)
    with torch.no_grad():
        placed = place(known, network.half, spacing, domain, problem, nowhere)
        given = Given(placed.domain, placed.problem)
        found = verify(
            predict,
            given,
            _stream(seed, domain.bounds()[0].device),
            points=points,
            engine=WalkOnSpheres(walks, EPS, max_steps=100_000),
            confidence=confidence,
            drawn=False,
        )
    frame = placed.domain if placed.domain is not domain else Similar(domain, [0.0] * domain.dim, 1)
    return found.rescaled(
        lambda x: frame.center[:, None] + frame.size[:, None, None] * x, float(placed.unit)
    )


def correct_solution(
    model: PretrainedPINN, x: Tensor, value: Tensor, walks: int, seed: int
) -> dict[str, Tensor]:
    """Return the corrected values of a solution at `x (N, d)`, see `PretrainedPINN.predict`."""
    draw, predict = _solution(model)
    generator = _stream(seed, x.device)
    found = _corrected(predict, draw(1, generator), x[None].double(), walks, generator, value[None])
    return {name: part[0] for name, part in found.items()}


def _stream(seed: int, device: torch.device) -> torch.Generator:
    """Return the random numbers of walks, or refuse a seed that is no integer."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidArgument(f"seed={seed!r}", "an integer")
    return Streams(seed, 0, device=device).generator("walks")


def check_correctable(model: PretrainedOperator, walks: int) -> None:
    """Refuse corrections of operators that are not shown a domain on a grid.

    Raises:
        InvalidArgument: With what to use instead.
    """
    if "sdf" not in model.spec["inputs"] or not hasattr(model.network, "at"):
        raise InvalidArgument(
            f"correct={walks} for a {type(model.network).__name__}",
            "an operator on a grid that shows the domain",
            "Use solve(domain, problem, points, walks=...)",
        )


def correct_grid(
    model: PretrainedOperator,
    inputs: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    walks: int,
    seed: int,
) -> dict[str, Tensor]:
    """Return an operator's outputs corrected at the nodes inside, see `PretrainedOperator.predict`.

    What is corrected to is the problem that the grid shows (`sciml.physics.elliptic.grid_problem`).
    """
    network = model.network
    half, sdf = float(network.half), inputs["sdf"]
    given = Given(*sampled_problem(inputs, half))
    index, own = inside_points(sdf.flatten(1) < 0)
    axes = [torch.linspace(-half, half, n, dtype=torch.float64) for n in sdf.shape[1:]]
    nodes = torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, -2).to(sdf.device)
    points = nodes[index]
    x, i = given.domain.columns(points)
    slope = given.domain.interpolate(x, i, gradient=True).T.view(points.shape)
    level = given.domain.interpolate(x, i).view(index.shape)

    def predict(_: Problems, at: Tensor) -> Tensor:
        distance = level + (slope * (at - points)).sum(2)
        return network.at(at.to(sdf), distance.to(sdf), **inputs)

    generator = _stream(seed, sdf.device)
    plain = found["value"].flatten(1)
    new = _corrected(predict, given, points, walks, generator, plain.gather(1, index))
    value, error = plain.clone(), torch.full_like(plain, torch.nan)
    # padding repeats a row's first node: what it finds there is not used
    rows = torch.arange(len(index), device=index.device)[:, None].expand_as(index)[own]
    value[rows, index[own]] = new["value"][own]
    error[rows, index[own]] = new["standard_error"][own]
    shape = found["value"].shape
    return {
        "value": value.view(shape),
        "standard_error": error.view(shape),
        "model": found["value"],
    }


def _corrected(
    predict: Predict,
    given: Problems,
    points: Tensor,
    walks: int,
    generator: torch.Generator,
    found: Tensor,
) -> dict[str, Tensor]:
    """Return walks' values and standard errors; the model's value where there are no walks."""
    if not isinstance(walks, int) or isinstance(walks, bool) or walks < 2:
        raise InvalidArgument(
            f"{walks} walks for a correction", "at least 2: the error bar needs two"
        )
    # the bias of the walks' end has to fall as fast as their noise
    eps = min(EPS, SHELL / walks**0.5)
    engine = WalkOnSpheres(walks, eps, max_steps=100_000, outside="nan")
    estimate = correct(predict, given, points, generator, engine=engine)
    walked = estimate.mean.isfinite()
    value = torch.where(walked, estimate.mean.to(found), found)
    # data are evaluated in single precision, which no number of walks makes better
    size = estimate.mean.abs().nan_to_num().amax(1, keepdim=True)
    error = estimate.standard_error.hypot(ROUNDING * torch.finfo(engine.dtype).eps * size)
    return {"value": value, "standard_error": error.to(found), "model": found}
