"""Dormand-Prince steps that tell their error and stiffness, for regularisation by the solver's own.

torchdiffeq keeps the embedded error of a step to itself. A step from z with size h has stages
k_1 ... k_7 at u_1 ... u_7, the last two at the same time; per problem of n unknowns

    E = |sum_i (b_i - b*_i) h k_i| / sqrt(n),        S = |k_7 - k_6| / |u_7 - u_6|,

the difference of the fifth and fourth order results and Shampine's estimate of the largest
eigenvalue. Regularisers of the whole solve are R_E = sum_j E_j |h_j| and R_S = sum_j S_j over
accepted steps; `step_estimates` is one step anywhere, for the local variant. Step sizes are
constants for the gradient.

Sources: Dormand & Prince 1980 (tableau); Pal et al. 2021, arXiv 2105.03918; Pal et
al. 2023, PMLR 202 (local); Hairer, Norsett & Wanner 1993, II.4 (first step, control).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sciml.solvers.layout import Layout
from sciml.solvers.ode.ode_field import ODEField

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# fifth minus fourth order weights
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, GROW, SHRINK, ORDER = 0.9, 10.0, 0.2, 5


class StepFailure(RuntimeError):
    """A step size below round-off, or too many steps."""


def dopri5_step(
    field: ODEField, t: Tensor, h: Tensor, z: Tensor, first: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the next state, its slope, the error vector, and S `(*P)`.

    Args:
        field: Right-hand side.
        t: Time, a scalar.
        h: Step size, a scalar.
        z: State.
        first: Slope at the state.
    """
    slopes, before = [first], z
    u = z
    for node, row in zip(NODES[1:], STAGES[1:], strict=True):
        before = u
        u = z + h * _combine(row, slopes)
        slopes.append(field(t + node * h, u))
    error = h * _combine(ERROR, slopes)
    layout = field.layout
    apart = layout.norm(u - before).clamp_min(torch.finfo(z.dtype).tiny)
    return u, slopes[-1], error, layout.norm(slopes[-1] - slopes[-2]) / apart


def _combine(row: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum(c * k for c, k in zip(row, slopes, strict=True) if c)


def root_mean_square(layout: Layout, v: Tensor) -> Tensor:
    """Return `(*P)`."""
    return layout.norm(v) / layout.norm(torch.ones_like(v)).clamp_min(1)


def step_estimates(field: ODEField, t: Tensor, h: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return `E |h|` and `S`, both `(*P)`, of one step; differentiable like the field."""
    _, _, error, stiffness = dopri5_step(field, t, h, z, field(t, z))
    return root_mean_square(field.layout, error) * h.abs(), stiffness


def embedded_path(
    ode: Any, run: ODEField, z0: Tensor, t: Tensor, *, checkpointed: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Integrate by adaptive Dormand-Prince steps that end at the times.

    Args:
        ode: Tolerances and largest number of steps.
        run: Right-hand side.
        z0: First state.
        t: Times `(T,)`, float64.
        checkpointed: Whether to keep nothing but the states between steps.

    Returns:
        States `(T, *shape)`; `error` R_E, `stiffness` R_S and `residual`, the sum of E, `(*P)`.

    Raises:
        StepFailure: If a step size underflows or `max_steps` are used.
    """
    states, z = [z0], z0
    direction = torch.sign(t[-1] - t[0])
    slope = run(t[0].to(z0.dtype), z0)
    h = direction * _first_step(ode, run, t[0], z0, slope.detach(), direction)
    totals = {name: 0.0 for name in ("error", "stiffness", "residual")}
    for end in t[1:]:
        now, used = t[len(states) - 1], 0
        while bool((end - now) * direction > 0):
            size = h if bool((now + h - end) * direction < 0) else end - now
            if bool(now + size == now) or not bool(size.isfinite()):
                raise StepFailure(f"underflow in dt {float(size)}")
            if used >= ode.max_steps:
                raise StepFailure(f"max_num_steps exceeded ({used})")
            used += 1
            run.begin(now, z)
            given = (run, now.to(z.dtype), size.to(z.dtype), z, slope)
            if checkpointed:
                options = {"use_reentrant": False, "preserve_rng_state": False}
                new, last, error, stiffness = checkpoint(dopri5_step, *given, **options)
            else:
                new, last, error, stiffness = dopri5_step(*given)
            ratio = _ratio(ode, error, z, new)
            accept = bool(ratio <= 1)
            h = size * _factor(ratio, accept)
            if not accept:
                run.counts.rejected += 1
                continue
            run.counts.steps += 1
            e = root_mean_square(run.layout, error)
            totals["error"] = totals["error"] + e * size.abs().to(e.dtype)
            totals["stiffness"] = totals["stiffness"] + stiffness
            totals["residual"] = totals["residual"] + e.detach()
            z, slope = new, last
            now = end if bool(size == end - now) else now + size
        states.append(z)
    return torch.stack(states), totals


@torch.no_grad()
def _ratio(ode: Any, error: Tensor, z: Tensor, new: Tensor) -> Tensor:
    """Return the error over the tolerance, root mean square over the batch."""
    allowed = ode.atol + ode.rtol * torch.maximum(z.abs(), new.abs())
    return (error / allowed).square().mean().sqrt().double()


def _factor(ratio: Tensor, accept: bool) -> Tensor:
    low = 1.0 if accept else SHRINK
    return (SAFETY * ratio ** (-1 / ORDER)).clamp(low, GROW)


@torch.no_grad()
def _first_step(
    ode: Any, run: ODEField, t: Tensor, z: Tensor, slope: Tensor, direction: Tensor
) -> Tensor:
    """Return Hairer's first step size, float64."""
    scale = ode.atol + ode.rtol * z.abs()

    def size(v: Tensor) -> Tensor:
        return (v / scale).square().mean().sqrt().double()

    d0, d1 = size(z), size(slope)
    small = torch.as_tensor(1e-6, dtype=torch.float64, device=z.device)
    h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5), small, 0.01 * d0 / d1)
    step = (direction * h0).to(z.dtype)
    d2 = size(run(t.to(z.dtype) + step, z + step * slope) - slope) / h0
    flat = (d1 <= 1e-15) & (d2 <= 1e-15)
    h1 = torch.where(flat, torch.maximum(small, 1e-3 * h0), (0.01 / torch.maximum(d1, d2)) ** 0.2)
    return torch.minimum(100 * h0, h1)
