"""Initial value problems: torchdiffeq's integrators with counted evaluations and checked failures.

    solution = integrate(field, z0, (x,), on_failure="raise", gradient="adjoint")

solves dz/dt = field(t, z, *theta) for a batch; `theta` as in `sciml.solvers.entry_points`. The
whole batch is one ODE: it shares its steps, so with an adaptive method the error of one problem
depends on the others in the batch. Four ways to the gradient in z0, in theta and in what the field
captures:

    backprop     through the steps; memory grows with the number of evaluations
    checkpoint   the same gradient, each step evaluated twice; memory of one step and all states
    adjoint      the adjoint ODE solved backwards, memory of one evaluation; inexact where the flow
                 contracts, since it retraces the state (`sciml.solvers.ode.ode_adjoint`)
    ift          at a rest point, no trajectory at all: `fixed_point` with a solver of
                 `sciml.solvers.nonlinear.equilibrium_flows`

Under autocast the field runs in half precision and the state stays in float32.

Sources: Chen et al. 2018, arXiv 1806.07366 (adjoint); torchdiffeq 0.2.5 (integrators).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sciml.arguments import made, maybe, text
from sciml.errors import ConvergenceError, NumericalWarning
from sciml.shapes import check_call, name_of
from sciml.solvers.compiler import uncompiled
from sciml.solvers.layout import Layout
from sciml.solvers.ode.embedded import StepFailure, embedded_path, step_estimates
from sciml.solvers.ode.ode_adjoint import adjoint_path
from sciml.solvers.ode.ode_field import Evaluations, ODEField
from sciml.solvers.ode.ode_method import (
    ODE,
    Gradient,
    check_gradient,
    check_resolved,
    checked_times,
    refined,
)
from sciml.solvers.solution import MEANING, Policy, Solution, Status, check_policy
from sciml.solvers.solve_arguments import PARTS, flat_theta, layout_for
from sciml.typed_arguments import typed

ROUNDS = 4  # problems may fail one after the other; after this many solves all are given up


@typed(
    ode=maybe(made("adaptive", what="a method, as ODE('dopri5')")),
    gradient=text,  # `check_gradient` and `checked_times` know more
    times=None,
    **PARTS,
)
def integrate(
    field: Callable[..., Tensor],
    z0: Tensor,
    theta: Sequence[Any] = (),
    *,
    on_failure: Policy,
    ode: ODE | None = None,
    gradient: Gradient = "backprop",
    times: Sequence[float] = (0.0, 1.0),
    estimates: bool = False,
    layout: Layout | None = None,
) -> Solution:
    """Integrate `dz/dt = field(t, z, *theta)` from `z0` through all `times`.

    Args:
        field: Returns the shape of z and does not mix problems; must be one function during the
            solve (freeze dropout masks and batch statistics before it).
        z0: State at the first time `(B, ...)`; gets a gradient.
        theta: Further arguments: tensors, or dicts, lists and tuples of them.
        on_failure: `raise`; or leave failed problems at `z0` without gradient and solve the others
            again, saying so (`warn`) or not (`mask`, `best`).
        ode: Method and tolerances, by default `ODE()`.
        gradient: See the module's text.
        times: At least two, finite, strictly increasing or decreasing; a tensor gets a gradient.
        estimates: Whether to estimate errors and stiffness (dopri5, not `adjoint`).
        layout: How z splits into problems, by default `Rows(1)`.

    Returns:
        Value at the last time; converged is what is finite there, with adaptive methods within the
        tolerances of every step, with fixed steps untested (see `ODE`). `iterations` is the number
        of steps and `residual` NaN unless estimated: then the sum of the steps' error norms.
        `stats`: `path` `(T, *shape)`, `evaluations`, an `Evaluations` whose `backward` grows in
        the backward pass, and with estimates `error` and `stiffness` `(*P)`, see
        `sciml.solvers.ode.embedded`.

    Raises:
        ConvergenceError: Under `raise`, if a problem failed.
        InvalidType: If times are no numbers.
        InvalidArgument: For combinations that do not work, times out of order, or times that the
            state's dtype, in which the field gets them, cannot tell apart.

    Example:
        >>> import torch
        >>> from sciml.solvers import integrate
        >>> z0 = torch.ones(1, 1, dtype=torch.float64)
        >>> found = integrate(lambda t, z: -z, z0, times=(0.0, 1.0), on_failure="raise")
        >>> round(found.value.item(), 2)  # exp(-1)
        0.37
    """
    ode = ode or ODE()
    check_policy(on_failure)
    check_call(f"'{name_of(field)}', the field,", field, "(t, z, *theta)", 0.0, z0, *theta)
    check_gradient(ode, gradient, estimates=estimates)
    layout = layout_for(z0, layout)
    return _solved(field, z0, theta, on_failure, ode, gradient, times, estimates, layout)


@uncompiled
def _solved(
    field: Callable[..., Tensor],
    z0: Tensor,
    theta: Sequence[Any],
    on_failure: Policy,
    ode: ODE,
    gradient: str,
    times: Sequence[float],
    estimates: bool,
    layout: Layout,
) -> Solution:
    """Solve, again without the problems that failed; arguments as in `integrate`."""
    bound, leaves = flat_theta(lambda at, *rest: field(*at, *rest), theta)
    z0 = z0.float() if z0.dtype in (torch.float16, torch.bfloat16) else z0
    t = checked_times(times, torch.float64 if ode.adaptive else z0.dtype, z0.device)
    check_resolved(t, z0.dtype)
    counts = Evaluations()
    status = torch.full(layout.problems(z0), Status.CONVERGED, device=z0.device)
    extra: dict[str, Tensor] = {}
    run = ODEField(bound, leaves, z0, layout, counts)
    if not z0.numel():  # no error to choose steps by; the field is asked once, for its graph
        rest = z0 + 0 * run(t[0].to(z0.dtype), z0)
        run.finish()
        nothing = torch.zeros_like(status, dtype=z0.dtype)
        extra = dict.fromkeys(("error", "stiffness"), nothing) if estimates else {}
        stats = {"path": rest.expand(len(t), *rest.shape), "evaluations": counts, **extra}
        return Solution(rest, status, torch.zeros_like(status), nothing, stats)
    for attempt in range(ROUNDS):
        run.watch(t[0], adaptive=ode.adaptive)
        # a problem given up rests at 0: one that begins with NaN would spoil the shared error norm
        z = z0 if run.frozen is None else torch.where(layout.spread(run.frozen, z0), 0.0, z0)
        try:
            path, extra = _path(ode, run, z, t, gradient, estimates)
            bad, cause = ~_finite(path, layout), Status.NONFINITE
        except (AssertionError, StepFailure) as error:
            bad, cause = run.blame(error)
        bad = bad & (status == Status.CONVERGED)
        if not bool(bad.any()):
            break
        bad = bad | (status == Status.CONVERGED) if attempt == ROUNDS - 1 else bad
        status = torch.where(bad, int(cause), status)
        _report(status, on_failure, ode, run)
        run.freeze(status != Status.CONVERGED)
        if bool(run.frozen.all()):
            nothing = torch.zeros_like(status, dtype=z0.dtype)
            extra = dict.fromkeys(("error", "stiffness"), nothing) if estimates else {}
            path = z0.expand(len(t), *z0.shape)
            break
    run.finish()
    if run.frozen is not None:
        path = torch.where(layout.spread(run.frozen, z0), run.start, path)
    residual = extra.pop("residual", None)
    if residual is None:
        residual = torch.full(status.shape, torch.nan, dtype=z0.dtype, device=z0.device)
    steps = torch.full_like(status, counts.steps)
    stats = {"path": path, "evaluations": counts, **extra}
    return Solution(path[-1], status, steps, residual, stats)


def _path(
    ode: ODE, run: ODEField, z0: Tensor, t: Tensor, gradient: str, estimates: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the states at the times, and estimates."""
    recording = torch.is_grad_enabled()
    if estimates or (gradient == "checkpoint" and ode.adaptive and recording):
        return embedded_path(ode, run, z0, t, checkpointed=gradient == "checkpoint" and recording)
    if gradient == "adjoint" and recording:
        return adjoint_path(ode, run, z0, t), {}
    if gradient == "checkpoint" and recording:
        return _checkpointed(ode, run, z0, t), {}
    return ode.path(run, z0, t), {}


