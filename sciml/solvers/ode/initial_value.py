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

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sciml.arguments import function, made, maybe, takes, tensor
from sciml.errors import (
    ConvergenceError,
    InvalidArgument,
    InvalidType,
    NumericalWarning,
    did_you_mean,
)
from sciml.shapes import check_call, name_of
from sciml.solvers.bookkeeping import check_counts, check_numbers
from sciml.solvers.compiler import uncompiled
from sciml.solvers.layout import Layout
from sciml.solvers.ode.embedded import StepFailure, embedded_path, step_estimates
from sciml.solvers.ode.ode_adjoint import adjoint_path
from sciml.solvers.ode.ode_field import Evaluations, Field
from sciml.solvers.pipeline import PARTS, flat_theta, layout_for
from sciml.solvers.solution import MEANING, Policy, Solution, Status, check_policy

Gradient = Literal["backprop", "checkpoint", "adjoint"]
GRADIENTS = ("backprop", "checkpoint", "adjoint")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")
# Their interpolants are of lower order than their steps, which must therefore end at the times;
# those of the others are as accurate as the steps.
LANDING = ("dopri8", "bosh3")
ONE_STEP = ("euler", "midpoint", "heun2", "heun3", "rk4")
MULTISTEP = ("explicit_adams", "implicit_adams")
RESOLVED = 1e-3  # largest round-off of a time, relative to the interval
ROUNDS = 4  # problems may fail one after the other; after this many solves all are given up


@dataclass(frozen=True)
class ODE:
    """How an initial value problem is integrated.

    Args:
        method: Adaptive `dopri5`, `dopri8`, `bosh3`, `adaptive_heun`, `fehlberg2`; with fixed
            steps `euler`, `midpoint`, `heun2`, `heun3`, `rk4`, `explicit_adams`, `implicit_adams`.
        rtol: Relative tolerance of adaptive methods, on the root mean square over the batch.
        atol: Absolute tolerance of adaptive methods.
        steps: Steps of fixed-step methods between two times.
        max_steps: Most steps of adaptive methods between two times.

    Fixed steps are not tested: where they are too long for the field (beyond the stability limit,
    2 / |eigenvalue| for `euler`) the result is finite, large and wrong, and counts as converged.
    Compare with twice the `steps`, or take an adaptive method.

    Raises:
        InvalidType: For numbers of the wrong type.
        InvalidArgument: For an unknown method, or numbers that cannot work.
    """

    method: str = "dopri5"
    rtol: float = 1e-3
    atol: float = 1e-3
    steps: int = 4
    max_steps: int = 1000

    def __post_init__(self) -> None:
        """Check the combination."""
        known = (*ADAPTIVE, *ONE_STEP, *MULTISTEP)
        if str(self.method) not in known:
            raise InvalidArgument(
                f"method={self.method!r}", "an integrator", did_you_mean(str(self.method), known)
            )
        check_numbers(rtol=self.rtol, atol=self.atol)
        if isinstance(self.rtol, Tensor) and self.rtol.numel() != 1:  # unlike that of other solvers
            raise InvalidType(f"rtol of shape {tuple(self.rtol.shape)}", "a real number")
        check_counts(steps=self.steps, max_steps=self.max_steps)
        fine = 0 <= self.rtol < 1 and 0 <= self.atol < math.inf  # NaN is neither
        if not fine or self.rtol + self.atol == 0:
            raise InvalidArgument(
                f"rtol={self.rtol}, atol={self.atol}",
                "finite tolerances >= 0, one of them positive, rtol below 1",
            )
        if self.steps < 1 or self.max_steps < 1:
            raise InvalidArgument(
                f"steps={self.steps}, max_steps={self.max_steps}", "at least 1 of each"
            )

    @property
    def adaptive(self) -> bool:
        """Return whether the method chooses its steps."""
        return self.method in ADAPTIVE

    def path(self, field: Callable, z: Any, times: Tensor) -> Any:
        """Return torchdiffeq's states `(T, *shape)` at the times; z may be a tuple."""
        from torchdiffeq import odeint

        if self.adaptive:
            options = {"max_num_steps": self.max_steps}
            if self.method in LANDING or times.requires_grad:  # an interpolant has its own slope
                options["step_t"] = times[1:].detach()
        else:
            options = {"grid_constructor": lambda f, z, t: _refined(t, self.steps)}
        settings = {"rtol": self.rtol, "atol": self.atol, "method": self.method}
        return odeint(field, z, times, options=options, **settings)


