"""Progress of iterations: which problems are done and why, and the best iterate so far."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.layout import Layout
from sciml.solvers.solution import Outcome, Status

GROWTH = 1e8  # a residual this much above its best counts as diverged
CHECK = 8  # iterations between looks for NaN and growth
PATIENCE = 200  # iterations without a better residual count as stalled
ULPS = 4  # a step of so many units in the last place of x is rest


def default_tolerance(dtype: torch.dtype) -> float:
    """Return the relative tolerance of a dtype: 1e-10 in float64, 1e-5 below."""
    return 1e-10 if dtype == torch.float64 else 1e-5


def check_tolerances(
    rtol: float | Tensor | None, atol: float, max_iter: int = 0, *, name: str = "rtol"
) -> None:
    """Refuse tolerances that are always met or never, whatever is solved.

    Args:
        rtol: Relative tolerance; None is the default, tensors are those of an outer iteration.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        name: Of the relative tolerance, for the message.

    Raises:
        InvalidType: If one is no number, or `max_iter` no whole one.
        InvalidArgument: If one is negative or not finite, both are zero, or `rtol` is 1 or more
            (no iteration would be needed) or below the precision of float64 without an `atol`.
    """
    check_numbers(**{name: 0.0 if rtol is None else rtol, "atol": atol})
    check_counts(max_iter=max_iter)
    if rtol is None or isinstance(rtol, Tensor):
        fine, rtol = True, 0.0 if rtol is None else "(*P)"
    else:
        least = 0.0 if atol > 0 else 0.5 * torch.finfo(torch.float64).eps
        fine = least <= rtol < 1
    if not (fine and 0 <= atol < torch.inf and max_iter >= 0):
        raise InvalidArgument(
            f"{name}={rtol}, atol={atol}, max_iter={max_iter}",
            f"tolerances >= 0, one of them positive, {name} below 1 and not below 1.2e-16 without "
            "an atol, and max_iter >= 0",
            f"Type {name}=1e-10 for float64, {name}=1e-5 for float32",
        )


def check_numbers(**settings: Any) -> None:
    """Refuse settings that are no real numbers, as texts are; `rtol` may be one per problem.

    Raises:
        InvalidType: With the name.
    """
    for name, value in settings.items():
        several = isinstance(value, Tensor) and value.numel() != 1 and name != "rtol"
        if isinstance(value, bool) or not isinstance(value, (Real, Tensor)) or several:
            raise InvalidType(f"{name}={value!r}", "a real number", f"Type {name}=1e-5")


def check_counts(**settings: Any) -> None:
    """Refuse settings that are no whole numbers, as 2.5, NaN and True are.

    Raises:
        InvalidType: With the name.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise InvalidType(f"{name}={value!r}", "a whole number", f"Type {name}=100")


def check_precision(rtol: float | Tensor | None, atol: float, dtype: torch.dtype) -> None:
    """Refuse a relative tolerance that a dtype cannot reach.

    Raises:
        InvalidArgument: If `rtol` is below its precision and there is no `atol`.
    """
    least = 0.5 * torch.finfo(dtype).eps  # round-off of one operation
    if isinstance(rtol, (int, float)) and 0 < rtol < least and not atol > 0:
        raise InvalidArgument(
            f"rtol={rtol} for unknowns of {dtype}",
            f"at least {least:.1e}, the round-off of the dtype",
            "Type x0.double(), or rtol=None for the default of the dtype",
        )


def within(norm: Tensor, scale: Tensor, rtol: float | Tensor, atol: float | Tensor) -> Tensor:
    """Return where a residual meets its tolerance, `norm <= atol + rtol * scale`, `(*P)`.

    Nothing is within an infinite bound: a residual that is not finite never meets it, and a scale
    that is not finite counts as zero.
    """
    bound = rtol * scale
    return (norm <= atol + torch.where(bound.isfinite(), bound, 0.0)) & norm.isfinite()


