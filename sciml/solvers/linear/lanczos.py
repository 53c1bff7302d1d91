"""Ritz pairs of a symmetric matrix by Lanczos' method with full re-orthogonalisation.

From a start v_1 the vectors v_1 ... v_m span the Krylov space, and

    A v_j = b_(j-1) v_(j-1) + a_j v_j + b_j v_(j+1)

The eigenpairs (t, y) of the tridiagonal matrix of a and b give Ritz values t and Ritz vectors V y.
In exact arithmetic one start sees one vector of every eigenspace, so a matrix with multiple
eigenvalues has fewer than n of them, and the iteration ends there.

Source: Saad 2011, Numerical Methods for Large Eigenvalue Problems, algorithm 6.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.algebra.linear_operators import Product
from sciml.solvers.bookkeeping import check_counts
from sciml.typed_arguments import typed


@typed
def ritz_pairs(product: Product, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return Ritz values `(k,)`, rising, and orthonormal Ritz vectors `(k, *shape)`.

    Args:
        product: A v for v of the shape of `start`; A is symmetric.
        start: First vector, of any shape, not zero.
        steps: m; k is smaller where the Krylov space is exhausted before.

    Raises:
        InvalidArgument: If the start is zero or not finite, or `steps` below 1.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import ritz_pairs
        >>> eigenvalues = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
        >>> values, vectors = ritz_pairs(lambda x: eigenvalues * x, torch.ones(3).double(), 3)
        >>> [round(v, 4) for v in values.tolist()], tuple(vectors.shape)
        ([1.0, 2.0, 5.0], (3, 3))
    """
    check_counts(steps=steps)
    norm = torch.linalg.vector_norm(start)
    if steps < 1 or not bool((norm > 0) & norm.isfinite()):
        raise InvalidArgument(
            f"{steps} steps from a start of norm {float(norm):g}", "one step or more, norm > 0"
        )
    if start.dtype not in (torch.float32, torch.float64):
        raise InvalidType(f"a start of {start.dtype}", "float32 or float64", "Type .float()")
    n = start.numel()
    steps = min(steps, n)
    basis = start.new_zeros(steps, n)
    alpha, beta = start.new_zeros(steps), start.new_zeros(steps)
    basis[0] = (start / norm).flatten()
    # round-off grows towards the end of a Krylov space; what is left there is no direction of A's
    small, size, found = torch.finfo(start.dtype).eps ** 0.5, 0.0, steps
    for j in range(steps):
        w = product(basis[j].reshape(start.shape)).flatten()
        size = max(size, float(torch.linalg.vector_norm(w)))
        alpha[j] = w @ basis[j]
        for _ in range(2):  # twice is enough to be orthogonal to round-off
            w = w - basis[: j + 1].mT @ (basis[: j + 1] @ w)
        beta[j] = torch.linalg.vector_norm(w)
        if float(beta[j]) <= small * size:
            found = j + 1
            break
        if j + 1 < steps:
            basis[j + 1] = w / beta[j]
    off = beta[: found - 1]
    matrix = torch.diag(alpha[:found]) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, (vectors.mT @ basis[:found]).reshape(found, *start.shape)
