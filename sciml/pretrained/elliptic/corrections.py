"""Corrections of trained models of elliptic problems by walks on spheres.

A correction replaces what a model says by what a few walks from the same points find, the model's
gradient and a fitted polynomial taking out most of their noise: unbiased up to the walks' O(eps),
whatever the model's own error, with a standard error beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.networks.solutions.trial import TrialSolution
from sciml.physics.elliptic.grid_problem import sampled_problem
from sciml.physics.walks.distance_table import inside_points
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verification import GivenProblems, Predict, Problems, correct
from sciml.typed_arguments import typed

EPS = 2e-4  # where the walks of a correction end at most, in units of a domain's size
SHELL = 3e-3  # and times the root of their number
ROUNDING = 4.0  # last places of data in single precision

# (count, generator) -> count independent problems
Draw = Callable[[int, torch.Generator], Problems]


def solution_problems(solution: TrialSolution) -> tuple[Draw, Predict]:
    """Return the problem of a solution, as so many equal copies, and its values at points.

    Raises:
        InvalidArgument: If it is not elliptic with Dirichlet data.
    """
    problem = solution.problem
    if not hasattr(problem, "dirichlet"):
        raise InvalidArgument(
            f"a model of {type(problem).__name__}",
            "a linear elliptic problem with Dirichlet data, such as Poisson or PoissonBox",
            "Walks know no other equation",
        )

    def draw(count: int, generator: torch.Generator) -> GivenProblems:
        domain, equation = problem.dirichlet(count)
        return GivenProblems(domain.to(generator.device), equation)

    def predict(problems: Problems, points: Tensor) -> Tensor:
        weight = next(solution.parameters())
        rows = points.reshape(-1, points.shape[2]).to(weight.device, weight.dtype)
        return solution(rows)[:, 0].view(points.shape[:2]).to(points)

    return draw, predict


@typed
def correct_solution(
    solution: TrialSolution, x: Tensor, value: Tensor, walks: int, seed: int
) -> dict[str, Tensor]:
    """Return the corrected values of a solution at `x (N, d)`, see `PretrainedPINN.predict`.

    Example:
        >>> import torch
        >>> from sciml.networks import MLP, TrialSolution
        >>> from sciml.physics import Poisson
        >>> from sciml.pretrained.elliptic import correct_solution
        >>> problem, x = Poisson(dim=2), torch.tensor([[0.5, 0.0]])
        >>> untrained = TrialSolution(problem, MLP(dim=2, width=8, depth=2), ["x"])
        >>> found = correct_solution(untrained, x, torch.zeros(1), walks=256, seed=0)
        >>> off = (found["value"] - problem.exact(x, None)).abs()
        >>> bool(off < 4 * found["standard_error"])
        True
    """
    draw, predict = solution_problems(solution)
    generator = walk_stream(seed, x.device)
    found = corrected(predict, draw(1, generator), x[None].double(), walks, generator, value[None])
    return {name: part[0] for name, part in found.items()}


@typed
def check_correctable(network: nn.Module, entries: Mapping[str, Mapping], walks: int) -> None:
    """Refuse corrections of operators that are not shown a domain on a grid.

    Args:
        network: The operator's network.
        entries: Its inputs as `model.json` describes them.
        walks: Asked for.

    Raises:
        InvalidArgument: With what to use instead.

    Example:
        >>> import sciml
        >>> from sciml.pretrained.elliptic import check_correctable
        >>> operator = sciml.load_pretrained("wos_poisson2d")
        >>> check_correctable(operator.network, operator.spec["inputs"], walks=16)  # it is
    """
    if "sdf" not in entries or not hasattr(network, "at"):
        raise InvalidArgument(
            f"correct={walks} for a {type(network).__name__}",
            "an operator on a grid that shows the domain",
            "Use solve(domain, problem, points, walks=...)",
        )


@typed
def correct_grid(
    network: nn.Module,
    inputs: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    walks: int,
    seed: int,
) -> dict[str, Tensor]:
    """Return an operator's outputs corrected at the nodes inside, see `PretrainedOperator.predict`.

    What is corrected to is the problem that the grid shows (`sciml.physics.elliptic.grid_problem`).

    Example:
        >>> import sciml
        >>> import torch
        >>> from sciml.pretrained.elliptic import correct_grid
        >>> network = sciml.load_pretrained("wos_poisson2d").network
        >>> line = torch.linspace(-network.half, network.half, network.nodes)
        >>> x, y = torch.meshgrid(line, line, indexing="ij")
        >>> given = {"sdf": torch.hypot(x, y)[None] - 1, "boundary": x[None]}  # u = x in a disk
        >>> given["source"] = torch.zeros_like(given["sdf"])
        >>> with torch.no_grad():
        ...     found = correct_grid(network, given, network.infer(**given), walks=8, seed=0)
        >>> inside = found["standard_error"].isfinite()
        >>> bool((found["value"] - x)[inside].abs().mean() < 0.05)
        True
    """
    half, sdf = float(network.half), inputs["sdf"]
    given = GivenProblems(*sampled_problem(inputs, half))
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

    generator = walk_stream(seed, sdf.device)
    plain = found["value"].flatten(1)
    new = corrected(predict, given, points, walks, generator, plain.gather(1, index))
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


def corrected(
    predict: Predict,
    given: Problems,
    points: Tensor,
    walks: int,
    generator: torch.Generator,
    found: Tensor,
) -> dict[str, Tensor]:
    """Return walks' values and standard errors; the model's value where there are no walks.

    Args:
        predict: The model.
        given: B problems.
        points: Where walks start, `(B, P, d)`.
        walks: From every point, at least 2.
        generator: Source of the walks.
        found: The model's values there, `(B, P)`.

    Raises:
        InvalidArgument: For fewer walks.
    """
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


def walk_stream(seed: int, device: torch.device) -> torch.Generator:
    """Return the random numbers of walks, or refuse a seed that is no integer."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidArgument(f"seed={seed!r}", "an integer")
    return Streams(seed, 0, device=device).generator("walks")
