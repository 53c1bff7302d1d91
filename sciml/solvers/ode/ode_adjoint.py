"""The continuous adjoint: gradients of an ODE solution from a second ODE, solved backwards.

With a(t) = dL/dz(t) and F the field,

    da/dt = -a^T dF/dz,    dL/dw = int a^T dF/dw dt,    dL/dz0 = a(0),

for every tensor w the field depends on: those in theta, and all it captures, which are found in
the graph of one evaluation; a tensor computed from parameters outside the field (a closure over
encoded features) is followed to these parameters, in every evaluation: right, but pass it in theta.
A time that gets a gradient moves its own state; the first one moves all later ones:

    dL/dt_i = (dL/dz_i)^T F(t_i, z_i),    dL/dt_0 = -a(0)^T F(t_0, z_0),    a(0) without dL/dz0.

The adjoint is linear in a, so a is scaled to unit root mean square before it meets absolute
tolerances: gradients do not lose digits because a loss is a mean over many samples.

The state is retraced backwards in time, which is ill-posed where the flow contracts, as flows
to an equilibrium do. The miss at the earlier time is measured and a large one is warned about.

Departure from torchdiffeq's own adjoint: captured tensors, the scaling, the check of the retraced
state, and a refusal of second derivatives, which would silently be wrong.

Source: Chen et al. 2018, arXiv 1806.07366, appendix B.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from sciml.errors import ConvergenceError, InvalidArgument, NumericalWarning
from sciml.solvers.ode.embedded import StepFailure
from sciml.solvers.ode.ode_field import ODEField

DRIFT = 0.05  # relative miss of the retraced state that is warned about


def adjoint_path(ode: Any, run: ODEField, z0: Tensor, t: Tensor) -> Tensor:
    """Return the states at the times `(T, *shape)`, differentiable once."""
    hidden = captured(run, z0, t[0])
    return _Adjoint.apply(ode, run, len(run.leaves), t, z0, *run.leaves, *hidden)


def captured(run: ODEField, z0: Tensor, t: Tensor) -> list[Tensor]:
    """Return the leaf tensors the field depends on besides its arguments."""
    before = run.counts.forward
    with torch.enable_grad():
        z = z0.detach().requires_grad_()
        leaves = _local(run.leaves)
        y = run.at(t.to(z0.dtype), z, leaves)
    run.counts.forward = before  # no evaluation of the solve
    own = {id(z), *map(id, leaves)}
    seen, found, stack = set(), {}, [y.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in own:
            found[id(leaf)] = leaf
        stack.extend(parent for parent, _ in node.next_functions)
    return list(found.values())


def _local(leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return copies that start a graph of their own."""
    return tuple(v.detach().requires_grad_(v.requires_grad) for v in leaves)


class _Adjoint(torch.autograd.Function):
    """States at the times; the backward pass solves the adjoint ODE interval by interval."""

    @staticmethod
    def forward(
        ctx: Any, ode: Any, run: ODEField, count: int, t: Tensor, z0: Tensor, *tensors: Tensor
    ) -> Tensor:
        path = ode.path(run, z0, t)
        ctx.ode, ctx.run, ctx.count = ode, run, count
        ctx.save_for_backward(t, path, *tensors)
        return path

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise InvalidArgument(
                "a second derivative through gradient='adjoint'",
                "gradient='backprop' or 'checkpoint', which can be differentiated again",
            )
        t, path, *tensors = ctx.saved_tensors
        run: ODEField = ctx.run
        leaves, hidden = _local(tuple(tensors[: ctx.count])), tensors[ctx.count :]
        wanted = [v for v in (*leaves, *hidden) if v.requires_grad]
        totals = [torch.zeros_like(v) for v in wanted]

        def backwards(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            z, a = state[:2]
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                y = run.at(t, z, leaves)
            if not y.requires_grad:
                return y, *(torch.zeros_like(v) for v in (z, *wanted))
            options = {"allow_unused": True, "materialize_grads": True}
            # a closure's graph outside the field is walked in every evaluation
            pulled = torch.autograd.grad(y, (z, *wanted), -a, retain_graph=bool(hidden), **options)
            return y.detach(), *pulled

        a = torch.zeros_like(path[-1])
        timed, slopes = ctx.needs_input_grad[3], []

        def slope(i: int, weight: Tensor) -> Tensor:
            """Return the weighted velocity at a time: what moving that time changes."""
            velocity = run.at(t[i].to(path.dtype), path[i], leaves).detach()
            return (weight * velocity).sum().to(t.dtype)

        for i in range(len(t) - 1, 0, -1):
            a = a + grads[i]
            if timed:
                slopes.append(slope(i, grads[i]))
            size = a.square().mean().sqrt()
            size = torch.where(size > 0, size, torch.ones_like(size))
            start = (path[i], a / size, *(torch.zeros_like(v) for v in wanted))
            try:
                ends = ctx.ode.path(backwards, start, t[i - 1 : i + 1].flip(0))
            except (AssertionError, StepFailure) as error:
                raise _lost(ctx.ode.method, error) from error
            retraced, b, *parts = (end[-1] for end in ends)
            a = size * b
            totals = [total + size * part for total, part in zip(totals, parts, strict=True)]
            _check_drift(run, retraced, path[i - 1], path[i])
        if timed:  # a later start is as good as a step back along the flow
            slopes.append(-slope(0, a))
        a = a + grads[0]
        given = iter(totals)
        back = (next(given) if v.requires_grad else None for v in (*leaves, *hidden))
        return None, None, None, torch.stack(slopes[::-1]) if timed else None, a, *back


def _check_drift(run: ODEField, retraced: Tensor, state: Tensor, later: Tensor) -> None:
    """Compare a retraced state with what it was, in units of the larger end of the interval."""
    scale = torch.maximum(torch.linalg.vector_norm(state), torch.linalg.vector_norm(later))
    scale = scale.clamp_min(torch.finfo(state.dtype).tiny)
    drift = torch.linalg.vector_norm(retraced - state) / scale
    run.counts.drift = torch.maximum(drift, torch.as_tensor(run.counts.drift).to(drift))
    if not bool(drift <= DRIFT):
        warnings.warn(
            "gradient='adjoint' retraced the state backwards in time and missed it by more than "
            f"{DRIFT:.0%}: the gradient is inaccurate, as where a flow contracts. Type "
            "gradient=checkpoint, or smaller tolerances",
            NumericalWarning,
            stacklevel=2,
        )


def _lost(method: str, error: Exception) -> ConvergenceError:
    return ConvergenceError(
        f"the adjoint ODE by {method} failed in the backward pass ({error})",
        "a flow that can be retraced backwards in time",
        "Type gradient=checkpoint (same memory order, exact gradient), or solver=rk4",
    )
