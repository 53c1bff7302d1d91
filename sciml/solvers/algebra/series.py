"""Approximate inverses by truncation; they bias the derivative and must be asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.bookkeeping import check_counts
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class Neumann:
    """Truncated series `x_{k+1} = x_k + damping (b - A x_k)` from zero.

    With A = I - J of a fixed point this is the adjoint of `terms` unrolled damped steps: the
    phantom gradient (Geng et al. 2021, arXiv 2111.05177). It converges if I - damping A contracts.

    Args:
        terms: Number of terms.
        damping: Step tau.

    Raises:
        InvalidArgument: If `terms` is below 1.

    Example:
        >>> import torch
        >>> from sciml.solvers import Implicit, Neumann, fixed_point
        >>> c = torch.tensor([[1.0]], requires_grad=True)
        >>> rule = Implicit(Neumann(terms=5))
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * x + c, torch.zeros(1, 1), (c,), adjoint=rule, on_failure="raise"
        ... )
        >>> found.value.sum().backward()
        >>> round(c.grad.item(), 4)  # 1 + 1/2 + ... + 1/16; the exact derivative is 2
        1.9375
    """

    terms: int = 5
    damping: float = 1.0
    approximate = True

    def __post_init__(self) -> None:
        """Check the number of terms."""
        check_counts(terms=self.terms)
        if self.terms < 1:
            raise InvalidArgument(f"terms={self.terms}", "at least 1")

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Return the truncated series; `x0` is not used, it would change the bias."""
        x = self.damping * b
        for _ in range(self.terms - 1):
            x = x + self.damping * (b - operator.matvec(x))
        return truncated(operator, b, x, self.terms)


@typed
@dataclass(frozen=True)
class JacobianFree:
    """No solve at all: A is taken for the identity (Fung et al. 2022, arXiv 2103.12803).

    A descent direction for contractive fixed points; biased everywhere else.

    Example:
        >>> import torch
        >>> from sciml.solvers import Implicit, JacobianFree, fixed_point
        >>> c = torch.tensor([[1.0]], requires_grad=True)
        >>> rule = Implicit(JacobianFree())
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * x + c, torch.zeros(1, 1), (c,), adjoint=rule, on_failure="raise"
        ... )
        >>> found.value.sum().backward()
        >>> round(c.grad.item(), 4)  # the right sign; the exact derivative is 2
        1.0
    """

    approximate = True

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Return `b`."""
        return truncated(operator, b, b, 0)


def truncated(operator: Operator, b: Tensor, x: Tensor, terms: int) -> Outcome:
    """Report an approximation as what was asked for; its residual is not formed."""
    shape = operator.layout.problems(b)
    nan = b.new_full(shape, torch.nan)
    fine = operator.layout.norm(x).isfinite()
    status = torch.where(fine, int(Status.CONVERGED), int(Status.NONFINITE))
    return Outcome(x, status, torch.full_like(status, terms), nan, nan, max(terms - 1, 0))
