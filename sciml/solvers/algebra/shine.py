"""The inverse Jacobian that Broyden's method built forward, used again backward (SHINE).

    solver=Broyden(share=True), adjoint=Implicit(SharedInverse())                     approximate
    solver=Broyden(share=True), adjoint=Implicit(GMRES(preconditioner=ForwardInverse()))     exact

Reference: Ramzi et al. 2022, arXiv 2106.00553.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Operator, Product
from sciml.solvers.algebra.series import truncated
from sciml.solvers.solution import Outcome
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class ForwardInverse:
    """Preconditioner for Krylov solvers: the inverse the forward solver built.

    Example:
        >>> import torch
        >>> from sciml.solvers import GMRES, Broyden, ForwardInverse, Implicit, fixed_point
        >>> c = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> rule = Implicit(GMRES(preconditioner=ForwardInverse()))
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * torch.cos(x) + c, torch.zeros(1, 2), (c,),
        ...     solver=Broyden(share=True), adjoint=rule, on_failure="raise",
        ... )
        >>> found.value.sum().backward()
        >>> [round(v, 3) for v in c.grad[0].tolist()]  # 1 / (1 + sin(x) / 2)
        [0.683, 0.676]
    """

    def __call__(self, operator: Operator) -> Product:
        """Return the product with it, or with its transpose for a transposed operator.

        Raises:
            InvalidArgument: If the forward solver left none.
        """
        inverse = operator.base.factors.get("forward")
        if inverse is None:
            raise InvalidArgument(
                "a shared inverse, but the forward solver left none",
                "Newton's or Levenberg-Marquardt's method, or Broyden's, asked to share it",
                "Type solver=Newton() or solver=Broyden(share=True)",
            )

        def apply(v: Tensor) -> Tensor:
            return inverse(v, operator.transposed)

        for _ in range(operator.like.dim() - operator.base.like.dim()):
            apply = torch.vmap(apply)
        return apply


@typed
@dataclass(frozen=True)
class SharedInverse:
    """Broyden's inverse as the solution of the adjoint equation: no product at all.

    Where it enlarges the right-hand side more than `fallback` times it is not to be trusted, and
    the identity is taken (the one-step gradient), as the paper does.

    Args:
        fallback: Largest ratio |H^T b| / |b|.
        refine: Richardson steps `x <- x + (b - A x)` afterwards; with a contraction each removes
            part of the bias.

    Example:
        >>> import torch
        >>> from sciml.solvers import Broyden, Implicit, SharedInverse, fixed_point
        >>> c = torch.tensor([[1.0]], requires_grad=True)
        >>> found = fixed_point(
        ...     lambda x, c: 0.5 * torch.cos(x) + c, torch.zeros(1, 1), (c,),
        ...     solver=Broyden(share=True), adjoint=Implicit(SharedInverse()), on_failure="raise",
        ... )
        >>> found.value.sum().backward()
        >>> round(c.grad.item(), 2)  # in one dimension the secant is all there is
        0.68
    """

    fallback: float = 1.3
    refine: int = 0
    approximate = True

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Return the approximate solution of `A x = b`; `x0` is not used."""
        layout = operator.layout
        x = ForwardInverse()(operator)(b)
        sane = layout.norm(x) <= self.fallback * layout.norm(b)
        x = torch.where(layout.spread(sane, b), x, b)
        for _ in range(self.refine):
            x = x + (b - operator.matvec(x))
        return truncated(operator, b, x, self.refine)
