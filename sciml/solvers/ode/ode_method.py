"""Integration methods of initial value problems and their settings.

    ODE("dopri5", rtol=1e-6, atol=1e-6)        adaptive steps
    ODE("rk4", steps=10)                       fixed steps

The integrators are those of torchdiffeq 0.2.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType, did_you_mean
from sciml.solvers.bookkeeping import check_counts, check_numbers
from sciml.typed_arguments import typed

Gradient = Literal["backprop", "checkpoint", "adjoint"]
GRADIENTS = ("backprop", "checkpoint", "adjoint")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2")
# Their interpolants are of lower order than their steps, which must therefore end at the times;
# those of the others are as accurate as the steps.
LANDING = ("dopri8", "bosh3")
ONE_STEP = ("euler", "midpoint", "heun2", "heun3", "rk4")
MULTISTEP = ("explicit_adams", "implicit_adams")
RESOLVED = 1e-3  # largest round-off of a time, relative to the interval


@typed
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

    Example:
        >>> import torch
        >>> from sciml.solvers import ODE, integrate
        >>> found = integrate(
        ...     lambda t, z: -z, torch.ones(1, 1), ode=ODE("rk4", steps=20), on_failure="raise"
        ... )
        >>> round(found.value.item(), 4)  # exp(-1)
        0.3679
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
            options = {"grid_constructor": lambda f, z, t: refined(t, self.steps)}
        settings = {"rtol": self.rtol, "atol": self.atol, "method": self.method}
        return odeint(field, z, times, options=options, **settings)


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


def refined(t: Tensor, steps: int) -> Tensor:
    """Return the grid with `steps` steps between two times; the times themselves are exact."""
    share = torch.arange(steps, dtype=t.dtype, device=t.device) / steps
    inner = t[:-1, None] + (t[1:] - t[:-1])[:, None] * share
    return torch.cat([inner.flatten(), t[-1:]])
