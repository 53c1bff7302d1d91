"""The simplest preconditioner: division by the diagonal."""

from __future__ import annotations

import torch

from sciml.solvers.algebra.linear_operators import Operator, Product
from sciml.typed_arguments import typed


@typed
def jacobi(operator: Operator) -> Product:
    """Return division by the diagonal, assembled from the dense matrix: for tests and small n.

    Example:
        >>> import torch
        >>> from sciml.solvers import CG, jacobi, linear_solve
        >>> matrix = torch.tensor([[4.0, 1.0], [1.0, 400.0]])
        >>> solver = CG(preconditioner=jacobi)
        >>> found = linear_solve(
        ...     lambda x: x @ matrix, torch.tensor([[5.0, 401.0]]),
        ...     linear=solver, on_failure="raise", positive_definite=True,
        ... )
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [1.0, 1.0]
        >>> from sciml.solvers import Operator, Rows
        >>> a = Operator(lambda x: x @ matrix, None, torch.zeros(1, 2), Rows())
        >>> jacobi(a)(torch.tensor([[4.0, 4.0]])).tolist()
        [[1.0, 0.009999999776482582]]
    """
    layout = operator.layout
    diagonal = operator.base.dense().diagonal(dim1=-2, dim2=-1)
    inverse = torch.where(diagonal == 0, torch.ones_like(diagonal), 1 / diagonal)
    return lambda v: layout.unpack(inverse * layout.pack(v), v)
