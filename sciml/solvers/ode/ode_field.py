"""The right-hand side of an ODE as the integrators see it: counted, checked, and blamed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.shapes import check_tensor
from sciml.solvers.layout import Layout, without_mixing
from sciml.solvers.solution import Status

NEAR_WORST = 0.1  # problems this close to the largest scaled speed share the blame


@dataclass
class Evaluations:
    """What an ODE solve cost; `backward` and `drift` grow in the backward pass.

    Attributes:
        forward: Evaluations of the field on the whole batch.
        backward: The same in backward passes; those by automatic differentiation do not count.
        steps: Accepted steps.
        rejected: Rejected steps.
        drift: By how much the adjoint ODE missed the states it retraced, relative.
    """

    forward: int = 0
    backward: int = 0
    steps: int = 0
    rejected: int = 0
    drift: float | Tensor = 0.0


class ODEField:
    """`dz/dt` of a batch at `(t, z)`, with its other arguments bound.

    Args:
        function: `function((t, z), *leaves)`.
        leaves: Tensors it depends on.
        z0: Where failed problems are kept.
        layout: Splits z into problems.
        counts: Filled by the solve.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        leaves: tuple[Tensor, ...],
        z0: Tensor,
        layout: Layout,
        counts: Evaluations,
    ) -> None:
        self.function, self.leaves, self.layout, self.counts = function, leaves, layout, counts
        self.start = z0.detach()
        self.frozen: Tensor | None = None
        self.last: tuple[Tensor, Tensor, Tensor] | None = None
        self.began: tuple[Tensor, Tensor] | None = None  # time and state of the newest step
        self.fresh = False  # whether the next evaluation is watched for problems that are paired
        self.counting = True  # else in a backward pass
        kind = z0.device.type
        # the backward pass evaluates the field outside the user's autocast
        self.cast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def __call__(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the derivative, shape of z."""
        return self.at(t, z, self.leaves)

    def at(self, t: Tensor, z: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Return the derivative with other tensors in place of the bound ones."""
        if self.counting:
            self.counts.forward += 1
        else:
            self.counts.backward += 1
        hold = None if self.frozen is None else self.layout.spread(self.frozen, z)
        # a start that is not finite would reach shared parameters: 0 times NaN
        point = z if hold is None else torch.where(hold, self.start.nan_to_num(0.0, 0.0, 0.0), z)
        kind, dtype, enabled = self.cast
        watch, self.fresh = self.fresh, False
        watched = (
            without_mixing("a field of an ODE", point, self.layout) if watch else nullcontext()
        )
        with torch.autocast(kind, dtype=dtype, enabled=enabled), watched:
            y = self.function((t, point), *leaves)
        check_tensor("a field of an ODE", y, "a tensor of the state's shape")
        if y.shape != z.shape:
            raise InvalidArgument(
                f"a field that maps a state of shape {tuple(z.shape)} to {tuple(y.shape)}",
                "the shape of the state",
            )
        y = y.to(z.dtype)
        y = y if hold is None else torch.where(hold, torch.zeros_like(y), y)
        if self.counting:
            self.last = (t.detach(), z.detach(), y.detach())
        return y

    def watch(self, t: Tensor, *, adaptive: bool) -> None:
        """Count the steps of a new attempt, which begins at `t`, by torchdiffeq's callbacks."""
        self.counts.steps = self.counts.rejected = 0
        self.began, self.fresh = (t, self.start), True

        def accepted(t: Tensor, z: Tensor, dt: Tensor) -> None:
            self.counts.steps += self.counting

        def refused(t: Tensor, z: Tensor, dt: Tensor) -> None:
            self.counts.rejected += self.counting

        def begin(t: Tensor, z: Tensor, dt: Tensor) -> None:
            self.begin(t, z)
            self.counts.steps += self.counting and not adaptive

        self.callback_step = begin
        if adaptive:
            self.callback_accept_step, self.callback_reject_step = accepted, refused

    def begin(self, t: Tensor, z: Tensor) -> None:
        """Note where a step begins."""
        if self.counting:
            self.began = t.detach(), z.detach()

    def finish(self) -> None:
        """Note that from here on evaluations belong to backward passes; keep no state."""
        self.counting, self.last, self.began = False, None, None
        for name in ("callback_step", "callback_accept_step", "callback_reject_step"):
            # closures over this object: the cycle would hold the graph until a collection
            self.__dict__.pop(name, None)

    def freeze(self, which: Tensor) -> None:
        """Keep problems `(*P)` at their start, with a derivative of zero."""
        self.frozen = which

    def blame(self, error: Exception) -> tuple[Tensor, Status]:
        """Return which problems `(*P)` stopped an integrator, and how, from its last evaluation.

        Raises:
            Exception: The error itself, if it is none of an integrator's.
        """
        text = str(error)
        known = ("underflow in dt", "non-finite values", "max_num_steps")
        if self.last is None or not any(words in text for words in known):
            raise error
        broken = ~self.layout.norm(self.last[2]).isfinite()
        t, z = self.began
        before = self.counts.forward
        with torch.no_grad():
            speed = self.layout.norm(self(t.to(z.dtype), z))
        self.counts.forward = before
        # NaN of one problem reaches the step size and then all others: look where the step began
        if not bool(speed.isfinite().all()):
            return ~speed.isfinite(), Status.NONFINITE
        if bool(broken.any()) and not bool(broken.all()):
            return broken, Status.NONFINITE
        scaled = speed / (1 + self.layout.norm(z))
        cause = Status.MAX_ITER if known[2] in text else Status.DIVERGED
        return scaled >= NEAR_WORST * scaled.amax(), cause

    def where(self) -> str:
        """Return the time of the last evaluation in words."""
        return f"near t={float(self.last[0]):.3g}"

    def speeds(self, failed: Tensor) -> str:
        """Return how fast the failed problems and all others moved, in words."""
        speed = self.layout.norm(self.last[2])
        if not bool(speed[failed].isfinite().all()):
            return ""
        text = f"; |dz/dt| up to {float(speed[failed].max()):.1e} there"
        rest = speed[~failed]
        return text + (f", {float(rest.median()):.1e} elsewhere" if rest.numel() else "")