@takes(
    field=function,
    z0=tensor,
    ode=maybe(made("adaptive", what="a method, as ODE('dopri5')")),
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
    run = Field(bound, leaves, z0, layout, counts)
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


def checked_times(times: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return times as a tensor `(T,)`, with its graph if there is one.

    Raises:
        InvalidType: If they are no sequence of numbers.
        InvalidArgument: If there are fewer than two, or they are not finite and strictly
            increasing or decreasing in this dtype.
    """
    try:
        if not isinstance(times, Tensor) and any(isinstance(t, Tensor) for t in times):
            times = torch.stack([torch.as_tensor(t, dtype=dtype, device=device) for t in times])
        t = torch.as_tensor(times, dtype=dtype, device=device)
    except (TypeError, ValueError) as error:  # of texts, None, ragged lists
        raise InvalidType(
            f"times={times!r}", "a sequence of numbers", "Type times=(0.0, 1.0)"
        ) from error
    steps = t.detach().diff() if t.dim() == 1 else t.new_zeros(1)
    fine = t.isfinite().all() & ((steps > 0).all() | (steps < 0).all())
    if t.dim() != 1 or len(t) < 2 or not bool(fine):
        raise InvalidArgument(
            f"times={t.tolist()}",
            f"at least two finite numbers, strictly increasing or strictly decreasing in {dtype}",
            "Type times=(0.0, 1.0)",
        )
    return t


def check_resolved(t: Tensor, dtype: torch.dtype) -> None:
    """Refuse times whose round-off in the dtype of the state, as the field gets them, is too long.

    Raises:
        InvalidArgument: If it is more than `RESOLVED` of the time between the first and the last.
    """
    t = t.detach()
    unit, span = t.abs().max() * torch.finfo(dtype).eps, (t[-1] - t[0]).abs()
    if bool(unit > RESOLVED * span):
        raise InvalidArgument(
            f"times from {float(t[0]):.10g} to {float(t[-1]):.10g} with a state of {dtype}, which "
            f"rounds times there to {float(unit):.1e}",
            f"a round-off of at most {RESOLVED:g} of the interval",
            "Count times from the first one: times=(0.0, t1 - t0), and add t0 in the field as far "
            "as its terms need it; or type z0.double()",
        )


def check_gradient(ode: ODE, gradient: str, *, estimates: bool = False) -> None:
    """Refuse what does not go together, before anything is solved.

    Raises:
        InvalidArgument: With what does.
    """
    if gradient not in GRADIENTS:
        raise InvalidArgument(
            f"gradient={gradient!r}",
            f"one of {', '.join(GRADIENTS)}",
            "At a rest point take sciml.solvers.fixed_point with solver=ResidualFlow() (ift)",
        )
    if gradient == "checkpoint" and ode.method not in (*ONE_STEP, "dopri5"):
        raise InvalidArgument(
            f"gradient='checkpoint' with method={ode.method!r}",
            f"dopri5, or one of {', '.join(ONE_STEP)}: methods that start afresh in every step",
        )
    if estimates and (ode.method != "dopri5" or gradient == "adjoint"):
        raise InvalidArgument(
            f"estimates with method={ode.method!r} and gradient={gradient!r}",
            "method='dopri5' and gradient backprop or checkpoint",
            "With other methods estimate single steps: "
            "sciml.solvers.ode.initial_value.local_estimates",
        )


def _path(
    ode: ODE, run: Field, z0: Tensor, t: Tensor, gradient: str, estimates: bool
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


def _checkpointed(ode: ODE, run: Field, z0: Tensor, t: Tensor) -> Tensor:
    """Return the states at the times, keeping nothing but the state before each fixed step."""
    single = ODE(ode.method, steps=1)
    grid = _refined(t, ode.steps)
    states = [z0]
    for pair in grid.unfold(0, 2, 1):

        def step(z: Tensor, pair: Tensor = pair) -> Tensor:
            return single.path(run, z, pair)[-1].clone()  # a view would keep both states

        # captured tensors are found by autograd itself: the graph is made again in the backward
        states.append(checkpoint(step, states[-1], use_reentrant=False, preserve_rng_state=False))
    return torch.stack(states[:: ode.steps])


def _refined(t: Tensor, steps: int) -> Tensor:
    """Return the grid with `steps` steps between two times; the times themselves are exact."""
    share = torch.arange(steps, dtype=t.dtype, device=t.device) / steps
    inner = t[:-1, None] + (t[1:] - t[:-1])[:, None] * share
    return torch.cat([inner.flatten(), t[-1:]])


def _finite(path: Tensor, layout: Layout) -> Tensor:
    return layout.norm(path[-1].detach()).isfinite()


def _report(status: Tensor, policy: Policy, ode: ODE, run: Field) -> None:
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
    run = Field(bound, leaves, z, layout, Evaluations())
    now, size = (torch.as_tensor(v, dtype=z.dtype, device=z.device) for v in (t, h))
    return step_estimates(run, now, size, z)
