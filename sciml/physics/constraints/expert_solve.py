"""Solves the least-squares problems of all experts as one batch, P problems of N weights each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.physics.constraints.expert_rows import ExpertRows, detached
from sciml.solvers import least_squares
from sciml.solvers.nonlinear.linear_least_squares import solved
from sciml.solvers.nonlinear.pointwise_least_squares import PointwiseRows
from sciml.solvers.solution import Policy

RANK = 1e-10  # singular values below this share of the largest do not count


def picard_start(frozen: PointwiseRows, weights: Tensor, rows: ExpertRows, steps: int) -> Tensor:
    """Return the weights `(P, N)` after some steps of Picard's iteration, without graph.

    Args:
        frozen: Rows of the equation whose nonlinear factors are held at the last iterate.
        weights: Where the iteration begins.
        rows: What the rows are made from.
        steps: Iterations.
    """
    features, offsets, aux, *rest = detached(rows)
    with torch.no_grad():
        for _ in range(steps):
            at = [
                (t @ weights[..., None])[..., 0] + o for t, o in zip(features, offsets, strict=True)
            ]
            given = (features, offsets, [*at, *aux], *rest)
            jacobian = frozen.jacobian(weights, *given)
            step, *_ = solved(jacobian, -frozen.rows(weights, *given))
            weights = torch.where(step.isfinite(), weights + step, weights)
    return weights


def solve_experts(
    form: PointwiseRows,
    weights: Tensor,
    rows: ExpertRows,
    *,
    solver: Any,
    adjoint: Any,
    on_failure: Policy,
    rank: bool,
) -> tuple[Any, ...]:
    """Return weights `(P, N)`, status, iterations, residual, rank and adjoint of P problems.

    Args:
        form: The rows as a function of the weights, with Jacobian and Hessian.
        weights: Where the solver starts.
        rows: What the rows are made from.
        solver: Of least squares.
        adjoint: Derivative rule.
        on_failure: Policy of the solve.
        rank: Whether ranks are found as well; None stands for them otherwise.
    """
    solution = least_squares(
        form.rows,
        weights,
        rows,
        on_failure=on_failure,
        solver=solver,
        adjoint=adjoint,
        jacobian=form.jacobian,
        hessian=form.hessian,
        gradient=form.gradient,
    )
    with torch.no_grad():
        fixed, value = detached(rows), solution.value.detach()
        m = rows[0][0].shape[-2]
        residual = form.rows(value, *fixed)[..., :m].norm(dim=-1)
        ranks = None
        if rank:
            jacobian = form.jacobian(value, *fixed)
            jacobian = jacobian[..., : m + rows[4].shape[-2], :]  # the ridge hides the rank
            ranks = solved(jacobian, jacobian.new_zeros(jacobian.shape[:-1]), RANK)[2]
    found = (solution.value, solution.status, solution.iterations, residual, ranks)
    return *found, solution.adjoint