def relative_to(residual: Tensor, scale: Tensor) -> Tensor:
    """Return a residual over its scale `(*P)`; 0 for 0 / 0, infinite over no finite scale."""
    relative = residual / scale.clamp_min(torch.finfo(residual.dtype).tiny)
    return torch.where(scale.isfinite(), relative, torch.inf)


def at_rest(
    layout: Layout,
    old: tuple[Tensor, Tensor],
    new: tuple[Tensor, Tensor],
    step: Tensor,
    rtol: float | Tensor,
) -> Tensor:
    """Return where the next Newton step would be short, estimated from the last one, `(*P)`.

    A start near a pole has so large a residual that almost any other is small against it. The next
    step is about the last one times the ratio of residuals; it must be below `rtol^(3/4) |x|`.

    Args:
        layout: Splits the unknown into problems.
        old: Iterate before the step and the norm of its residual.
        new: The same after it.
        step: `(*P)` norm of the step.
        rtol: Relative tolerance.
    """
    size = layout.norm(old[0]).maximum(layout.norm(new[0]))
    ratio = new[1] / old[1].clamp_min(torch.finfo(step.dtype).tiny)
    return ratio * step <= rtol**0.75 * size


class SolverProgress:
    """Status, iteration count and best iterate per problem.

    A problem is converged once its residual is finite and `norm <= atol + rtol * scale`; else the
    iterate of smallest norm is the best. Finished problems are put back to their best iterate by
    `keep` and stay there.

    Args:
        layout: Splits the unknown into problems.
        x: First iterate.
        rtol: Relative tolerance, one number or `(*P)`; None takes that of the dtype.
        atol: Absolute tolerance in the units of the residual, one number or `(*P)`.
        max_iter: Largest number of iterations.
        every: Iterations between two looks of the host at the device; None takes 1 on a CPU and 8
            elsewhere.
        monotone: Whether a residual that does not fall for long is a sign of no hope; those of
            conjugate gradients and quasi-Newton methods may rise for long.
        blind: Whether the scale is the first residual and steps are taken without a Jacobian, see
            `_unspoilt`.

    Raises:
        InvalidArgument: If the tolerance is always met or never, or the dtype cannot reach it.
    """

    def __init__(
        self,
        layout: Layout,
        x: Tensor,
        rtol: float | Tensor | None,
        atol: float | Tensor,
        max_iter: int,
        every: int | None = None,
        *,
        monotone: bool = True,
        blind: bool = False,
    ) -> None:
        self.monotone, self.blind, self.last = monotone, blind, x
        self.rtol = default_tolerance(x.dtype) if rtol is None else rtol
        self.atol, self.max_iter, self.layout = atol, max_iter, layout
        self.every = every or (1 if x.device.type == "cpu" else 8)
        # on a CPU a look costs less than the work it saves
        self.looks, self.untouched = x.device.type == "cpu", True
        if not isinstance(atol, Tensor):
            check_tolerances(self.rtol, atol, max_iter)
            check_precision(self.rtol, atol, x.dtype)
        shape = layout.problems(x)
        self.best = x
        self.residual = x.new_full(shape, torch.inf)
        self.norm = self.scale = self.earlier = self.residual
        self.measure = self.residual  # scale of the best iterate
        self.status = torch.full(shape, Status.RUNNING, device=x.device)
        self.iterations = torch.zeros(shape, dtype=torch.long, device=x.device)
        self.active = torch.ones(shape, dtype=torch.bool, device=x.device)
        self.step = -1  # update() is first called on the first iterate

    def update(
        self,
        x: Tensor,
        norm: Tensor,
        scale: Tensor,
        also: Tensor | None = None,
        rest: Tensor | None = None,
    ) -> None:
        """Record an iterate.

        Args:
            x: Iterate; entries of finished problems are ignored.
            norm: `(*P)` norm of its residual.
            scale: `(*P)` what the relative tolerance refers to.
            also: `(*P)` booleans, a second sufficient condition for convergence.
            rest: `(*P)` booleans, without which the relative tolerance counts for nothing, see
                `at_rest`.
        """
        self.step += 1
        if self.blind and self.step > 0:
            scale = self._unspoilt(x, norm, scale)
        self.norm, self.scale = norm, scale
        done = norm <= self.atol + self.rtol * scale
        if also is not None:
            done = done | also
        if not self.untouched:
            done = done & self.active
        found = not self.looks or bool(done.any())
        if found:  # most often there is nothing to look closer at
            done = within(norm, scale, self.rtol, self.atol)
            if rest is not None:
                done = done & (rest | (norm <= self.atol))
            if also is not None:
                done = done | (also & norm.isfinite())
        better = ((norm < self.residual) | done) & self.active
        if self.looks and bool(better.all()):  # most often; then nothing has to be copied
            self.best, self.residual, self.measure = x, norm, scale
        else:
            self.best = torch.where(self.layout.spread(better, x), x, self.best)
            self.residual = torch.where(better, norm, self.residual)
            self.measure = torch.where(better, scale, self.measure)
        if found:
            self._end(done, Status.CONVERGED)
        # NaN never becomes the best iterate, so these may wait
        if self.step % CHECK == 0:
            self.finish(~norm.isfinite(), Status.NONFINITE)
            self.finish(norm > GROWTH * self.residual, Status.DIVERGED)
        if self.monotone and self.step % PATIENCE == 0:
            self.finish(~(self.residual < self.earlier), Status.STALLED)
            self.earlier = self.residual

    def _unspoilt(self, x: Tensor, norm: Tensor, scale: Tensor) -> Tensor:
        """Return the scale, or the second residual in its place where the first one is no measure.

        A first step that knows no Jacobian solves a problem at once only if it is linear, and then
        the next step is round-off; beside a pole the first residual is so large that almost any
        other is small against it, and the next step is not.
        """
        if self.step == 1:
            spoilt = (norm > 0) & (norm <= self.rtol * scale)
            self.blind, self.spoilt, self.second = bool(spoilt.any()), spoilt, norm
            # below the round-off of the first residual nothing but another root or pole lies
            self.rounded = norm >= 0.01 * torch.finfo(x.dtype).eps * scale
        if self.blind:
            step, ulp = self.layout.norm(x - self.last), torch.finfo(x.dtype).eps
            rest = self.rounded & (step <= ULPS * ulp * self.layout.norm(x))
            scale, self.last = torch.where(self.spoilt & ~rest, self.second, scale), x
        return scale

    def finish(self, which: Tensor, status: Status) -> None:
        """Give running problems a final status."""
        if not self.looks or bool(which.any()):
            self._end(which, status)

    def _end(self, which: Tensor, status: Status) -> None:
        self.untouched = False
        which = which & self.active
        self.status.masked_fill_(which, int(status))
        self.iterations.masked_fill_(which, self.step)
        self.active = self.active & ~which

    def keep(self, x: Tensor) -> Tensor:
        """Return `x` with finished problems put back to their best iterate."""
        if self.untouched:
            return x
        return torch.where(self.layout.spread(self.active, x), x, self.best)

    def go_on(self) -> bool:
        """Return whether there is something left to do; looks at the device now and then."""
        if self.step >= self.max_iter:
            return False
        if self.every > 1 and self.step == 0:  # hardly any start is a solution
            return True
        return self.step % self.every != 0 or bool(self.active.any())

    def outcome(self, evaluations: int) -> Outcome:
        """Return the result; problems still running have used all iterations."""
        self.finish(~self.norm.isfinite(), Status.NONFINITE)
        self.finish(self.active, Status.MAX_ITER)
        residual = torch.where(self.residual < torch.inf, self.residual, self.norm)
        relative = relative_to(residual, self.measure)
        return Outcome(self.best, self.status, self.iterations, residual, relative, evaluations)
