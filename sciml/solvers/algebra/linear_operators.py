"""Linear operators known by their products, one square system per problem.

Products with a Jacobian come from reverse mode alone: `v^T A` is one pass through a recorded
graph, and `A v` is the derivative of `u -> u^T A`, which is linear in u (the double-vjp trick), so
its graph is recorded once as well. Forward mode would need nested levels inside a jvp rule, which
torch refuses.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.errors import InvalidArgument, PerformanceWarning
from sciml.solvers.layout import Layout

Product = Callable[[Tensor], Tensor]
CHUNK_BYTES = 2**26  # of unit vectors multiplied at once


class Operator:
    """A square matrix per problem, block diagonal over problems.

    Args:
        matvec: Product with A; takes and returns the shape of `like`.
        rmatvec: Product with the transpose of A; None if A is symmetric.
        like: A tensor of the unknown's shape, dtype and device.
        layout: Splits it into problems.
        symmetric: Whether A equals its transpose.
        positive_definite: Whether it is positive definite too.
        project: Of a singular symmetric A, the orthogonal projection onto its range. Krylov solvers
            solve A x = project(b) for the x in the range; None for a regular matrix.
        part: Returns the operator of a slice of the leading axis, which then has to count problems;
            Krylov solvers solve large batches part by part, see `sciml.solvers.batch_parts`.
        places: Of a part, the slice of the matrices that it has; None if it has all of them.

    Example:
        >>> import torch
        >>> from sciml.solvers import Dense, Operator, Rows
        >>> matrix = torch.tensor([[2.0, 1.0], [0.0, 4.0]])
        >>> a = Operator(lambda x: x @ matrix.T, lambda x: x @ matrix, torch.zeros(1, 2), Rows())
        >>> a.T.dense()[0].tolist()
        [[2.0, 0.0], [1.0, 4.0]]
        >>> Dense()(a, torch.tensor([[3.0, 4.0]])).value.tolist()
        [[1.0, 1.0]]
    """

    def __init__(
        self,
        matvec: Product,
        rmatvec: Product | None,
        like: Tensor,
        layout: Layout,
        *,
        symmetric: bool = False,
        positive_definite: bool = False,
        project: Product | None = None,
        part: Callable[[slice], Operator] | None = None,
        places: slice | None = None,
    ) -> None:
        self.matvec, self.project = matvec, project
        self.part, self.places = part, places
        self.rmatvec = matvec if rmatvec is None else rmatvec
        self.like, self.layout = like, layout
        self.symmetric = symmetric or positive_definite or rmatvec is None
        self.positive_definite = positive_definite
        self.base = self  # the operator this is a transpose or a stack of
        self.transposed = False
        self.factors: dict[str, object] = {}  # of the base, kept by the solver that made them
        self.matrix: Tensor | None = None  # A `(*P, n, n)` where it is at hand

    @property
    def unknowns(self) -> int:
        """Return n, the unknowns per problem (of the largest one, for graphs)."""
        return self.layout.pack(self.like).shape[-1]

    @property
    def T(self) -> Operator:  # noqa: N802 (the name tensors use)
        """Return the transpose."""
        if self.symmetric:
            return self
        out = Operator(self.rmatvec, self.matvec, self.like, self.layout)
        out.base, out.transposed = self.base, not self.transposed
        return out

    def dense(self) -> Tensor:
        """Return A as `(*P, n, n)`; the padding of `Segments` gets an identity."""
        if self.matrix is not None:
            return self.matrix
        layout, units = self.layout, self.layout.basis(self.like)
        if not self.like.numel():
            n = layout.pack(self.like).shape[-1]
            return self.like.new_zeros(*layout.problems(self.like), n, n)
        try:
            # e_k^T A of every problem at once, as many rows as fit
            row = self.like.numel() * self.like.element_size()
            chunk = max(1, CHUNK_BYTES // row)
            chunk = None if chunk >= len(units) else chunk
            rows = torch.vmap(self.rmatvec, chunk_size=chunk)(units)
        except RuntimeError as error:  # an operation without a batching rule, or too little memory
            warnings.warn(
                f"a matrix is assembled row by row, because torch.vmap failed: {error}",
                PerformanceWarning,
                stacklevel=2,
            )
            rows = [self.rmatvec(unit) for unit in units]
        a = torch.stack([layout.pack(row) for row in rows], -2)
        pad = layout.padding(self.like)
        return a if pad is None else a + torch.diag_embed(pad.to(a.dtype))

    def stacked(self, count: int) -> Operator:
        """Return the same operator for `count` right-hand sides along a new leading axis."""
        out = Operator(
            torch.vmap(self.matvec),
            None if self.rmatvec is self.matvec else torch.vmap(self.rmatvec),
            self.like.expand(count, *self.like.shape),
            self.layout.stacked(),
            symmetric=self.symmetric,
            positive_definite=self.positive_definite,
            project=None if self.project is None else torch.vmap(self.project),
        )
        out.base, out.transposed = self.base, self.transposed
        return out


def matrix_operator(
    matrix: Tensor,
    like: Tensor,
    layout: Layout,
    *,
    symmetric: bool = False,
    positive_definite: bool = False,
) -> Operator:
    """Return the operator of a matrix `(*P, n, n)` that is at hand; `dense()` returns it.

    Args:
        matrix: One square matrix per problem.
        like: A tensor of the unknown's shape, dtype and device.
        layout: Splits it into problems.
        symmetric: Whether the matrix equals its transpose.
        positive_definite: Whether it is positive definite too.
    """

    def times(a: Tensor) -> Product:
        return lambda v: layout.unpack((a @ layout.pack(v)[..., None])[..., 0], v)

    symmetric = symmetric or positive_definite
    out = Operator(
        times(matrix),
        None if symmetric else times(matrix.mT),
        like,
        layout,
        symmetric=symmetric,
        positive_definite=positive_definite,
    )
    out.matrix = matrix
    return out


class Linearised:
    """The Jacobian of a function at a point, by products; the graph is recorded once.

    Args:
        function: Maps a tensor to a tensor; differentiable in it.
        x: Where; it is detached.

    Raises:
        InvalidArgument: In inference mode, where nothing can be differentiated.
    """

    def __init__(self, function: Product, x: Tensor) -> None:
        if torch.is_inference_mode_enabled():
            raise InvalidArgument(
                "a solver that needs derivatives inside torch.inference_mode()",
                "no_grad at most",
                "Type trainer.inference_mode=False, or take Anderson, which needs none",
            )
        with torch.enable_grad():
            self.x = x.detach().requires_grad_()
            self.y = function(self.x)
        self._u: Tensor | None = None
        self._pulled: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """Return the function's value."""
        return self.y.detach()

    def transposed_times(self, v: Tensor) -> Tensor:
        """Return `J^T v` for v of the shape of the value."""
        if not self.y.requires_grad:
            return torch.zeros_like(self.x)
        return torch.autograd.grad(
            self.y, self.x, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]

    def times(self, v: Tensor) -> Tensor:
        """Return `J v` for v of the shape of `x`."""
        if not self.y.requires_grad:
            return torch.zeros_like(self.y)
        if self._pulled is None:
            with torch.enable_grad():
                self._u = torch.zeros_like(self.y, requires_grad=True)
                self._pulled = torch.autograd.grad(
                    self.y,
                    self.x,
                    self._u,
                    create_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )[0]
        if not self._pulled.requires_grad:
            return torch.zeros_like(self.y)
        return torch.autograd.grad(
            self._pulled, self._u, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]

    def operator(
        self, layout: Layout, *, symmetric: bool = False, positive_definite: bool = False
    ) -> Operator:
        """Return the Jacobian as a square operator."""
        if symmetric or positive_definite:
            matvec, rmatvec = self.transposed_times, None
        else:
            matvec, rmatvec = self.times, self.transposed_times
        return Operator(
            matvec,
            rmatvec,
            self.x.detach(),
            layout,
            symmetric=symmetric,
            positive_definite=positive_definite,
        )

    def normal_operator(self, layout: Layout) -> Operator:
        """Return `J^T J`, the Gauss-Newton approximation of a least-squares Hessian."""

        def product(v: Tensor) -> Tensor:
            return self.transposed_times(self.times(v))

        return Operator(product, None, self.x.detach(), layout, symmetric=True)
