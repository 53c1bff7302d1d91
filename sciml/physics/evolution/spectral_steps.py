"""Time steps of periodic problems in Fourier space: diffusion exactly, the rest by Runge-Kutta.

    dv/dt = -symbol v + tendency(v)

With the integrating factor exp(symbol t) the first term disappears; the classical method of order 4
integrates what is left. Only the second term limits the step: for transport at the speed u, by its
largest wave number k, step k |u| must stay below 2 sqrt(2).

Source: Canuto et al. 2006, Spectral Methods: Fundamentals in Single Domains, appendix D.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers import Outcome, Solution, Status
from sciml.solvers.solution import Policy, check_policy, settle

STABLE = 2 * math.sqrt(2)  # of the method of order 4 on the imaginary axis
DROPPED = 1e-3  # largest share of an input's norm in modes that the grid cannot keep


def integrating_factor_rk4(
    tendency: Callable[[Tensor], Tensor],
    symbol: Tensor,
    spectrum: Tensor,
    times: Tensor,
    step: float,
) -> tuple[Tensor, float]:
    """Return spectra `(count, nt, ...)` at equally spaced times, and the length of a step.

    Args:
        tendency: Returns the spectrum of all but the diffusion, for spectra of a batch.
        symbol: Decay rates, real, shape of one spectrum.
        spectrum: At the first time `(count, ...)`.
        times: `(nt,)`.
        step: Longest step; intervals are divided evenly.
    """
    interval = float(times[1] - times[0])
    steps = max(1, math.ceil(interval / step * (1 - 1e-12)))
    h = interval / steps
    half = torch.exp(-symbol * (h / 2))
    whole = half * half
    found = [spectrum]
    for _ in range(len(times) - 1):
        for _ in range(steps):
            a = tendency(spectrum)
            moved = half * spectrum
            b = tendency(moved + (h / 2) * (half * a))
            c = tendency(moved + (h / 2) * b)
            d = tendency(half * (moved + h * c))
            spectrum = whole * (spectrum + (h / 6) * a) + (h / 6) * (2 * half * (b + c) + d)
        found.append(spectrum)
    return torch.stack(found, 1), h


def check_kept(spectrum: Tensor, kept: Tensor, grid: str) -> None:
    """Refuse inputs of which the 2/3 rule would drop more than a thousandth.

    Args:
        spectrum: Of the inputs `(count, ...)`; NaN passes, for the solver to report.
        kept: Which modes are kept.
        grid: What to type for a finer one.

    Raises:
        InvalidArgument: With the largest share.
    """
    shares = (spectrum * ~kept).flatten(1).norm(dim=1) / spectrum.flatten(1).norm(dim=1)
    share = float(shares.nan_to_num(0.0).max()) if len(shares) else 0.0
    if share > DROPPED:
        raise InvalidArgument(
            f"inputs with {share:.2%} of their norm in wave numbers above a third of the grid's",
            f"at most {DROPPED:.2%}, since products of such waves cannot be told from others",
            f"Type {grid}, or smooth the inputs",
        )


def spectral_solution(
    value: Tensor, courant: Tensor, steps: int, on_failure: Policy, what: str
) -> Solution:
    """Return values at the stored times after looking whether the steps were stable.

    Args:
        value: `(count, nt, ...)`.
        courant: `(count,)` largest step k |u| over the stored times.
        steps: Steps taken.
        on_failure: See `sciml.solvers.root`.
        what: Name of the problem, for messages.

    Raises:
        ConvergenceError: Under `raise`, for values that are not finite or steps beyond the limit.
    """
    check_policy(on_failure)
    finite = value.isfinite().flatten(1).all(1)
    stable = torch.where(courant <= STABLE, int(Status.CONVERGED), int(Status.DIVERGED))
    status = torch.where(finite, stable, int(Status.NONFINITE))
    iterations = torch.full_like(status, steps)
    outcome = Outcome(value, status, iterations, courant, courant, 4 * steps)
    settle(
        outcome,
        on_failure,
        f"the time steps of {what}",
        f"steps with step * wave number * speed below {STABLE:.2f}",
        lambda: "Type a shorter problem.step; on_failure='mask' or 'best' carries on",
    )
    stats = {"relative": courant, "evaluations": 4 * steps, "courant": courant}
    return Solution(value, status, iterations, courant, stats)
