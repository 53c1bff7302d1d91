"""Operators for elliptic problems: solutions on domains of one's own, and how wrong they are.

A problem is moved and scaled to what training covered (`placed`), shown to the operator on its own
grid or cloud of points, and its values are moved back. Walks correct them, see `corrections`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument, RangeWarning
from sciml.physics.elliptic.elliptic_clouds import cloud_values
from sciml.physics.elliptic.elliptic_grid import Grid, grid_inputs, values
from sciml.physics.elliptic.elliptic_problem import Dirichlet
from sciml.physics.geometry import Domain, Similar
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verification import GivenProblems, Predict, Problems, verify
from sciml.physics.walks.verified_errors import Verification
from sciml.pretrained.checks.arrays_given import check_finite, real_tensor
from sciml.pretrained.checks.training_ranges import outside_inputs
from sciml.pretrained.elliptic.corrections import EPS, corrected, walk_stream
from sciml.pretrained.elliptic.known_equations import check_problem
from sciml.pretrained.elliptic.placed import place
from sciml.typed_arguments import typed

ON_BOUNDARY = 1e-6  # of a domain's size: points so close to the boundary are on it
SAMPLE, TIMED, WALKS = 64, (4, 64), 256  # points and walks that are timed; walks that are offered
CHUNK = 2**14  # points of each problem evaluated at once
CLOUD = {"interior": 512, "boundary": 256}  # points an operator on clouds is shown


def operator_values(network: nn.Module, spec: Mapping) -> Predict:
    """Return how an operator is evaluated at points of problems.

    Args:
        network: The operator's network.
        spec: The content of its `model.json`.

    Raises:
        InvalidArgument: If it is no operator for elliptic problems.
    """
    recipe = spec["data"].get("recipe") or {}
    cloud = "points" in spec["inputs"]
    if not cloud and not ("sdf" in spec["inputs"] and hasattr(network, "at")):
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


@typed(domain=None, problem=None)
def solve(
    network: nn.Module,
    spec: Mapping,
    domain: Domain,
    problem: Dirichlet,
    points: Any,
    walks: int,
    seed: int,
) -> dict[str, Tensor]:
    """Return what `PretrainedOperator.solve` does.

    Example:
        >>> import sciml
        >>> import torch
        >>> from sciml.physics import Dirichlet
        >>> from sciml.physics.geometry import Ball
        >>> from sciml.pretrained.elliptic import solve
        >>> operator = sciml.load_pretrained("wos_poisson2d")
        >>> disk, problem = Ball(1.0, (0.0, 0.0)), Dirichlet(lambda x, i: x[0])  # u = x
        >>> at = torch.tensor([[[0.5, 0.0]]])
        >>> u = solve(operator.network, operator.spec, disk, problem, at, walks=0, seed=0)
        >>> round(u["value"].item(), 1)
        0.5
    """
    predict = operator_values(network, spec)
    known, dim = spec["inputs"], int(getattr(network, "dim", 2))
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
    given = GivenProblems(placed.domain, placed.problem)
    local = points if placed.points is points else placed.points
    if points.shape[1] == 0:
        found = points.new_zeros(points.shape[:2], dtype=torch.float32)
        empty = {"value": found}
        return empty if walks == 0 else empty | {"standard_error": found, "model": found}
    inputs = _shown(network, known, given)
    fixed = {name: field.detach() for name, field in inputs.items()}
    findings = outside_inputs(known, fixed, network.half)
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
    generator = walk_stream(seed, points.device)
    new = corrected(predict, given, local, walks, generator, found / unit)
    return {name: value * unit for name, value in new.items()}


def _inside(domain: Domain, points: object) -> Tensor:
    """Return points as a tensor `(B, P, d)`, all of them in their domain or on its boundary."""
    points = real_tensor("points", points).to(domain.bounds()[0].device)
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


def _shown(network: nn.Module, known: Mapping, given: GivenProblems) -> dict[str, Tensor]:
    """Return what an operator is shown of problems in its own coordinates, by input name."""
    grid = Grid(network.nodes, network.half, int(getattr(network, "dim", 2)))
    inputs = grid_inputs(given.domain, given.problem, grid)
    for name, field in inputs.items():
        if not bool(field.isfinite().all()):
            raise InvalidArgument(f"the {name} is not finite everywhere in its domain", "numbers")
    if "sdf" not in known:  # clouds are described by the same domains
        inputs["distance"] = inputs.pop("sdf")
    return {name: field for name, field in inputs.items() if name in known}


def _price(given: GivenProblems, points: Tensor) -> str:
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


@typed(domain=None, problem=None)
def verify_own(
    network: nn.Module,
    spec: Mapping,
    domain: Domain,
    problem: Dirichlet,
    *,
    points: int,
    walks: int,
    confidence: float,
    seed: int,
) -> Verification:
    """Return what `PretrainedOperator.verify` does.

    Example:
        >>> import sciml
        >>> from sciml.physics import Dirichlet
        >>> from sciml.physics.geometry import Ball
        >>> from sciml.pretrained.elliptic import verify_own
        >>> operator = sciml.load_pretrained("wos_poisson2d")
        >>> disk, problem = Ball(1.0, (0.0, 0.0)), Dirichlet(lambda x, i: x[0])
        >>> sizes = {"points": 32, "walks": 32, "confidence": 0.95, "seed": 0}
        >>> verify_own(operator.network, operator.spec, disk, problem, **sizes).rel_l2.value < 0.2
        True
    """
    predict, known = operator_values(network, spec), spec["inputs"]
    problem = check_problem(known, int(getattr(network, "dim", 2)), domain, problem)
    if domain.count != 1:
        raise InvalidArgument(f"{domain.count} domains", "one, of the problem asked about")
    spacing = 2 * network.half / (network.nodes - 1)
    nowhere = torch.zeros(1, 0, domain.dim, dtype=torch.float64)
    with torch.no_grad():
        placed = place(known, network.half, spacing, domain, problem, nowhere)
        given = GivenProblems(placed.domain, placed.problem)
        found = verify(
            predict,
            given,
            walk_stream(seed, domain.bounds()[0].device),
            points=points,
            engine=WalkOnSpheres(walks, EPS, max_steps=100_000),
            confidence=confidence,
            drawn=False,
        )
    frame = placed.domain if placed.domain is not domain else Similar(domain, [0.0] * domain.dim, 1)
    return found.rescaled(
        lambda x: frame.center[:, None] + frame.size[:, None, None] * x, float(placed.unit)
    )
