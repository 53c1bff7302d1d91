"""What all preconditioners of stencils share: one matrix (batch), made once, applied often."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Operator, Product
from sciml.solvers.linear.stencil import Stencil
from sciml.typed_arguments import typed


@typed
class StencilPreconditioner(ABC):
    """A symmetric positive definite approximation of the inverse of a stencil matrix.

    It is made from the stencil, which is the set-up, and then handed to a solver as
    `FlexibleCG(preconditioner=Multigrid(stencil))`; the same object serves the solve of the
    derivative, whose matrix is the same.

    Args:
        stencil: The matrices; no gradient goes through a preconditioner.
        dtype: In which it computes, that of the stencil by default. Vectors are brought to norm 1
            before and come back in their own dtype and size, so float32 serves a float64 solve.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import Stencil, StencilPreconditioner
        >>> class Half(StencilPreconditioner):
        ...     def product(self, r):  # whatever the matrix
        ...         return r / 2
        ...     def _keep(self, places):  # nothing is stored beside the stencil
        ...         pass
        >>> faces = torch.ones(1, 3, 4), torch.ones(1, 4, 3)
        >>> stencil = Stencil(faces, torch.ones(1, 4, 4), torch.ones(1, 4, 4) > 0)
        >>> Half(stencil).apply(torch.ones(1, 4, 4))[0, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(self, stencil: Stencil, dtype: torch.dtype | None = None) -> None:
        self.stencil = stencil.detach()
        self.dtype = dtype or stencil.shift.dtype

    def __call__(self, operator: Operator) -> Product:
        """Return the product with M; refuses an operator on another grid.

        Raises:
            InvalidArgument: If the unknowns do not fit the stencil.
        """
        mine = self if operator.places is None else self.part(operator.places)
        mine.stencil.check_fits(operator.like)
        if operator.like.device != mine.stencil.shift.device:
            raise InvalidArgument(
                f"unknowns on {operator.like.device}",
                f"the device of the preconditioner, {mine.stencil.shift.device}",
                "Type type(preconditioner)(stencil.to(device))",
            )
        return mine.apply

    def part(self, places: slice) -> StencilPreconditioner:
        """Return the preconditioner of a slice of the first axis of P; it shares its arrays."""
        out = copy(self)
        out._keep(places)
        out.stencil = self.stencil.part(places)
        return out

    @abstractmethod
    def _keep(self, places: slice) -> None:
        """Drop what belongs to other matrices than those of a slice, without changing arrays.

        Called while the stencil still is that of all matrices.
        """

    @typed
    def apply(self, r: Tensor) -> Tensor:
        """Return M r, `(..., *P, *grid)`; r itself at cells that are no unknowns, where A is 1.

        So a start or a direction that is not zero there, which a foreign function may make, is put
        right in one step.
        """
        self.stencil.check_fits(r)
        with torch.no_grad():
            if r.dtype == self.dtype:
                return torch.where(self.stencil.unknown, self.product(r), r)
            # float32 has no room for squares of residuals near its ends
            axes = tuple(range(-self.stencil.ndim, 0))
            size = torch.linalg.vector_norm(r, torch.inf, axes, keepdim=True)
            size = size.masked_fill(size == 0, 1.0)
            made = self.product((r / size).to(self.dtype)).to(r.dtype) * size
            return torch.where(self.stencil.unknown, made, r)

    def to_scipy(self, problem: int = 0) -> LinearOperator:
        """Return M of one matrix for SciPy, on vectors in the order of `Stencil.to_csr`.

        Args:
            problem: Its place in the flattened batch.

        Example:
            >>> import scipy
            >>> import torch
            >>> from sciml.solvers.linear import Multigrid, Stencil
            >>> faces = torch.ones(1, 7, 8), torch.ones(1, 8, 7)
            >>> s = Stencil(faces, torch.ones(1, 8, 8), torch.ones(1, 8, 8) > 0)
            >>> b = s.to_csr() @ torch.ones(64).numpy()
            >>> cycle = Multigrid(s).to_scipy()
            >>> x, code = scipy.sparse.linalg.cg(s.to_csr(), b, M=cycle, rtol=1e-8)
            >>> code, round(float(x.mean()), 4)
            (0, 1.0)
        """
        grid = tuple(self.stencil.grid)
        where = self.stencil.unknown.reshape(-1, *grid)[problem].cpu()
        count = self.stencil.problems.numel()

        def product(v: np.ndarray) -> np.ndarray:
            r = torch.zeros(count, *grid, dtype=torch.float64)
            r[problem, where] = torch.as_tensor(v, dtype=torch.float64).reshape(-1)
            z = self.apply(r.reshape(self.stencil.shift.shape).to(self.stencil.shift.device))
            return z.reshape(count, *grid)[problem].cpu()[where].numpy()

        n = int(where.sum())
        return LinearOperator((n, n), matvec=product, rmatvec=product, dtype=np.float64)

    @abstractmethod
    def product(self, r: Tensor) -> Tensor:
        """Return M r in the dtype of the preconditioner; anything beside the unknowns."""


@typed
class Jacobi(StencilPreconditioner):
    """Division by the diagonal.

    Args:
        stencil: The matrices.
        dtype: As in `StencilPreconditioner`.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import Jacobi, Stencil
        >>> faces = torch.ones(1, 3, 4), torch.ones(1, 4, 3)
        >>> stencil = Stencil(faces, torch.ones(1, 4, 4), torch.ones(1, 4, 4) > 0)
        >>> [round(v, 4) for v in Jacobi(stencil).apply(torch.ones(1, 4, 4))[0, 1].tolist()]
        [0.25, 0.2, 0.2, 0.25]
    """

    def __init__(self, stencil: Stencil, dtype: torch.dtype | None = None) -> None:
        super().__init__(stencil, dtype)
        self.inverse = (self.stencil.unknown / self.stencil.diagonal).to(self.dtype)

    def product(self, r: Tensor) -> Tensor:
        """Return r over the diagonal."""
        return self.inverse * r

    def _keep(self, places: slice) -> None:
        self.inverse = self.inverse[places]
