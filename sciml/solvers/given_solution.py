"""Derivatives of solutions that were found elsewhere, by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sciml.shapes import check_call, name_of
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.layout import Layout
from sciml.solvers.pipeline import attached
from sciml.solvers.problem import Problem, ProblemKind
from sciml.solvers.solution import LinearReport
from sciml.solvers.solve_arguments import PARTS, Adjoint, checked, flat_theta, layout_for
from sciml.typed_arguments import typed


@typed(**PARTS)
def implicit_derivative(
    function: Callable[..., Tensor],
    x: Tensor,
    theta: Sequence[Any] = (),
    *,
    kind: ProblemKind = "root",
    adjoint: Adjoint | None = None,
    layout: Layout | None = None,
) -> Tensor:
    """Return `x`, a solution found elsewhere, with its derivative in theta.

    Nothing is tested: the derivative is as wrong as `x` is. Arguments as in `root`.

    Example:
        >>> import torch
        >>> from sciml.solvers import implicit_derivative
        >>> a = torch.tensor([[4.0]], dtype=torch.float64, requires_grad=True)
        >>> root = torch.full((1, 1), 2.0, dtype=torch.float64)  # of x^2 = a, found elsewhere
        >>> x = implicit_derivative(lambda x, a: x * x - a, root, (a,))
        >>> round(torch.autograd.grad(x.sum(), a)[0].item(), 9)  # 1 / (2 x)
        0.25
    """
    check_call(f"'{name_of(function)}'", function, "(x, *theta)", x, *theta)
    layout = layout_for(x, layout)
    bound, leaves = flat_theta(function, theta)
    tags = {"symmetric": kind in ("least_squares", "minimise"), "positive_definite": False}
    problem = Problem(kind, checked(kind, bound, layout, name_of(function)), layout, **tags)
    return attached(problem, x, leaves, adjoint or Implicit(), None, LinearReport())
