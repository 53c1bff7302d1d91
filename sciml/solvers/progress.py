"""Bookkeeping that all iterations share: who is done, why, and the best iterate so far."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.layout import Layout
from sciml.solvers.solution import Outcome, Status

GROWTH = 1e8  # a residual this much above its best counts as diverged
CHECK = 8  # iterations between looks for NaN and growth
PATIENCE = 200  # iterations without a better residual count as stalled


def default_tolerance(dtype: torch.dtype) -> float:
    """Return the relative tolerance of a dtype: 1e-10 in float64, 1e-5 below."""
    return 1e-10 if dtype == torch.float64 else 1e-5


class Progress:
    """Status, iteration count and best iterate per problem.

    A problem is converged once `norm <= atol + rtol * scale`; else the iterate of smallest norm is
    the best. Finished problems are put back to their best iterate by `keep` and stay there.

    Args:
        layout: Splits the unknown into problems.
        x: First iterate.
        rtol: Relative tolerance, one number or `(*P)`; None takes that of the dtype.
        atol: Absolute tolerance in the units of the residual.
        max_iter: Largest number of iterations.
        every: Iterations between two looks of the host at the device; None takes 1 on a CPU and 8
            elsewhere.
        monotone: Whether a residual that does not fall for long is a sign of no hope; those of
            conjugate gradients and quasi-Newton methods may rise for long.

    Raises:
        InvalidArgument: If tolerances can never be met or `max_iter` is negative.
    """

    def __init__(
        self,
        layout: Layout,
        x: Tensor,
        rtol: float | Tensor | None,
        atol: float,
        max_iter: int,
        every: int | None = None,
        *,
        monotone: bool = True,
    ) -> None:
        self.monotone = monotone
        self.rtol = default_tolerance(x.dtype) if rtol is None else rtol
        self.atol, self.max_iter, self.layout = atol, max_iter, layout
        self.every = every or (1 if x.device.type == "cpu" else 8)
        # on a CPU a look costs less than the work it saves
        self.looks, self.untouched = x.device.type == "cpu", True
        known = not isinstance(self.rtol, Tensor)
        if known and (self.rtol < 0 or atol < 0 or self.rtol + atol == 0 or max_iter < 0):
            raise InvalidArgument(
                f"rtol={self.rtol}, atol={atol}, max_iter={max_iter}",
                "tolerances >= 0, one of them positive, and max_iter >= 0",
            )
        shape = layout.problems(x)
        self.best = x
        self.residual = x.new_full(shape, torch.inf)
        self.norm = self.scale = self.earlier = self.residual
        self.status = torch.full(shape, Status.RUNNING, device=x.device)
        self.iterations = torch.zeros(shape, dtype=torch.long, device=x.device)
        self.active = torch.ones(shape, dtype=torch.bool, device=x.device)
        self.step = -1  # update() is first called on the first iterate

    def update(self, x: Tensor, norm: Tensor, scale: Tensor, also: Tensor | None = None) -> None:
        """Record an iterate.

        Args:
            x: Iterate; entries of finished problems are ignored.
            norm: `(*P)` norm of its residual.
            scale: `(*P)` what the relative tolerance refers to.
            also: `(*P)` booleans, a second sufficient condition for convergence.
        """
        self.step += 1
        self.norm, self.scale = norm, scale
        done = norm <= self.atol + self.rtol * scale
        if also is not None:
            done = done | (also & norm.isfinite())
        better = ((norm < self.residual) | done) & self.active
        if self.looks and bool(better.all()):  # most often; then nothing has to be copied
            self.best, self.residual = x, norm
        else:
            self.best = torch.where(self.layout.spread(better, x), x, self.best)
            self.residual = torch.where(better, norm, self.residual)
        self.finish(done, Status.CONVERGED)
        # NaN never becomes the best iterate, so these may wait
        if self.step % CHECK == 0:
            self.finish(~norm.isfinite(), Status.NONFINITE)
            self.finish(norm > GROWTH * self.residual, Status.DIVERGED)
        if self.monotone and self.step % PATIENCE == 0:
            self.finish(~(self.residual < self.earlier), Status.STALLED)
            self.earlier = self.residual

    def finish(self, which: Tensor, status: Status) -> None:
        """Give running problems a final status."""
        if self.looks and not bool(which.any()):
            return
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
        return self.step % self.every != 0 or bool(self.active.any())

    def outcome(self, evaluations: int) -> Outcome:
        """Return the result; problems still running have used all iterations."""
        self.finish(~self.norm.isfinite(), Status.NONFINITE)
        self.finish(self.active, Status.MAX_ITER)
        residual = torch.where(self.residual < torch.inf, self.residual, self.norm)
        relative = residual / self.scale.clamp_min(torch.finfo(residual.dtype).tiny)
        return Outcome(self.best, self.status, self.iterations, residual, relative, evaluations)
