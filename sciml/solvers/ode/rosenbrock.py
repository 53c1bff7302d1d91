"""Stiff initial value problems du/dt = f(u) with tridiagonal Jacobians, one step size per problem.

RODAS: six linear systems with one matrix per step, no Newton iteration, order 4 with an embedded
solution of order 3, stiffly accurate and L-stable. In the variables k_i of Hairer and Wanner,

    (1 / (gamma h) - J) k_i = f(u + sum_j a_ij k_j) + sum_j (c_ij / h) k_j,   J = f'(u),

the new value is u + sum_j a_6j k_j + k_6 and k_6 the error estimate. Every problem of the batch has
its own time, step and status, so its answer does not depend on its neighbours; steps end at the
times that are asked for.

Source: Hairer and Wanner, Solving Ordinary Differential Equations II, section IV.7 (RODAS).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.arguments import text
from sciml.errors import InvalidArgument
from sciml.shapes import check_call, name_of
from sciml.solvers.algebra.tridiagonal import Tridiagonal
from sciml.solvers.bookkeeping import check_counts, check_numbers
from sciml.solvers.ode.ode_method import checked_times
from sciml.solvers.solution import Outcome, Policy, Solution, Status, check_policy, settle
from sciml.typed_arguments import typed

GAMMA = 0.25
A = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950, 1.0),
)
C = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (
        8.083246795921522,
        -7.981132988064893,
        -31.52159432874371,
        16.31930543123136,
        -6.058818238834054,
    ),
)
SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0
TINY = 1e-13  # shortest step, as a share of the whole time

Bands = tuple[Tensor, Tensor, Tensor]


@typed(on_failure=text)
def rosenbrock(
    field: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Bands],
    start: Tensor,
    times: Tensor,
    *,
    on_failure: Policy,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    first_step: float | None = None,
    max_steps: int = 10_000,
) -> Solution:
    """Integrate du/dt = field(u) from `start` through all `times`.

    Args:
        field: Returns du/dt `(B, n)`; must not mix problems.
        jacobian: Returns lower, main and upper diagonal of the Jacobian, each `(B, n)`, in the
            convention of `Tridiagonal`.
        start: u `(B, n)` at the first time.
        times: `(T,)`, strictly increasing.
        on_failure: See `sciml.solvers.root`; values of a failed problem are NaN from the first
            time on that it did not reach.
        rtol: Relative tolerance of every step, on the root mean square over the n unknowns.
        atol: Absolute tolerance.
        first_step: Length of the first step; None takes one in which u changes by about 1 %.
        max_steps: Most steps of a problem, rejected ones included.

    Returns:
        Value `(B, T, n)` (float64 in, float64 out; no gradient); `iterations`: steps taken;
        `residual`: largest error estimate of an accepted step over its tolerance, at most 1;
        `stats`: `rejected` `(B,)` steps.

    Raises:
        ConvergenceError: Under `raise`, if a problem met NaN, too short a step or `max_steps`.
        InvalidArgument: For shapes, times or tolerances that cannot be.

    Example:
        >>> import torch
        >>> from sciml.solvers import rosenbrock
        >>> rate = torch.tensor([[1.0, 1000.0]], dtype=torch.float64)  # du_i/dt = -rate_i u_i
        >>> bands = (torch.zeros_like(rate), -rate, torch.zeros_like(rate))
        >>> start, times = torch.ones_like(rate), torch.tensor([0.0, 1.0], dtype=torch.float64)
        >>> found = rosenbrock(
        ...     lambda u: -rate * u, lambda u: bands, start, times, on_failure="raise", rtol=1e-5
        ... )
        >>> [round(v, 4) for v in found.value[0, -1].tolist()]  # exp(-1), exp(-1000)
        [0.3679, 0.0]
    """
    check_policy(on_failure)
    for name, given in (("field", field), ("jacobian", jacobian)):
        check_call(f"'{name_of(given)}', the {name},", given, "(u)", start)
    check_numbers(rtol=rtol, atol=atol)
    check_counts(max_steps=max_steps)
    if start.dim() != 2:
        raise InvalidArgument(f"start of shape {tuple(start.shape)}", "(problems, unknowns)")
    if not (rtol >= 0 and atol >= 0 and 0 < rtol + atol < math.inf):
        raise InvalidArgument(
            f"rtol={rtol}, atol={atol}",
            "finite tolerances >= 0, one of them positive",
        )
    if max_steps < 1:
        raise InvalidArgument(f"max_steps={max_steps}", "at least 1")
    if first_step is not None and not 0 < first_step < math.inf:
        raise InvalidArgument(f"first_step={first_step}", "a positive number or None")
    times = checked_times(times, start.dtype, start.device)
    if bool(times[1] < times[0]):
        raise InvalidArgument(f"times from {float(times[0])} down", "increasing times")
    with torch.no_grad():
        outcome, rejected = _march(
            field, jacobian, start.detach(), times, rtol, atol, first_step, max_steps
        )
    settle(
        outcome,
        on_failure,
        "the implicit time integration",
        f"steps with an error within rtol={rtol:g} and atol={atol:g}",
        lambda: "Raise max_steps or the tolerances; on_failure='mask' or 'best' carries on",
    )
    stats = {"relative": outcome.relative, "evaluations": outcome.evaluations, "rejected": rejected}
    return Solution(outcome.value, outcome.status, outcome.iterations, outcome.residual, stats)


def _march(
    field: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Bands],
    u: Tensor,
    times: Tensor,
    rtol: float,
    atol: float,
    first_step: float | None,
    max_steps: int,
) -> tuple[Outcome, Tensor]:
    """Take steps until every problem has reached the last time or failed."""
    count, ends = len(u), len(times)
    values = torch.full((count, ends, u.shape[-1]), torch.nan, dtype=u.dtype, device=u.device)
    values[:, 0] = u
    rows = torch.arange(count, device=u.device)
    t, slot = times[0].expand(count).clone(), torch.ones(count, dtype=torch.long, device=u.device)
    status = torch.full((count,), int(Status.RUNNING), device=u.device)
    status = torch.where(u.isfinite().all(-1), status, int(Status.NONFINITE))
    span = times[-1] - times[0]
    rate = field(u)
    if first_step is None:
        speed = (rate / (u.abs() + (atol / rtol if rtol else 1.0))).square().mean(-1).sqrt()
        h = 0.01 / (speed + 1 / span)
    else:
        h = torch.full_like(t, first_step)
    steps, rejected = torch.zeros_like(slot), torch.zeros_like(slot)
    worst, calls = torch.zeros_like(t), 1
    while bool((status == Status.RUNNING).any()):
        active = status == Status.RUNNING
        end = times[slot.clamp(max=ends - 1)]
        # a step that would leave a sliver ends at the time, too
        lands = t + 1.001 * h >= end
        size = torch.where(lands, end - t, h)
        new, error = _step(field, jacobian, u, rate, size[:, None])
        calls += 5
        scale = atol + rtol * torch.maximum(u.abs(), new.abs())
        ratio = (error / scale).square().mean(-1).sqrt()
        sound = ratio.isfinite()
        accepted = active & sound & (ratio <= 1)
        u = torch.where(accepted[:, None], new, u)
        rate = torch.where(accepted[:, None], field(u), rate)
        calls += 1
        arrived = accepted & lands
        t = torch.where(arrived, end, torch.where(accepted, t + size, t))
        place = slot.clamp(max=ends - 1)
        values[rows, place] = torch.where(arrived[:, None], u, values[rows, place])
        slot = slot + arrived
        worst = torch.where(accepted, torch.maximum(worst, ratio), worst)
        factor = (SAFETY * ratio.clamp(min=1e-12) ** -0.25).clamp(SHRINK, GROW)
        factor = torch.where(sound, factor, SHRINK)
        # a step cut short to land says nothing against the longer one that was planned
        planned = torch.where(accepted & lands, torch.maximum(h, size * factor), size * factor)
        h = torch.where(active, planned, h)
        steps, rejected = steps + active, rejected + (active & ~accepted)
        short = active & ~arrived & (h < TINY * span)
        bad = torch.where(sound, int(Status.STALLED), int(Status.NONFINITE))
        status = torch.where(short, bad, status)
        status = torch.where(active & (slot == ends), int(Status.CONVERGED), status)
        late = (status == Status.RUNNING) & (steps >= max_steps)
        status = torch.where(late, int(Status.MAX_ITER), status)
    worst = torch.where(status == Status.CONVERGED, worst, torch.nan)
    return Outcome(values, status, steps, worst, worst, calls), rejected


def _step(
    field: Callable[[Tensor], Tensor],
    jacobian: Callable[[Tensor], Bands],
    u: Tensor,
    rate: Tensor,
    h: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the new value and the error estimate `(B, n)` of steps of sizes h `(B, 1)`."""
    lower, diagonal, upper = jacobian(u)
    matrix = Tridiagonal(-lower, 1 / (GAMMA * h) - diagonal, -upper)
    stages = [matrix.solve(rate)]
    for a, c in zip(A[1:], C[1:], strict=True):
        point, mixed = u, torch.zeros_like(u)
        for stage, in_point, in_mixed in zip(stages, a, c, strict=True):
            point = torch.add(point, stage, alpha=in_point)
            mixed.add_(stage, alpha=in_mixed)
        stages.append(matrix.solve(mixed.div_(h).add_(field(point))))
    return point + stages[-1], stages[-1]
