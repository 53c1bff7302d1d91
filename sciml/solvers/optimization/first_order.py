"""Projected and proximal gradient, and mirror descent on the simplex.

    projected    x = P(x - s grad f(x))
    proximal     x = prox_{s g}(x - s grad f(x))           minimises f + g
    mirror       x = x exp(-s grad f(x)) / sum(...)        minimises f on the simplex

Each is the fixed point of a map, so the derivative is that of `fixed_point`, of every order. It
holds where the map is smooth: strictly inside a piece of the set or of g (no entry exactly at a
threshold, no multiplier zero on the boundary).

Sources: Beck & Teboulle 2009, SIAM J. Imaging Sci. 2(1) (acceleration); O'Donoghue & Candès 2015,
Found. Comput. Math. 15 (restart); Beck & Teboulle 2003, Oper. Res. Lett. 31 (mirror descent).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.arguments import flag, function, maybe, number, numbers, takes, tensor, whole
from sciml.errors import InvalidArgument
from sciml.shapes import check_call, name_of
from sciml.solvers.layout import Layout
from sciml.solvers.optimization.first_order_steps import AcceleratedSteps, MultiplicativeSteps
from sciml.solvers.pipeline import solve_problem
from sciml.solvers.solution import Policy, Solution
from sciml.solvers.solve_arguments import PARTS, Adjoint, layout_for
from sciml.tensor_types import in_range

StepLength = float | Tensor | None
GIVEN = {"objective": function, "x0": tensor, "step": maybe(numbers), "rtol": maybe(number)}
GIVEN |= {"max_iter": whole, **PARTS}


@takes(prox=function, accelerate=flag, **GIVEN)
def proximal_gradient(
    objective: Callable[..., Tensor],
    prox: Callable[..., Tensor],
    x0: Tensor,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    step: StepLength = None,
    accelerate: bool = True,
    rtol: float | None = None,
    max_iter: int = 5000,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
) -> Solution:
    """Minimise `objective(x, *theta) + g(x, *theta)`, g given by its proximal map.

    The value is an output of `prox`, so constraints hold exactly. A problem is converged once
    `|x - T(x)| <= rtol |T(x)|` for the map T above.

    Args:
        objective: f, smooth; one number per problem, as for `minimise`.
        prox: `prox(v, step, *theta)`, the prox of `step g`; shape of v. `step` broadcasts to v.
        x0: First iterate, `(B, n)` or as `layout` says.
        theta: Further arguments of both, see `sciml.solvers.entry_points`.
        on_failure: As in `root`.
        step: Number or `(*P)`, at most 1 / L with L the Lipschitz constant of grad f; None
            estimates L at x0 by 20 products with the Hessian. Steps that turn out too long on the
            way are halved, per problem.
        accelerate: Whether to extrapolate, with restart where that does not help.
        rtol: Relative tolerance; None takes 1e-10 in float64, 1e-5 below.
        max_iter: Largest number of iterations.
        adjoint: Derivative rule, by default `Implicit()`.
        layout: As in `root`.

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.
        InvalidArgument: If shapes do not fit or the step is not positive.

    Example:
        lasso = proximal_gradient(
            lambda x, y: 0.5 * (x @ a.T - y).square().sum(-1),
            lambda v, step, y: soft_threshold(v, 0.1 * step),
            torch.zeros(1, 8), (y,), on_failure="raise",
        )

    Example:
        >>> import torch
        >>> from sciml.solvers import project_nonnegative, proximal_gradient
        >>> goal = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
        >>> found = proximal_gradient(
        ...     lambda x: (x - goal).square().sum(-1) / 2,
        ...     lambda v, step: project_nonnegative(v),
        ...     torch.zeros_like(goal),
        ...     on_failure="raise",
        ... )
        >>> [round(v, 6) for v in found.value[0].tolist()]
        [1.0, 0.0]
    """
    layout = _checked(objective, x0, theta, layout)
    check_call(f"'{name_of(prox)}', the proximal map,", prox, "(v, step, *theta)", x0, step, *theta)

    def image(x: Tensor, step: Tensor, *theta: Any) -> Tensor:
        wide = layout.spread(step, x)
        return prox(x - wide * _slope(objective, x, theta, layout), wide, *theta)

    step = _step_for(objective, x0, theta, layout, step)
    solver = AcceleratedSteps(rtol=rtol, max_iter=max_iter, accelerate=accelerate)
    tags = {"symmetric": False, "positive_definite": False}
    return solve_problem(
        "fixed_point", image, x0, (step, *theta), on_failure, solver, adjoint, layout, tags
    )


@takes(projection=function, accelerate=flag, **GIVEN)
def projected_gradient(
    objective: Callable[..., Tensor],
    projection: Callable[..., Tensor],
    x0: Tensor,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    step: StepLength = None,
    accelerate: bool = True,
    rtol: float | None = None,
    max_iter: int = 5000,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
) -> Solution:
    """Minimise `objective(x, *theta)` on a convex set.

    Args:
        objective: As in `proximal_gradient`, as are all arguments not named here.
        projection: `projection(v, *theta)`, the nearest point of the set, for example
            `lambda v, *theta: project_simplex(v)`.
        x0: First iterate; it need not lie in the set.
        theta: Further arguments of both.
        on_failure: As in `root`.
        step: As there.
        accelerate: As there.
        rtol: As there.
        max_iter: As there.
        adjoint: As there.
        layout: As in `root`.

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.
        InvalidArgument: If shapes do not fit or the step is not positive.

    Example:
        >>> import torch
        >>> from sciml.solvers import project_box, projected_gradient
        >>> found = projected_gradient(
        ...     lambda x: (x - 2.0).square().sum(-1), lambda x: project_box(x, 0.0, 1.0),
        ...     torch.zeros(1, 2), on_failure="raise",
        ... )
        >>> [round(v, 3) for v in found.value[0].tolist()]
        [1.0, 1.0]
    """

    def prox(v: Tensor, step: Tensor, *theta: Any) -> Tensor:
        return projection(v, *theta)

    return proximal_gradient(
        objective,
        prox,
        x0,
        theta,
        on_failure=on_failure,
        step=step,
        accelerate=accelerate,
        rtol=rtol,
        max_iter=max_iter,
        adjoint=adjoint,
        layout=layout,
    )


@takes(**GIVEN)
def mirror_descent(
    objective: Callable[..., Tensor],
    x0: Tensor,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    step: StepLength = None,
    rtol: float | None = None,
    max_iter: int = 5000,
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
) -> Solution:
    """Minimise `objective(x, *theta)` on the simplex by multiplicative steps (relative entropy).

    Entries stay positive and sum to 1 over the last axis. The residual is the largest relative
    growth of an entry in one step, `max_i T(x)_i / x_i - 1`: the step times the gap
    `<grad f, x> - min_i grad_i f`, which bounds f(x) - min f where f is convex.

    Args:
        objective: As in `proximal_gradient`, as are all arguments not named here.
        x0: First iterate `(*P, n)`, positive, summing to 1; entries of zero would stay zero.
        theta: Further arguments.
        on_failure: As in `root`.
        step: As there; 1 / L is safe, since relative entropy grows faster than half a square.
        rtol: Tolerance on the residual; None takes 1e-10 in float64, 1e-5 below.
        max_iter: Largest number of iterations.
        adjoint: As there.
        layout: As in `root`.

    Raises:
        ConvergenceError: Under `raise`, if a problem was not solved.
        InvalidArgument: If `x0` is not inside the simplex.

    Example:
        >>> import torch
        >>> from sciml.solvers import mirror_descent
        >>> cost, start = torch.tensor([0.0, 1.0]), torch.full((1, 2), 0.5)
        >>> found = mirror_descent(lambda x: (x - cost).square().sum(-1), start, on_failure="raise")
        >>> [round(v, 2) for v in found.value[0].tolist()]  # on the simplex
        [0.0, 1.0]
    """
    layout = _checked(objective, x0, theta, layout)
    start = x0.detach()
    if x0.dim() <= getattr(layout, "ndim", x0.dim()):
        raise InvalidArgument(f"x0 of shape {tuple(x0.shape)}", "(*P, n), n entries of a simplex")
    _need_inside(start)

    def image(x: Tensor, step: Tensor, *theta: Any) -> Tensor:
        slope = _slope(objective, x, theta, layout)
        lowest = slope.amin(-1, keepdim=True).detach()  # cancels in the quotient
        grown = x * torch.exp(-layout.spread(step, x) * (slope - lowest))
        return grown / grown.sum(-1, keepdim=True)

    step = _step_for(objective, x0, theta, layout, step)
    solver = MultiplicativeSteps(rtol=rtol, max_iter=max_iter)
    tags = {"symmetric": False, "positive_definite": False}
    return solve_problem(
        "fixed_point", image, x0, (step, *theta), on_failure, solver, adjoint, layout, tags
    )


def _slope(objective: Callable, x: Tensor, theta: Sequence[Any], layout: Layout) -> Tensor:
    """Return the gradient in x, differentiable under every transform."""

    def total(y: Tensor) -> Tensor:
        values = objective(y, *theta)
        if values.shape != layout.problems(y):
            raise InvalidArgument(
                f"an objective of shape {tuple(values.shape)} for unknowns {tuple(y.shape)}",
                f"one number per problem, {tuple(layout.problems(y))}",
                "Sum over the unknowns of a problem and over nothing else",
            )
        return values.sum()

    return torch.func.grad(total)(x)


def _step_for(
    objective: Callable, x0: Tensor, theta: Sequence[Any], layout: Layout, step: StepLength
) -> Tensor:
    """Return the step `(*P)`: what was given, or 1 / 1.1 L by power iteration at `x0`."""
    shape = layout.problems(x0)
    if step is not None:
        if isinstance(step, Tensor):
            if step.shape not in (shape, torch.Size()):
                raise InvalidArgument(
                    f"step of shape {tuple(step.shape)}", f"a number, or {tuple(shape)}"
                )
            return step.detach().to(x0.dtype).expand(shape)
        if not 0 < step < float("inf"):
            raise InvalidArgument(f"step={step}", "a positive number, at most 1 / L")
        return x0.new_full(shape, in_range("step", step, x0))
    x0 = x0.detach()
    with torch.autocast(x0.device.type, enabled=False):
        pull = torch.func.vjp(lambda y: _slope(objective, y, theta, layout), x0)[1]
        # fixed, so that results do not depend on a random stream
        v = torch.cos(1.0 + 2.3 * torch.arange(x0.numel(), dtype=x0.dtype, device=x0.device) ** 1.5)
        v, size = v.reshape(x0.shape), torch.ones_like(layout.norm(x0))
        for _ in range(20):
            size = layout.norm(v)
            v = pull(v / layout.spread(torch.where(size > 0, size, 1.0), v))[0].detach()
        size = layout.norm(v)
        good = (size > 0) & size.isfinite()
        return torch.where(good, 1 / (1.1 * torch.where(good, size, 1.0)), 1.0).detach()


def _checked(
    objective: Callable, x0: Tensor, theta: Sequence[Any], layout: Layout | None
) -> Layout:
    name = f"'{name_of(objective)}', the objective,"
    check_call(name, objective, "(x, *theta)", x0, *theta)
    return layout_for(x0, layout)


def _need_inside(x: Tensor) -> None:
    """Refuse a start outside the simplex; under `vmap` nothing can be looked at."""
    if torch._C._functorch.is_batchedtensor(x) or not x.numel():
        return
    off = (x.sum(-1) - 1).abs() > 1e3 * torch.finfo(x.dtype).eps
    if bool((x <= 0).any() | off.any()):
        raise InvalidArgument(
            "x0 outside the simplex or on its boundary",
            "positive entries that sum to 1 over the last axis",
            "Type x0=torch.full((B, n), 1 / n)",
        )
