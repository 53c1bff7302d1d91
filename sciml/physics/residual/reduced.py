"""Exact operators for networks that see x through known features only.

If `n = n(t, f_1(x), ..., f_m(x))` then with `G_ij = grad f_i . grad f_j`

    Lap n = sum_ij G_ij n_ij + sum_i Lap f_i n_i,

a second-order operator in feature space. Its m (m + 1) / 2 + 1 directions replace the d
directions in x: the Laplacian is exact, the estimator's noise and bias are gone, and the cost
beyond the features themselves does not depend on d. It is what `estimator=exact` computes from d
directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciml.autodiff.directions import DenseDirections, TimeDirection
from sciml.autodiff.seed import push
from sciml.physics.pde import PDE, Fields, Points
from sciml.physics.residual.residual_fields import derive_lift_terms, exact_gradient
from sciml.shapes import check_returned

if TYPE_CHECKING:
    from sciml.autodiff.differentiable import Differentiable


def reducible(problem: PDE, inputs: Sequence[str]) -> bool:
    """Return whether `evaluate_reduced` applies.

    It does where the network does not see x, the problem knows the derivatives of its features
    (`feature_terms`), its operator is the Laplacian, and the residual has no second derivative in
    time.
    """
    features = [name for name in inputs if name not in ("x", "t")]
    return (
        bool(features)
        and "x" not in inputs
        and hasattr(problem, "feature_terms")
        and type(problem).diffusion is PDE.diffusion
        and problem.order == 2
        and problem.time_order == 1
    )


def evaluate_reduced(trial: Any, p: Points) -> Fields:
    """Return u and its exact derivatives at the points.

    Args:
        trial: `TrialSolution` for which `reducible` holds. `problem.feature_terms(name, x)`
            returns the gradient `(N, d)` and the Laplacian `(N,)` of a feature.
        p: Points, N of them.
    """
    problem: PDE = trial.problem
    # parameters of the problem may stand in its lift and features
    trained = any(True for part in (trial.unknowns, trial.parts) for _ in part.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and (p.x.requires_grad or trained)):
        f = torch.cat([problem.feature(name, p.x, p.t) for name in trial.features], 1)
        known = [_feature_terms(problem, name, p.x) for name in trial.features]
        directions, weights = second_order([gradient for gradient, _ in known])
        laplacian = torch.stack([value for _, value in known], -1)
        terms = problem.lift_terms(p) or derive_lift_terms(problem, p)

    parts = [DenseDirections(directions), DenseDirections(laplacian[None])]
    if terms.direction is not None:
        c = terms.direction
        slope = c[:, None] * p.x if c.dim() == 1 else c
        parts.append(
            DenseDirections(torch.stack([(slope * g).sum(-1) for g, _ in known], -1)[None])
        )
    if problem.time_dependent:
        parts.append(TimeDirection())

    def network(y: Differentiable, t: Differentiable | None = None) -> Differentiable:
        return trial.network_of(None, t, y)

    jet = push(network, f, p.t, parts, weights, 2)
    n, first = jet.value[:, 0], jet.first[len(directions) :, :, 0]
    value, trace = terms.value * n, terms.value * (jet.top[:, 0] + first[0])
    if terms.direction is not None:
        trace = trace + 2 * first[1]
    dt = terms.value * first[-1] if problem.time_dependent else None
    value = _plus(value, terms.offset)
    trace = _plus(trace, None if terms.trace is None else terms.trace * n, terms.offset_trace)
    if dt is not None:
        dt = _plus(dt, None if terms.dt is None else terms.dt * n, terms.offset_dt)
    return Fields(value, trace, dt, gradient=lambda: exact_gradient(trial, p))


def _feature_terms(problem: PDE, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient `(N, d)` and Laplacian `(N,)` of a feature."""
    gradient, laplacian = problem.feature_terms(name, x)
    title = f"{type(problem).__name__}.feature_terms() of '{name}'"
    check_returned(title, gradient, tuple(x.shape), like=x, what="the gradient of the feature")
    check_returned(title, laplacian, (len(x),), like=x, what="the Laplacian of the feature")
    return gradient, laplacian


def _plus(total: Tensor, *terms: Tensor | None) -> Tensor:
    """Return the sum without the terms that are None."""
    return sum((term for term in terms if term is not None), total)


def second_order(gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return directions `(K, m)` and weights `(K, N)` of `sum_ij (grad f_i . grad f_j) d_i d_j`.

    Mixed derivatives by `2 d_i d_j = (d_i + d_j)^2 - d_i^2 - d_j^2`.

    Args:
        gradients: m tensors `(N, d)`.
    """
    m = len(gradients)
    gram = [[(a * b).sum(-1) for b in gradients] for a in gradients]
    unit = torch.eye(m, dtype=gradients[0].dtype, device=gradients[0].device)
    directions = [unit[i] for i in range(m)]
    weights = [2 * gram[i][i] - sum(gram[i]) for i in range(m)]
    for i in range(m):
        for j in range(i):
            directions.append(unit[i] + unit[j])
            weights.append(gram[i][j])
    return torch.stack(directions), torch.stack(weights)
