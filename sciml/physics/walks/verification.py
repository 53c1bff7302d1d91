"""Error of an approximate solution of an elliptic problem, by walks, with a confidence interval.

For points x of random problems, U_a and U_b being means over two independent halves of the walks
from x, and v the value to be judged,

    E (v - U_a)(v - U_b) = (v - u)^2,    E U_a U_b = u^2,

so the mean squared error over a family of problems, and the mean square of its solutions, have
unbiased estimates without any reference solution; the noise of the walks does not add to the error,
it only widens the interval. Problems are drawn independently, hence the interval: means over
problems, t-quantiles, and the linearised variance of the ratio for the relative error. What remains
is the walks' own bias, which is O(eps): keep eps far below the error that is looked for.

Source: the estimator of section 5 of arXiv 2603.01193's validation, with halves instead of a
reference; walks as in `sciml.physics.walks.spheres`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_number
from sciml.physics.elliptic.elliptic_problem import Dirichlet, ScalarField
from sciml.physics.geometry import Domain
from sciml.physics.walks.control_variate import Polynomials, estimate, fitted
from sciml.physics.walks.estimate import Estimate
from sciml.physics.walks.spheres import WalkOnSpheres
from sciml.physics.walks.verified_errors import Verification, WorstPoint, intervals

FITTED = 512  # points on every boundary, and inside, that polynomials are fitted to
DEGREE = {1: 8, 2: 8, 3: 5}


class Problems(Protocol):
    """B problems on B domains."""

    domain: Domain
    problem: Dirichlet


@dataclass(frozen=True)
class GivenProblems:
    """B problems on B domains, and nothing else known of them."""

    domain: Domain
    problem: Dirichlet


# (problems, points (B, P, d)) -> values (B, P)
Predict = Callable[[Problems, Tensor], Tensor]


def verify(
    predict: Predict,
    problems: Problems,
    generator: torch.Generator,
    *,
    points: int = 16,
    engine: WalkOnSpheres | None = None,
    confidence: float = 0.95,
    worst: int = 5,
    margin: float = 0.0,
    control: bool = True,
    drawn: bool = True,
) -> Verification:
    """Judge values at random points of random problems.

    Args:
        predict: `(problems, points (B, P, d)) -> (B, P)`.
        problems: B problems drawn independently of one another, at least 8, unless `drawn` says
            otherwise.
        generator: Source of points and walks, on the device of the problems.
        points: Points per problem, uniform in the domain.
        engine: How walks are made; by default 256 per point, to 2e-4 of the domain's size.
        confidence: Of the intervals.
        worst: Points walked to again, with eight times the walks.
        margin: Points closer to the boundary than this, in units of the domain's size, are left
            out.
        control: Whether to walk for what a fitted polynomial leaves of the data, in up to three
            dimensions and where the equation allows it (`sciml.physics.walks.control_variate`):
            a part of the noise, the same mean.
        drawn: Whether the problems were drawn from a family, which the intervals are about then.
            False if they are the ones asked about: the intervals are over their points, at least 8.

    Raises:
        InvalidArgument: For too few problems, or values of the wrong shape or not finite.
    """
    domain = problems.domain
    engine = engine or WalkOnSpheres(walks=256, eps=2e-4)
    for name, count in (("points", points), ("worst", worst), ("walks", engine.walks)):
        if not isinstance(count, int) or isinstance(count, bool):
            raise InvalidArgument(f"{name}={count!r}", "a whole number")
    check_number("confidence", confidence)
    check_number("margin", margin)
    if not drawn and domain.count * points < 8:
        raise InvalidArgument(f"{domain.count * points} points", "at least 8 for an interval")
    if drawn and domain.count < 8:
        raise InvalidArgument(f"{domain.count} problems", "at least 8 for an interval")
    for name, value, fits, wanted in (
        ("confidence", confidence, 0 < confidence < 1, "a number between 0 and 1, such as 0.95"),
        ("points", points, points >= 1, "at least one point per problem"),
        ("margin", margin, 0 <= margin < 0.5, "a number from 0 to 0.5, in domain sizes"),
        ("worst", worst, worst >= 0, "0 or more points"),
        ("walks", engine.walks, engine.walks >= 2 + 2 * engine.antithetic, "two halves of walks"),
    ):
        if not fits:
            raise InvalidArgument(f"{name}={value}", wanted)
    x = _inner(domain, points, margin, generator)
    _check_data(problems, x)
    value = predict(problems, x).detach().double()
    if value.shape != x.shape[:2] or not bool(value.isfinite().all()):
        raise InvalidArgument(
            f"values of shape {tuple(value.shape)}, {int((~value.isfinite()).sum())} not finite",
            f"numbers of shape {tuple(x.shape[:2])}",
        )
    psi = _polynomials(problems, generator) if control else None
    found = estimate(engine, domain, problems.problem, x, generator, psi)
    bad = int((~found.mean.isfinite()).sum())
    if bad:
        raise InvalidArgument(
            f"walks from {bad} of {found.mean.numel()} points that found no number",
            "data of the problem that are finite all over its domain",
            "Look for poles and roots of negative numbers in boundary, source and coefficients",
        )
    error = found.squared_error(value)
    size = found.halves[0] * found.halves[1]
    parts = (error.mean(1), size.mean(1)) if drawn else (error.flatten(), size.flatten())
    rms, rel = intervals(*parts, confidence)
    return Verification(
        rel,
        rms,
        confidence,
        x,
        value,
        found,
        error.mean(1),
        _again(problems, x, value, found, engine, generator, worst, psi),
    )


def _check_data(problems: Problems, points: Tensor) -> None:
    """Refuse data of a problem that are not finite, before anything blames the model for them."""
    domain, problem = problems.domain, problems.problem
    x, i = domain.columns(points)
    for name in ("boundary", "source", "screening", "diffusion"):
        field = getattr(problem, name)
        if not callable(field):
            continue
        bad = int((~field(domain.nearest(x, i) if name == "boundary" else x, i).isfinite()).sum())
        if bad:
            raise InvalidArgument(
                f"the {name} of the problem is not finite at {bad} of {len(i)} points",
                "numbers",
                "The model was not asked",
            )


def _polynomials(problems: Problems, generator: torch.Generator) -> Polynomials | None:
    """Return polynomials near the solutions, None where they cannot be had."""
    domain, problem = problems.domain, problems.problem
    alpha = problem.diffusion
    if domain.dim > 3 or callable(problem.screening):
        return None
    if alpha is not None and not hasattr(alpha, "log_gradient"):
        return None
    low, high = domain.bounds()
    return fitted(
        problem,
        domain,
        domain.sample_boundary(FITTED, generator, torch.float64).points,
        domain.sample_interior(FITTED, generator, torch.float64),
        degree=DEGREE[domain.dim],
        scale=float(torch.maximum(low.abs(), high.abs()).max()),
    )


def _inner(domain: Domain, n: int, margin: float, generator: torch.Generator) -> Tensor:
    """Return points `(B, n, d)` uniform in each domain, but for what is near the boundary."""
    if margin == 0:
        return domain.sample_interior(n, generator, torch.float64)
    many = domain.sample_interior(8 * n, generator, torch.float64)
    deep = domain.signed_distance(many) < -margin * domain.scale().to(many)[:, None]
    if int(deep.sum(1).min()) < n:
        raise InvalidArgument(f"margin={margin}", "one that leaves points in every domain")
    first = deep.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :n]
    return many.gather(1, first[..., None].expand(-1, -1, many.shape[2]))


def _again(
    problems: Problems,
    x: Tensor,
    value: Tensor,
    found: Estimate,
    engine: WalkOnSpheres,
    generator: torch.Generator,
    count: int,
    psi: Polynomials | None,
) -> list[WorstPoint]:
    """Walk again from the points that look worst: the first walks would flatter the choice."""
    count = min(count, value.numel())
    if count == 0:
        return []
    flat = (value - found.mean).abs().flatten().topk(count).indices
    rows, columns = flat // value.shape[1], flat % value.shape[1]
    chosen, at = x[rows, columns], value[rows, columns]
    domain, problem, points = problems.domain, problems.problem, chosen[None]
    if len(value) > 1:
        domain, problem, points = domain.select(rows), select(problem, rows), chosen[:, None]
        psi = psi and replace(psi, coefficients=psi.coefficients[rows])
    more = replace(engine, walks=8 * engine.walks)
    fresh = estimate(more, domain, problem, points, generator, psi)
    listed = zip(
        rows.tolist(),
        chosen.tolist(),
        at.tolist(),
        fresh.mean.flatten().tolist(),
        fresh.standard_error.flatten().tolist(),
        strict=True,
    )
    found = [WorstPoint(row, tuple(point), *numbers) for row, point, *numbers in listed]
    return sorted(found, key=lambda w: -abs(w.predicted - w.estimate))


@dataclass(frozen=True)
class _Field:
    """A field of the chosen domains `rows (K,)`."""

    field: ScalarField
    rows: Tensor

    def __call__(self, x: Tensor, i: Tensor) -> Tensor:
        return self.field(x, self.rows[i])


class _Diffusion(_Field):
    def log_gradient(self, x: Tensor, i: Tensor) -> Tensor:
        return self.field.log_gradient(x, self.rows[i])


def select(problem: Dirichlet, rows: Tensor) -> Dirichlet:
    """Return the equations of the domains `rows (K,)` as those of K domains."""

    def pick(part: object) -> object:
        if callable(part):
            return (_Diffusion if hasattr(part, "log_gradient") else _Field)(part, rows)
        if isinstance(part, Tensor) and part.ndim:
            return part[rows] if len(part) > 1 else part
        return part

    return Dirichlet(
        pick(problem.boundary),
        pick(problem.source),
        pick(problem.screening),
        pick(problem.diffusion),
        pick(problem.reduced),
        pick(problem.bound),
    )


def correct(
    predict: Predict,
    problems: Problems,
    points: Tensor,
    generator: torch.Generator,
    *,
    engine: WalkOnSpheres | None = None,
    control: bool = True,
) -> Estimate:
    """Return unbiased estimates of u at points, with the model as control variate.

    The model's gradient takes the noise of the first step out of every walk (Neural
    walk-on-spheres, arXiv 2406.03494); the value it gives does not enter, so its error does not
    either, up to the walks' O(eps).

    Args:
        predict: Differentiable in the points.
        problems: B problems.
        points: `(B, P, d)`.
        generator: Source of the walks.
        engine: By default 64 walks per point, to 2e-4 of the domain's size.
        control: Whether to walk for what a fitted polynomial leaves, as in `verify`.
    """
    engine = engine or WalkOnSpheres(walks=64, eps=2e-4)
    domain, problem = problems.domain, problems.problem
    psi = _polynomials(problems, generator) if control else None
    slope = None
    if problem.diffusion is None and not engine.antithetic:
        with torch.enable_grad():
            x = points.detach().clone().requires_grad_()
            left = predict(problems, x)
            if psi is not None:  # walks see what the polynomial leaves
                left = left - psi(*domain.columns(x)).view_as(left)
            (slope,) = torch.autograd.grad(left.sum(), x)
    return estimate(engine, domain, problem, points, generator, psi, slope)
