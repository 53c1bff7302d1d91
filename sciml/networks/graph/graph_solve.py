"""Solves on graphs: `h = M h + b` per graph and head, with M given by weights on edges.

H independent systems per graph share one edge list. `EdgeOperator` is I - M with its products and
its matrix; `EdgeSolver` chooses a solver of the core for it and serves forward and backward pass
with the same factor. `equilibrium` is the entry point; derivatives are the core's: with
u = (I - M)^{-T} g,

    dL/db = u,    dL/dw_e = u[row_e] h[col_e]    (only on edges).

Rows of M with absolute sums at most c < 1 make h -> M h + b contract in the max-norm, and the
adjoint iteration in the 1-norm; |M|_2 may exceed 1 (a star with n leaves: sqrt(n)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.graph.graph_layers import Edges
from sciml.solvers import (
    Anderson,
    BiCGStab,
    Dense,
    Implicit,
    Operator,
    Outcome,
    Segments,
    Solution,
    fixed_point,
    linear_solve,
)
from sciml.solvers.algebra.contraction import Contraction
from sciml.solvers.bookkeeping import check_tolerances, default_tolerance, relative_to
from sciml.solvers.solution import Policy, Status

METHODS = ("auto", "iterate", "bicgstab", "dense")
PLAIN_UP_TO = 0.6  # contraction factor up to which plain iteration wins
MOST_STEPS = 20_000  # of plain iteration
MOST_KRYLOV_STEPS = 500  # in a few dozens it is done, or it stagnates
DENSE_UP_TO = 64  # nodes per graph up to which factors win
DENSE_ENTRIES = 2**24  # entries of all matrices together up to which factors are made
FEW_HEADS = 4  # up to which numbers are gathered one by one: short rows cost as much as long ones


class EdgeOperator(Operator):
    """`I - M` per graph and head.

    Args:
        edges: Edge list of the batch.
        weights: `(E, H)` entries of M, constants; parallel edges add up.
        layout: `Segments` of the graphs, with independent columns.
    """

    def __init__(self, edges: Edges, weights: Tensor, layout: Segments) -> None:
        like = weights.new_zeros(1).expand(edges.nodes, weights.shape[1])
        super().__init__(self._times, self._transposed_times, like, layout)
        self.edges, self.weights = edges, weights
        self._row, self._col, self._factors = edges.row, edges.col, weights
        self._few = weights.shape[1] <= FEW_HEADS
        if self._few:
            self._row, self._col = (_numbered(i, weights.shape[1]) for i in (edges.row, edges.col))
            self._factors = weights.reshape(-1)
        # reused: fresh memory costs more than the sum
        self._products = torch.empty_like(self._factors)

    def _times(self, h: Tensor) -> Tensor:
        return h - self._gathered(h, self._col, self._row)

    def _transposed_times(self, u: Tensor) -> Tensor:
        return u - self._gathered(u, self._row, self._col)

    def _gathered(self, h: Tensor, read: Tensor, write: Tensor) -> Tensor:
        values = h.reshape(-1) if self._few else h
        products = torch.index_select(values, 0, read, out=self._products).mul_(self._factors)
        out = torch.zeros_like(values)
        out = (
            out.scatter_add_(0, write, products)
            if self._few
            else out.index_add_(0, write, products)
        )
        return out.reshape(h.shape)

    def dense(self) -> Tensor:
        """Return `(G, H, n, n)` with an identity where smaller graphs are padded."""
        place, n = self.layout.slots()
        row, col = self.edges.row, self.edges.col
        where = (self.edges.graph[row] * n + place[row]) * n + place[col]
        a = self.weights.new_zeros(self.edges.graphs * n * n, self.weights.shape[1])
        a = a.index_add_(0, where, self.weights).reshape(self.edges.graphs, n, n, -1)
        return torch.eye(n).to(a) - a.permute(0, 3, 1, 2)


def _numbered(index: Tensor, width: int) -> Tensor:
    """Return the places of the rows `index` of a matrix of this width in its flat form."""
    return (index[:, None] * width + torch.arange(width, device=index.device)).reshape(-1)


class EdgeSolver:
    """Linear solver of the core for one `EdgeOperator`, forward and transposed.

    Residuals are reported in the norm in which M contracts, so that residual / (1 - c) bounds the
    error: the max-norm forward, the 1-norm for the transpose.

    Args:
        operator: What is solved.
        method: As in `linear_solver`.
        settings: Further arguments of `linear_solver`.
    """

    approximate = False

    def __init__(self, operator: EdgeOperator, method: str | Callable, **settings: Any) -> None:
        self.operator, self.solver = operator, linear_solver(method, **settings)

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve with the core's operator replaced by the explicit one."""
        if b.dim() != 2:  # several right-hand sides under vmap
            return self.solver(operator, b, x0)
        own = self.operator.T if operator.transposed else self.operator
        out = self.solver(own, b, x0)
        if isinstance(self.solver, BiCGStab) and b.dtype == torch.float32:
            out = self._again(own, b, out)
        p = 1 if own.transposed else math.inf
        out.residual = own.layout.norm(b - own.matvec(out.value), p)
        out.relative = relative_to(out.residual, own.layout.norm(b, p))
        return out

    def _again(self, own: Operator, b: Tensor, out: Outcome) -> Outcome:
        """Solve once more in float64 what stagnated: recurrences lose their signal to round-off.

        Trees and other graphs without odd cycles are prone to it.
        """
        failed = out.status != Status.CONVERGED
        if not bool(failed.any()):
            return out
        base = self.operator
        wide = EdgeOperator(base.edges, base.weights.double(), base.layout)
        rtol = default_tolerance(b.dtype) if self.solver.rtol is None else self.solver.rtol
        solver = replace(self.solver, rtol=rtol)
        again = solver(wide.T if own.transposed else wide, b.double())
        value = torch.where(own.layout.spread(failed, b), again.value.to(b.dtype), out.value)
        return Outcome(
            value,
            torch.where(failed, again.status, out.status),
            out.iterations + torch.where(failed, again.iterations, 0),
            out.residual,
            out.relative,
            out.evaluations + again.evaluations,
        )


