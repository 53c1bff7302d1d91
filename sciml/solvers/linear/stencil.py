"""Symmetric nearest-neighbour matrices on 1-D, 2-D and 3-D grids, a batch of them at once.

    (A x)_c = s_c x_c + sum over the faces f of cell c of w_f (x_c - x_nb(f))

With w >= 0 and s >= 0 this is a symmetric, weakly diagonally dominant M-matrix, positive
semi-definite, and positive definite on every connected component in which some s is positive. A
component without one is singular with the constant as its null vector. Pressure, diffusion and
heat on regular grids have this form, see `sciml.physics.fluids`.

Cells that are no unknowns (solid, air) stay in the arrays: no face joins them to anything and
their diagonal is 1, so A is the identity there and vectors that are zero there stay so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from scipy import sparse
from torch import Tensor

from sciml.arguments import booleans, shown, tensor, tensors
from sciml.errors import InvalidArgument, InvalidType
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.derivatives.implicit import Implicit
from sciml.solvers.entry_points import linear_solve
from sciml.solvers.layout import Rows
from sciml.solvers.linear.grid_graph import (
    add_flows,
    add_neighbours_,
    around,
    check_graph,
    singular_components,
    sparse_matrix,
    without_means,
)
from sciml.solvers.norms import transformed
from sciml.solvers.solution import Policy, Solution
from sciml.tensor_types import check_alike
from sciml.typed_arguments import typed


@dataclass(frozen=True, eq=False)
class Stencil:
    """A batch of matrices of the form above; P is the shape of the batch, often `(B,)`.

    Args:
        faces: Per axis the weights of the interior faces, `(*P, *grid)` with one entry less along
            that axis; zero where nothing is joined.
        shift: `(*P, *grid)`, s above: zero in the interior, positive beside a fixed value.
        unknown: `(*P, *grid)` booleans, cells that are solved for.

    Raises:
        InvalidType: If weights are not real floating-point tensors, or `unknown` is not boolean.
        InvalidArgument: If shapes do not fit each other.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import Stencil
        >>> w = torch.ones(1, 15, 16), torch.ones(1, 16, 15)  # Neumann walls all around
        >>> Stencil(w, torch.zeros(1, 16, 16), torch.ones(1, 16, 16) > 0).singular
        tensor([True])
    """

    faces: tuple[Tensor, ...]
    shift: Tensor
    unknown: Tensor

    def __post_init__(self) -> None:
        """Check types and shapes; values are looked at by `check`."""
        for name, kind in (("faces", tensors), ("shift", tensor), ("unknown", booleans)):
            if wanted := kind(getattr(self, name)):
                raise InvalidType(f"{name} is {shown(getattr(self, name))}", wanted)
        object.__setattr__(self, "faces", tuple(self.faces))
        check_alike(shift=self.shift, **{f"faces[{a}]": w for a, w in enumerate(self.faces)})
        shape, d = tuple(self.shift.shape), len(self.faces)
        wanted = [
            tuple(n - (a == i - (len(shape) - d)) for i, n in enumerate(shape)) for a in range(d)
        ]
        got = [tuple(w.shape) for w in self.faces]
        if not 1 <= d <= len(shape) or tuple(self.unknown.shape) != shape or got != wanted:
            raise InvalidArgument(
                f"faces of shapes {got}, shift {shape}, unknown {tuple(self.unknown.shape)}",
                f"faces of shapes {wanted}, and shift and unknown of one shape",
            )

    @property
    def ndim(self) -> int:
        """Return the number of axes of the grid."""
        return len(self.faces)

    @property
    def grid(self) -> torch.Size:
        """Return the cells per axis."""
        return self.shift.shape[-self.ndim :]

    @property
    def problems(self) -> torch.Size:
        """Return P."""
        return self.shift.shape[: -self.ndim]

    @cached_property
    def diagonal(self) -> Tensor:
        """Return the diagonal of A `(*P, *grid)`, 1 at cells that are no unknowns."""
        return torch.where(self.unknown, around(self.faces) + self.shift, 1.0)

    def check(self) -> Stencil:
        """Return the stencil after looking at its values, once per matrix.

        Raises:
            InvalidArgument: For weights that are negative or not finite, for a face or a shift at
                a cell that is no unknown, or for an unknown with a zero row.
        """
        check_graph(self.faces, self.shift, self.unknown)
        return self

    # --- products ---------------------------------------------------------------------------
    @typed
    def times(self, x: Tensor) -> Tensor:
        """Return A x, `(..., *P, *grid)`; differentiable in x and in the weights."""
        recorded = torch.is_grad_enabled() and any(
            t.requires_grad for t in (self.shift, *self.faces)
        )
        if recorded or transformed():
            # nothing is written in place: the same terms as flows through faces
            return add_flows(torch.where(self.unknown, self.shift, 1.0) * x, self.faces, x)
        return add_neighbours_(self.diagonal * x, self.faces, x, -1)

    def operator(self, like: Tensor) -> Operator:
        """Return A for the solvers of this package, with its projection if it is singular.

        Args:
            like: A right-hand side, `(..., *P, *grid)`.
        """
        singular = bool(self.singular.any())
        return Operator(
            self.times,
            None,
            like,
            Rows(like.dim() - self.ndim),
            symmetric=True,
            positive_definite=not singular,
            project=self.project if singular else None,
            part=self._parts(like),
        )

    def _parts(self, like: Tensor) -> Callable[[slice], Operator] | None:
        """Return slice -> the operator of these leading entries of `like`, see `Operator`."""
        lead = like.dim() - self.ndim
        if lead < 1 or transformed():
            return None
        own = lead == len(self.problems) and len(like) == self.problems[0]
        mine = self.detach()

        def part(places: slice) -> Operator:
            out = (mine.part(places) if own else mine).operator(like[places])
            out.places = places if own else None
            return out

        return part

    def part(self, places: slice) -> Stencil:
        """Return the matrices of a slice of the first axis of P, views; what is known stays so."""
        out = self[places]
        known = self.__dict__
        if "_components" in known:  # numbers and sizes stay those of the whole
            label, sizes = known["_components"]
            out.__dict__["_components"] = label[places], sizes
        if "diagonal" in known:
            out.__dict__["diagonal"] = known["diagonal"][places]
        return out

    @typed
    def solve(
        self,
        b: Tensor,
        *,
        linear: Any,
        on_failure: Policy,
        x0: Tensor | None = None,
        adjoint: Implicit | None = None,
    ) -> Solution:
        """Solve A x = b, with derivatives in b, `shift` and `faces` by one more solve.

            dL/db = lambda,  dL/dw_f = -(lambda_c - lambda_nb)(x_c - x_nb),  dL/ds_c = -lambda_c x_c

        with A lambda = dL/dx. Values of b at cells that are no unknowns are ignored. In a singular
        component b is replaced by b minus its mean there, and x has mean zero.

        Args:
            b: Right-hand sides `(..., *P, *grid)`.
            linear: `CG()`, `FlexibleCG(...)`, `guarded(...)`; the derivative takes it too.
            on_failure: `raise`, `warn`, `mask` or `best`, see `sciml.solvers.root`.
            x0: Start of the iteration.
            adjoint: Derivative rule, by default `Implicit(linear)`.

        Raises:
            InvalidArgument: If b does not fit the grid.
            ConvergenceError: Under `raise`, if a problem was not solved.
        """
        self.check_fits(b)
        b = torch.where(self.unknown, b, 0.0)
        singular = bool(self.singular.any())
        last: tuple[tuple[Tensor, ...], Stencil] = (self.shift, *self.faces), self

        def stencil(x: Tensor, *weights: Tensor) -> Tensor:
            nonlocal last
            # a solve calls with the same tensors again and again: the diagonal is formed once
            if any(new is not old for new, old in zip(weights, last[0], strict=True)):
                last = weights, Stencil(weights[1:], weights[0], self.unknown)
            return last[1].times(x)

        return linear_solve(
            stencil,
            b,
            (self.shift, *self.faces),
            linear=linear,
            on_failure=on_failure,
            adjoint=adjoint,
            layout=Rows(b.dim() - self.ndim),
            x0=x0,
            symmetric=True,
            positive_definite=not singular,
            project=self.project if singular else None,
            part=self._parts(b.detach()),
        )

    def check_fits(self, b: Tensor) -> None:
        """Refuse a vector that does not fit.

        Raises:
            InvalidArgument: If its last axes are not those of the weights.
        """
        if tuple(b.shape[b.dim() - self.shift.dim() :]) != tuple(self.shift.shape):
            one = self.problems.numel() == 1 and tuple(b.shape[-self.ndim :]) == tuple(self.grid)
            if not (one and b.dim() >= self.shift.dim()):
                raise InvalidArgument(
                    f"a vector of shape {tuple(b.shape)} for matrices on {tuple(self.shift.shape)}",
                    f"shape (..., {', '.join(map(str, self.shift.shape))})",
                )

    # --- connected components ---------------------------------------------------------------
    @cached_property
    def _components(self) -> tuple[Tensor, Tensor]:
        """Return labels of singular components `(*P, *grid)`, 0 elsewhere, and their sizes."""
        return singular_components(self.faces, self.shift, self.unknown)

    @cached_property
    def singular(self) -> Tensor:
        """Return which matrices have a singular component, `(*P)` booleans."""
        return (self._components[0] > 0).flatten(-self.ndim).any(-1)

    def project(self, v: Tensor) -> Tensor:
        """Return v `(..., *P, *grid)` less its mean in every singular component."""
        label, sizes = self._components
        lead = v.dim() - self.ndim - len(self.problems)
        shared = tuple(v.shape[lead:]) != tuple(self.shift.shape)  # one matrix, many vectors
        lead = v.dim() - self.ndim if shared else lead
        flat = v.reshape(*v.shape[:lead], label.numel())
        return without_means(flat, label.flatten(), sizes).reshape(v.shape)

    # --- conversions ------------------------------------------------------------------------
    def to(self, *where: Any) -> Stencil:
        """Return the stencil with its weights in another dtype or on another device."""
        faces = tuple(w.to(*where) for w in self.faces)
        shift = self.shift.to(*where)
        return Stencil(faces, shift, self.unknown.to(shift.device))

    def detach(self) -> Stencil:
        """Return the stencil without a graph; what is known of its components stays so."""
        out = Stencil(tuple(w.detach() for w in self.faces), self.shift.detach(), self.unknown)
        if "_components" in self.__dict__:
            out.__dict__["_components"] = self._components
        return out

    def __getitem__(self, which: Any) -> Stencil:
        """Return the matrices that an index of P picks."""
        return Stencil(tuple(w[which] for w in self.faces), self.shift[which], self.unknown[which])

    def map(self, function: Callable[[Tensor], Tensor]) -> Stencil:
        """Return the stencil with a function applied to every array, `torch.Tensor.flip` say."""
        return Stencil(
            tuple(map(function, self.faces)), function(self.shift), function(self.unknown)
        )

    def to_csr(self, problem: int = 0) -> sparse.csr_array:
        """Return one matrix over its unknowns, in the order of `x[problem][unknown[problem]]`.

        Args:
            problem: Its place in the flattened batch.
        """
        d = self.ndim
        alone = self.map(lambda t: t.detach().reshape(-1, *t.shape[-d:])[problem].cpu())
        faces = [w.numpy() for w in alone.faces]
        return sparse_matrix(faces, alone.diagonal.numpy(), alone.unknown.numpy())
