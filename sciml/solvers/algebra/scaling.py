"""Linear systems brought near 1 by powers of two, so that inner products stay in range.

With powers of two f and u per problem, A x = b is solved as

    (f A) y = u b,    x = (f / u) y.

Powers of two commute with rounding: where nothing leaves the range of the dtype the iterates are
the same to the last bit. f is measured at the first product, so it costs none of its own, and a
system that is near 1 already is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sciml.solvers.algebra.linear_operators import Operator, Product
from sciml.solvers.bookkeeping import SolverProgress, relative_to, within
from sciml.solvers.norms import unit_of
from sciml.solvers.solution import Outcome, Status

Preconditioner = Callable[[Operator], Product]


class _Near:
    """A product times the power of two that its first use asks for."""

    def __init__(self, like: Operator) -> None:
        self.layout, self.unit, self.measured = like.layout, None, False

    def measure(self, v: Tensor, product: Tensor) -> None:
        """Take the ratio of sizes of a product and its argument; 1 where it is 0 / 0."""
        size = self.layout.norm(product, torch.inf)
        self.unit = unit_of(size / self.layout.norm(v, torch.inf).masked_fill(size == 0, 1.0))
        self.measured = True

    def of(self, product: Product) -> Product:
        """Return the scaled product."""

        def scaled(v: Tensor) -> Tensor:
            out = product(v)
            if not self.measured:
                self.measure(v, out)
            return out if self.unit is None else out * self.layout.spread(self.unit, out)

        return scaled


class ScaledSystem:
    """A scaled system, for solvers that start at zero or at a given point.

    Args:
        operator: A, as it came.
        b: Right-hand side, as it came.
        x0: Start, or None; one that is worse than zero is dropped.
        atol: Absolute tolerance in the units of b.
        preconditioner: Of A, or None.

    Attributes:
        matvec, rmatvec: Products with f A and its transpose.
        precondition: Product with a multiple of the preconditioner.
        b, x, r: Right-hand side, start and its residual.
        atol: In the units of this b.
    """

    def __init__(
        self,
        operator: Operator,
        b: Tensor,
        x0: Tensor | None,
        atol: float,
        preconditioner: Preconditioner | None = None,
    ) -> None:
        layout = self.layout = operator.layout
        if operator.project is not None:  # what lies outside the range cannot be solved for
            # twice: the first leaves round-off of the whole, which may be most of what is left
            whole, b = layout.norm(b), operator.project(operator.project(b))
            # round-off of a right-hand side that lies outside altogether
            nothing = layout.norm(b) <= 8 * torch.finfo(b.dtype).eps * whole
            b = torch.where(layout.spread(nothing, b), 0.0, b)
            x0 = None if x0 is None else operator.project(x0)
        self.operator, self.given, self.near = operator, b, _Near(operator)
        self.matvec = self.near.of(operator.matvec)
        self.rmatvec = self.near.of(operator.rmatvec)
        self.precondition = same
        if preconditioner is not None:
            self.precondition = _Near(operator).of(_in_range(preconditioner(operator), operator))
        self.unit = unit_of(layout.norm(b, torch.inf))
        self.atol = atol if self.unit is None else atol * self.unit
        self.b = self._times(b)
        self.x, self.r = torch.zeros_like(b), self.b
        if x0 is not None:
            self._start(x0)

    def _times(self, v: Tensor) -> Tensor:
        return v if self.unit is None else v * self.layout.spread(self.unit, v)

    def _start(self, x0: Tensor) -> None:
        """Begin at a point; where it is zero the size of A is measured at b."""
        layout, b = self.layout, self.b
        zero = layout.spread(layout.norm(x0, torch.inf) == 0, x0)
        probe = torch.where(zero, b, x0)
        product = self.operator.matvec(probe)
        self.near.measure(probe, product)
        r = b - self._times(torch.where(zero, torch.zeros_like(b), product))
        # the norm of NaN is not smaller
        worse = layout.spread(~(layout.norm(r) < layout.norm(b)), b)
        start = self._times(x0)
        if self.near.unit is not None:
            start = start / layout.spread(self.near.unit, b)
        self.x, self.r = torch.where(worse, self.x, start), torch.where(worse, b, r)

    def outcome(
        self, progress: SolverProgress, products: int, *, verify: bool, slack: float = 2
    ) -> Outcome:
        """Return what was found in the units that came.

        Args:
            progress: Of the iteration on the scaled system.
            products: What it cost.
            verify: Whether the residual of the iteration may have drifted from the true one.
            slack: By how much it may.
        """
        out = progress.outcome(products)
        if self.unit is None and self.near.unit is None and not verify:
            return out
        layout, b = self.layout, self.given
        factor = 1.0 if self.near.unit is None else layout.spread(self.near.unit, b)
        factor = factor if self.unit is None else factor / layout.spread(self.unit, b)
        # x or A x may lie outside the range of the dtype
        value = out.value * factor
        r = self._times(b - self.operator.matvec(value))
        norm, scale = layout.norm(r), layout.norm(self.b)
        fine = within(norm / slack, scale, progress.rtol, self.atol)
        lost = (out.status == Status.CONVERGED) & ~fine
        status = torch.where(lost, int(Status.STALLED), out.status)
        status = torch.where(lost & ~norm.isfinite(), int(Status.NONFINITE), status)
        return replace(
            out,
            value=value,
            status=status,
            residual=norm if self.unit is None else norm / self.unit,
            relative=relative_to(norm, scale),
            evaluations=products + 1,
        )


def _in_range(product: Product, operator: Operator) -> Product:
    """Return the preconditioner followed by the projection, where A is singular."""
    project = operator.project
    return product if project is None else lambda v: project(product(v))


def same(v: Tensor) -> Tensor:
    """Return v: no preconditioner."""
    return v


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0: the problem has broken down or is done."""
    return a / b.masked_fill(b == 0, torch.inf)
