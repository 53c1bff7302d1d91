"""From a trial solution and a draw of directions to the fields a residual needs.

For `u = A n + B` and a second-order operator L = sum_j a_j d_j^2 the product rule gives

    L u = A Ln + 2 (a grad A) . grad n + n LA + LB,

so only Ln is estimated: everything that belongs to the hard constraint is exact. One forward
pass carries the sampled directions, the time direction and the direction a grad A together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sciml.autodiff.directions import (
    DenseDirections,
    Directions,
    RadialDirection,
    SparseDirections,
    TimeDirection,
)
from sciml.autodiff.draws import DifferentialOperator, Draw
from sciml.autodiff.seed import push
from sciml.errors import InvalidArgument
from sciml.physics.pde import PDE, Factor, Fields, LiftTerms, Points

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


def operator_of(problem: PDE, p: Points) -> DifferentialOperator:
    """Return the second- or fourth-order operator of a problem at the given points."""
    weights = problem.diffusion(p)
    if isinstance(weights, Factor):
        return DifferentialOperator(problem.dim, problem.order, sigma=weights.sigma)
    return DifferentialOperator(problem.dim, problem.order, weights=weights)


def evaluate(
    trial: Any,
    p: Points,
    draw: Draw | None,
    reference: Draw | None = None,
    *,
    closed_form: bool = True,
    gradient: str = "exact",
    chunk: int | None = None,
) -> Fields:
    """Return u and its derivatives at the points.

    Args:
        trial: `TrialSolution`, or anything with `problem`, `raw(x, t)` and `__call__(x, t)`.
        p: Points, N of them.
        draw: Directions whose weighted sum estimates the operator; None leaves `trace` out.
        reference: Directions that supply the value of the trace without graph, while `draw`
            supplies its gradient (SDGD algorithms 1 and 2).
        closed_form: Whether the terms of the hard constraint are exact, or sampled with the
            network as in the published code.
        gradient: `exact` by one reverse pass, or `sampled`: `Fields.grad` then holds the drawn
            components scaled by `sqrt(w_k)`, so that its squared norm is unbiased and no reverse
            pass is needed.
        chunk: Directions held in memory at a time; the backward pass recomputes each chunk.
    """
    problem: PDE = trial.problem
    if problem.order == 4 or not closed_form:
        fields = _through_jets(trial, p, draw, reference, chunk)
    else:
        fields = _closed_form(trial, p, draw, reference, chunk)
    if problem.time_order == 2:
        fields.dtt = push(trial, p.x, p.t, [TimeDirection()], order=2).top[0, :, 0]
    if gradient == "sampled" and draw is not None:
        fields._gradient = lambda: _sampled_gradient(trial, p, draw)
    else:
        fields._gradient = lambda: exact_gradient(trial, p)
    return fields


def _closed_form(
    trial: Any, p: Points, draw: Draw | None, reference: Draw | None, chunk: int | None
) -> Fields:
    problem: PDE = trial.problem
    terms = problem.lift_terms(p) or derive_lift_terms(problem, p)
    extra: list[Directions] = [TimeDirection()] if problem.time_dependent else []
    if terms.direction is not None and draw is not None:
        radial = terms.direction.dim() == 1
        extra.append(RadialDirection() if radial else DenseDirections(terms.direction[None]))
    n, dn, top = _network(trial.raw, p, problem, draw, reference, extra, chunk)

    value = terms.value * n
    trace = None
    if draw is not None:
        trace = terms.value * top
        if terms.trace is not None:
            trace = trace + terms.trace * n
        if terms.direction is not None:
            along = dn[-1] * terms.direction if terms.direction.dim() == 1 else dn[-1]
            trace = trace + 2 * along
        if terms.offset_trace is not None:
            trace = trace + terms.offset_trace
    dt = None
    if problem.time_dependent:
        dt = terms.value * dn[0]
        if terms.dt is not None:
            dt = dt + terms.dt * n
        if terms.offset_dt is not None:
            dt = dt + terms.offset_dt
    if terms.offset is not None:
        value = value + terms.offset
    return Fields(value, trace, dt)


def _through_jets(
    trial: Any, p: Points, draw: Draw | None, reference: Draw | None, chunk: int | None
) -> Fields:
    problem: PDE = trial.problem
    extra: list[Directions] = [TimeDirection()] if problem.time_dependent else []
    n, dn, top = _network(trial, p, problem, draw, reference, extra, chunk)
    return Fields(n, top, dn[0] if extra else None)


def _network(
    function: Callable[..., Any],
    p: Points,
    problem: PDE,
    draw: Draw | None,
    reference: Draw | None,
    extra: list[Directions],
    chunk: int | None,
) -> tuple[Tensor, Sequence[Tensor], Tensor | None]:
    """Return value `(N,)`, first derivatives along `extra`, and the estimated operator `(N,)`."""
    order = problem.order
    laplacian = float(operator_of(problem, p).is_laplacian)
    chunks = [] if draw is None else draw.chunk(chunk)

    def run(
        part: Draw | None, rows: list[Directions], count: int = 1
    ) -> tuple[Tensor, Sequence[Tensor], Tensor | None]:
        parts = rows if part is None else [part.part, *rows]
        if not parts:
            return function(p.x, p.t)[:, 0] if p.t is not None else function(p.x)[:, 0], [], None
        weights = None if part is None else part.weights
        level = 1 if part is None else order
        jet = push(function, p.x, p.t, parts, weights, level, laplacian=laplacian / count)
        first = jet.first[-len(rows) :, :, 0].unbind(0) if rows else []
        return jet.value[:, 0], first, None if part is None else jet.top[:, 0]

    if len(chunks) <= 1:
        value, first, top = run(chunks[0] if chunks else None, extra)
    else:
        value, first, _ = run(None, extra)
        n = len(chunks)
        tops = [checkpoint(lambda c=c: run(c, [], n)[2], use_reentrant=False) for c in chunks]
        top = torch.stack(tops).sum(0)
    if reference is not None:
        with torch.no_grad():
            pieces = reference.chunk(chunk or 1024)
            supplied = sum(run(c, [], len(pieces))[2] for c in pieces)
            shift = supplied - top
        top = top + shift
    return value, first, top


def exact_gradient(trial: Any, p: Points) -> Tensor:
    """Return the space gradient of u `(N, d)` by one reverse pass, differentiable if needed.

    Raises:
        InvalidArgument: Under `torch.inference_mode`, where no gradient exists.
    """
    if torch.is_inference_mode_enabled():
        raise InvalidArgument(
            "a residual with an exact gradient under inference mode",
            "gradients to be available",
            "Set trainer.inference_mode=false (the default config does)",
        )
    create = torch.is_grad_enabled()
    with torch.enable_grad():
        x = p.x if p.x.requires_grad else p.x.detach().requires_grad_()
        u = trial(x, p.t) if p.t is not None else trial(x)
        (grad,) = torch.autograd.grad(u.sum(), x, create_graph=create)
    return grad


def _sampled_gradient(trial: Any, p: Points, draw: Draw) -> Tensor:
    """Return `sqrt(w_k) d_k u` `(N, K)`: its squared norm is unbiased for |grad u|^2."""
    jet = push(trial, p.x, p.t, [draw.part], order=1)
    root = draw.weights.sqrt()
    return jet.first[:, :, 0].t() * (root if root.dim() == 1 else root.t())


def derive_lift_terms(problem: PDE, p: Points) -> LiftTerms:
    """Return what the product rule needs of the hard constraint, by jets over all dimensions."""
    a, b = problem.lift(p.x, p.t)
    if a is None and b is None:
        return LiftTerms(value=torch.ones_like(p.x[:, 0]))
    operator = operator_of(problem, p)
    if operator.sigma is not None and a is not None:
        raise InvalidArgument(
            f"{type(problem).__name__} has a hard constraint and a full diffusion matrix",
            "lift_terms() in closed form",
            "Define lift_terms, or train with module.closed_form=false",
        )
    every = operator.exact(p.x)
    parts = [every.part, TimeDirection()] if problem.time_dependent else [every.part]

    def derivatives(which: int) -> tuple[Tensor, Tensor, Tensor]:
        def function(x: Differentiable, t: Differentiable | None = None) -> Differentiable | None:
            return problem.lift(x, t)[which]

        full = push(function, p.x, p.t, parts, every.weights)
        return full.value[:, 0], full.first[..., 0], full.top[:, 0]

    one = torch.ones_like(p.x[:, 0])
    value, first, trace = (one, None, None) if a is None else derivatives(0)
    terms = LiftTerms(value=value.expand_as(one), trace=trace)
    if first is not None:
        grad = first[: p.x.shape[1]].t()
        terms.direction = grad if operator.weights is None else grad * operator.weights
        terms.dt = first[-1] if problem.time_dependent else None
    if b is not None:
        value, first, terms.offset_trace = derivatives(1)
        terms.offset = value.expand_as(one)
        terms.offset_dt = first[-1] if problem.time_dependent else None
    return terms


def second_derivatives(trial: Any, p: Points, index: Tensor) -> Tensor:
    """Return d_j^2 u `(K, N)` of the network at coordinates `index` `(K,)`, without graph."""
    with torch.no_grad():
        return push(trial.raw, p.x, p.t, [SparseDirections(index)], order=2).top[..., 0]