def linear_solver(method: str | Callable, *, factor: float, rtol: float | None = None) -> Callable:
    """Return a linear solver of the core for I - M.

    Args:
        method: `iterate`, `bicgstab`, `dense`, or a solver object, which is returned.
        factor: Bound c < 1 on the norm of M; plain iteration gets the steps it guarantees.
        rtol: Relative tolerance; None takes that of the dtype.
    """
    if not isinstance(method, str):
        return method
    check_tolerances(rtol, 0.0)
    if method == "dense":
        return Dense()
    if method == "bicgstab":
        return BiCGStab(rtol=rtol, max_iter=MOST_KRYLOV_STEPS)
    # |r_k| <= c^k |b|
    steps = math.log(rtol or 1e-10) / math.log(max(factor, 0.1))
    return Contraction(rtol=rtol, max_iter=min(math.ceil(steps) + 10, MOST_STEPS))


def choose(edges: Edges, heads: int, factor: float) -> str:
    """Return the solver that is fastest for graphs of this size and contraction factor."""
    if factor <= PLAIN_UP_TO:
        return "iterate"
    largest = int(edges.sizes().max())
    small = largest <= DENSE_UP_TO and edges.graphs * heads * largest**2 <= DENSE_ENTRIES
    return "dense" if small else "bicgstab"


def equilibrium(
    edges: Edges,
    weights: Tensor,
    bias: Tensor,
    *,
    factor: float,
    phi: Callable[[Tensor], Tensor] | None = None,
    method: str | Callable = "auto",
    solver: Callable | None = None,
    adjoint: Implicit | None = None,
    on_failure: Policy,
    rtol: float | None = None,
    start: Tensor | None = None,
) -> Solution:
    """Solve `h = phi(M h + b)` for every graph and head, with derivatives in weights and bias.

    Args:
        edges: Edge list.
        weights: `(E, H)` entries of M, in the order of `edges`.
        bias: `(N, H)`.
        factor: Bound c < 1 on the absolute row sums of M; chooses the method.
        phi: Component-wise function with slope between -1 and 1; None for the identity.
        method: Linear solver: `auto`, `iterate`, `bicgstab`, `dense`, or a solver object.
        solver: Fixed-point solver, used if there is a `phi` or if it is given; `Anderson()`.
        adjoint: Derivative rule; its `linear` is filled with `method` where it is None.
        on_failure: `raise`, `warn`, `mask` or `best`, as in `sciml.solvers.root`.
        rtol: Relative tolerance; None takes that of the dtype.
        start: `(N, H)` first guess, for example the solution of a similar graph.

    Returns:
        Solution of shape `(N, H)`; status, iterations and residual are `(G, H)`.

    Raises:
        InvalidArgument: If the method is unknown.
        ConvergenceError: Under `raise`, if a system was not solved.
    """
    if isinstance(method, str) and method not in METHODS:
        raise InvalidArgument(f"linear={method!r}", f"one of {', '.join(METHODS)} or a solver")
    layout = Segments(edges.graph, edges.graphs, per_column=True)
    if method == "auto":
        method = choose(edges, bias.shape[1], factor)
    rule = adjoint or Implicit()
    if phi is None and solver is None:
        operator = EdgeOperator(edges, weights.detach(), layout)
        linear = EdgeSolver(operator, method, factor=factor, rtol=rtol)
        return linear_solve(
            lambda h, w: h - edges.propagate(w, h),
            bias,
            (weights,),
            linear=linear,
            adjoint=replace(rule, linear=linear) if rule.linear is None else rule,
            on_failure=on_failure,
            layout=layout,
            x0=start,
        )

    def update(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        z = edges.propagate(w, h) + b
        return z if phi is None else phi(z)

    if rule.linear is None:
        rule = replace(rule, linear=linear_solver(method, factor=factor, rtol=rtol))
    return fixed_point(
        update,
        torch.zeros_like(bias) if start is None else start,
        (weights, bias),
        solver=solver or Anderson(rtol=rtol),
        adjoint=rule,
        on_failure=on_failure,
        layout=layout,
    )


def row_norm(edges: Edges, weights: Tensor) -> Tensor:
    """Return `(G, H)`, the largest absolute row sum of M per graph and head."""
    layout = Segments(edges.graph, edges.graphs, per_column=True)
    return layout.norm(edges.sum(weights.abs()), math.inf)


def error_bound(edges: Edges, weights: Tensor, residual: Tensor) -> Tensor:
    """Return `(G, H)`, a bound on the max-norm error of h from the max-norm residual.

    From (I - M)(h* - h) = r follows |h* - h| <= |r| / (1 - |M|), all in the max-norm. The same
    with 1-norms bounds the error of the adjoint.
    """
    return residual / (1 - row_norm(edges, weights))
