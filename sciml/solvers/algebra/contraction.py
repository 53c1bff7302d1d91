"""Plain iteration for `(I - M) x = b` where M is known to contract."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.bookkeeping import SolverProgress, check_tolerances
from sciml.solvers.solution import Outcome
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class Contraction:
    """`x <- x + (b - A x)`, which is `x <- b + M x` for A = I - M.

    If M has rows of absolute sum at most c < 1 it contracts in the max-norm, and its transpose in
    the 1-norm. Each is tested in its own norm, in which a residual r bounds the error by
    |r| / (1 - c); in the 2-norm M may well be larger than 1. The iteration stops at
    |r| <= rtol |b|, after about ln(rtol) / ln(c) steps, so it pays for c up to 0.6 or so.

    Args:
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        columns: The columns of A, not its rows, have sums at most c: the two norms swap.
        every: Iterations between looks at the device; None chooses.

    Raises:
        InvalidArgument: For tolerances that cannot work.

    Example:
        >>> import torch
        >>> from sciml.solvers import Contraction, linear_solve
        >>> m, b = torch.tensor([[0.1, 0.2], [0.3, 0.1]]), torch.ones(1, 2)  # row sums below 1
        >>> found = linear_solve(lambda x: x - x @ m.T, b, linear=Contraction(), on_failure="raise")
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [1.4667, 1.6]
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 1000
    columns: bool = False
    every: int | None = None
    approximate = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve `A x = b`."""
        layout = operator.layout
        p = 1 if operator.transposed != self.columns else math.inf
        x = torch.zeros_like(b) if x0 is None else x0
        r = b if x0 is None else b - operator.matvec(x)
        scale = layout.norm(b, p)
        progress = SolverProgress(layout, x, self.rtol, self.atol, self.max_iter, self.every)
        progress.update(x, layout.norm(r, p), scale)
        products = int(x0 is not None)
        while progress.go_on():
            x = progress.keep(x + r)
            r = b - operator.matvec(x)
            progress.update(x, layout.norm(r, p), scale)
            products += 1
        return progress.outcome(products)