def _checkpointed(ode: ODE, run: ODEField, z0: Tensor, t: Tensor) -> Tensor:
    """Return the states at the times, keeping nothing but the state before each fixed step."""
    single = ODE(ode.method, steps=1)
    grid = refined(t, ode.steps)
    states = [z0]
    for pair in grid.unfold(0, 2, 1):

        def step(z: Tensor, pair: Tensor = pair) -> Tensor:
            return single.path(run, z, pair)[-1].clone()  # a view would keep both states

        # captured tensors are found by autograd itself: the graph is made again in the backward
        states.append(checkpoint(step, states[-1], use_reentrant=False, preserve_rng_state=False))
    return torch.stack(states[:: ode.steps])


def _finite(path: Tensor, layout: Layout) -> Tensor:
    return layout.norm(path[-1].detach()).isfinite()


def _report(status: Tensor, policy: Policy, ode: ODE, run: ODEField) -> None:
    """Raise or warn about failed problems."""
    if policy == "warn":
        # constant text: Python's own filter then shows it once
        warnings.warn(
            "an ODE solve failed for some problems, which stay at their start without gradient; "
            "Solution.status says which. on_failure='raise' stops there",
            NumericalWarning,
            stacklevel=3,
        )
    if policy != "raise":
        return
    failed = (status != Status.CONVERGED).flatten()
    causes = ", ".join(MEANING.get(Status(int(s)), "") for s in status.flatten()[failed].unique())
    which = failed.nonzero()[:, 0].tolist()
    names = ", ".join(map(str, which[:5])) + (", ..." if len(which) > 5 else "")
    raise ConvergenceError(
        f"the ODE solve by {ode.method} failed {run.where()} for problem {names} of {len(failed)} "
        f"({causes}{run.speeds(status != Status.CONVERGED)})",
        "a field that stays bounded and smooth along the flow",
        "Type solver=rk4 (fixed steps), larger solver.rtol and solver.atol, or end the field with "
        "a normalisation or tanh; on_failure='mask' goes on without these problems",
    )


def local_estimates(
    field: Callable[..., Tensor],
    t: float,
    h: float,
    z: Tensor,
    theta: Sequence[Any] = (),
    *,
    layout: Layout | None = None,
) -> tuple[Tensor, Tensor]:
    """Return error norm times size, and stiffness, `(*P)`, of one Dormand-Prince step.

    Differentiable in z, theta and what the field captures, whatever method found z. Arguments as
    in `integrate`; see `sciml.solvers.ode.embedded`.
    """
    layout = layout_for(z, layout)
    bound, leaves = flat_theta(lambda at, *rest: field(*at, *rest), theta)
    run = ODEField(bound, leaves, z, layout, Evaluations())
    now, size = (torch.as_tensor(v, dtype=z.dtype, device=z.device) for v in (t, h))
    return step_estimates(run, now, size, z)
