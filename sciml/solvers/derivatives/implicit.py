"""The derivative of a solution, attached outside the solver's loop.

With xbar the solution found, A = dF/dx at xbar held constant, return x_s of the chord steps

    x_0 = xbar,    x_{k+1} = x_k - A^{-1} F(x_k, theta),    k = 0 ... s - 1.

The value stays xbar. Each step raises the order to which x_s agrees with the true x*(theta) by one:
the error is multiplied by I - A^{-1} dF/dx, which vanishes at xbar. So s steps give derivatives up
to order s, by ordinary differentiation of F and one primitive, a solve with the *constant* A:

    forward    the value, which is 0 up to the tolerance and is not computed
    vjp        a solve with A^T          jvp    a solve with A

Departure from Newton steps, whose s steps reach order 2^s - 1 but need derivatives of the solve in
A: for the orders that matter (1 and 2) the number of steps is the same, one factor of A serves
value, jvp, vjp and all orders, and F may capture parameters, which get their gradients (and
distributed hooks) through the ordinary backward pass. Differentiating more than s times raises.

Sources: Blondel et al. 2021, arXiv 2105.15183 (implicit derivative); Rader et al. 2024, arXiv
2402.09983 (rule on the linear solve rather than the nonlinear one).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.dense import DenseInverse
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.bookkeeping import check_counts
from sciml.solvers.compiler import uncompiled
from sciml.solvers.derivatives.adjoint_choice import cures, default_linear, name_of
from sciml.solvers.derivatives.derivative_order import guarded
from sciml.solvers.problem import Problem
from sciml.solvers.solution import LinearReport, Outcome, Policy, Status, check_policy, settle
from sciml.typed_arguments import typed


class WarmStart:
    """Remembers the last solution of the adjoint equation as the start of the next one.

    Give each layer its own. A start that is worse than zero is dropped by the solver.

    Example:
        >>> import torch
        >>> from sciml.solvers import GMRES, Implicit, WarmStart, fixed_point
        >>> c = torch.ones(1, 3, requires_grad=True)
        >>> rule = Implicit(GMRES(), warm_start=WarmStart())
        >>> for step in range(2):  # the second backward pass starts at the solution of the first
        ...     found = fixed_point(
        ...         lambda x, c: torch.sin(x) / 2 + c, c.detach(), (c,),
        ...         adjoint=rule, on_failure="raise",
        ...     )
        ...     found.value.sum().backward()
        >>> found.adjoint.outcome.iterations.tolist()
        [0]
    """

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def start(self, b: Tensor) -> Tensor | None:
        """Return the last solution if it fits."""
        fits = self.last is not None and self.last.shape == b.shape and self.last.dtype == b.dtype
        return self.last if fits and self.last.device == b.device else None


@typed
@dataclass(frozen=True)
class Implicit:
    """How a solution is differentiated.

    Args:
        linear: Solver of `A^T lambda = g` (and `A u = h` in forward mode); None refines with the
            factor that the forward solver left, or takes `Dense`, or a Krylov solver, see
            `sciml.solvers.derivatives.adjoint_choice`.
        order: How often the solution may be differentiated, s above.
        hessian: For least squares: `exact` or `gauss_newton`, which drops the curvature of the
            residuals and is therefore approximate unless they vanish.
        on_failure: What happens if the linear solve fails; `mask` zeroes the gradient of the
            problem, `best` keeps what was reached. None takes the policy of the forward solve.
        warm_start: Start of iterative solves in the backward pass.

    Raises:
        InvalidArgument: If `order` is below 1, or above 1 with an approximate derivative.

    Example:
        >>> import torch
        >>> from sciml.solvers import Dense, Implicit, root
        >>> a = torch.tensor([[4.0]], requires_grad=True)
        >>> rule = Implicit(Dense(), order=2)
        >>> x = root(
        ...     lambda x, a: x**2 - a, torch.ones(1, 1), (a,), adjoint=rule, on_failure="raise"
        ... ).value
        >>> (slope,) = torch.autograd.grad(x.sum(), a, create_graph=True)
        >>> (curvature,) = torch.autograd.grad(slope.sum(), a)
        >>> round(slope.item(), 4), round(curvature.item(), 5)  # of the square root, at 4
        (0.25, -0.03125)
    """

    linear: Any = None
    order: int = 1
    hessian: Literal["exact", "gauss_newton"] = "exact"
    on_failure: Policy | None = None
    warm_start: WarmStart | None = None

    def __post_init__(self) -> None:
        """Check the combination."""
        if self.on_failure is not None:
            check_policy(self.on_failure)
        if str(self.hessian) not in ("exact", "gauss_newton"):
            raise InvalidArgument(f"hessian={self.hessian!r}", "exact or gauss_newton")
        check_counts(order=self.order)
        if self.order < 1:
            raise InvalidArgument(f"order={self.order}", "1 or more")
        biased = self.hessian == "gauss_newton" or getattr(self.linear, "approximate", False)
        if self.order > 1 and biased:
            raise InvalidArgument(
                f"order={self.order} with an approximate derivative",
                "order=1",
                "Take an exact linear solver and hessian='exact' for higher derivatives",
            )

    def attach(
        self,
        problem: Problem,
        x: Tensor,
        theta: tuple[Tensor, ...],
        *,
        mask: Tensor | None = None,
        report: LinearReport | None = None,
        inverse: Any = None,
    ) -> Tensor:
        """Return `x` with its derivative; arguments and errors as in `attach` below."""
        return attach(problem, x, theta, self, mask=mask, report=report, inverse=inverse)

    def solver_for(self, operator: Operator, *, near_identity: bool = False) -> Any:
        """Return the linear solver for an operator; arguments as in `choice.default_linear`."""
        return self.linear or default_linear(operator, near_identity=near_identity)


@dataclass(eq=False)
class _Inverse:
    """The constant inverse of A at one solution, and where its solves are reported."""

    problem: Problem
    rule: Implicit
    report: LinearReport
    cache: list[Operator] = field(default_factory=list)
    rhs: int = 0  # leading axes of right-hand sides that share the operator
    forward: Any = None  # product with the inverse that the forward solver built, if it shares one

    def solve(self, transposed: bool, b: Tensor, x: Tensor, theta: tuple[Tensor, ...]) -> Tensor:
        """Return `A^{-1} b` or `A^{-T} b`, with plain tensors."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            if not self.cache:
                gauss_newton = self.rule.hessian == "gauss_newton"
                self.cache.append(self.problem.operator(x, theta, gauss_newton=gauss_newton))
                self._keep(self.cache[0])
            operator = self.cache[0]
            for size in reversed(b.shape[: self.rhs]):
                operator = operator.stacked(size)
            linear = self.rule.solver_for(
                self.cache[0], near_identity=self.problem.kind == "fixed_point"
            )
            warm = self.rule.warm_start if transposed else None
            start = warm.start(b) if warm else None
            out: Outcome = linear(operator.T if transposed else operator, b, start)
            self.report.outcome = Outcome(
                out.value.new_empty(0),
                out.status,
                out.iterations,
                out.residual,
                out.relative,
                out.evaluations,
            )
            settle(
                out,
                self.rule.on_failure or "raise",
                f"the linear solve of the derivative by {name_of(linear)}",
                "a linear solver that reaches its tolerance",
                lambda: cures(operator, linear, out.status),
            )
            value = out.value
            if self.rule.on_failure == "mask":
                fine = operator.layout.spread(out.status == Status.CONVERGED, value)
                value = torch.where(fine, value, torch.zeros_like(value))
            if warm:
                warm.last = value.detach()
            return value

    def _keep(self, operator: Operator) -> None:
        """Give the operator what the forward solver left."""
        operator.factors["forward"] = self.forward
        if self.problem.product is not None and isinstance(self.forward, DenseInverse):
            # A does not depend on x: the factor is its own
            operator.factors[self.forward.dense.structure] = self.forward.factor

    def for_many(self) -> _Inverse:
        """Return the same inverse for right-hand sides with one more leading axis."""
        return replace(self, rhs=self.rhs + 1)


class _Apply(torch.autograd.Function):
    """`r -> A^{-1} r` (or `A^{-T} r`) for constant A; x and theta carry no derivative."""

    @staticmethod
    def forward(
        inverse: _Inverse, transposed: bool, known_zero: bool, r: Tensor, x: Tensor, *theta: Tensor
    ) -> Tensor:
        return torch.zeros_like(r) if known_zero else inverse.solve(transposed, r, x, theta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.inverse, ctx.transposed, _, _, *point = inputs
        ctx.save_for_backward(*point)
        ctx.save_for_forward(*point)

    @staticmethod
    @uncompiled
    def backward(ctx: Any, g: Tensor) -> tuple:
        point = ctx.saved_tensors
        back = _Apply.apply(ctx.inverse, not ctx.transposed, False, g, *point)
        return None, None, None, back, *(None for _ in point)

    @staticmethod
    @uncompiled
    def jvp(ctx: Any, _inverse: None, _transposed: None, _zero: None, r: Tensor, *_: Any) -> Tensor:
        return _Apply.apply(ctx.inverse, ctx.transposed, False, r, *ctx.saved_tensors)

    @staticmethod
    @uncompiled
    def vmap(info: Any, in_dims: tuple, inverse: _Inverse, *rest: Any) -> tuple[Tensor, int]:
        transposed, known_zero, r, x, *theta = rest
        r_dim, x_dim, *dims = in_dims[3:]
        size, axis = info.batch_size, 0
        shared = x_dim is None and all(d is None for d in dims)
        if shared:
            inverse = inverse.for_many()
        else:
            # axes of right-hand sides that share a point stay in front
            axis = inverse.rhs
            x = x.expand(size, *x.shape) if x_dim is None else x.movedim(x_dim, 0)
            problem = inverse.problem.stacked(tuple(dims), info.randomness)
            inverse = replace(inverse, problem=problem, cache=[])
        r = r.expand(size, *r.shape).movedim(0, axis) if r_dim is None else r.movedim(r_dim, axis)
        return _Apply.apply(inverse, transposed, known_zero, r, x, *theta), axis


def attach(
    problem: Problem,
    x: Tensor,
    theta: tuple[Tensor, ...],
    rule: Implicit,
    *,
    mask: Tensor | None = None,
    report: LinearReport | None = None,
    inverse: Any = None,
) -> Tensor:
    """Return `x` with the derivative of the solution it is.

    Args:
        problem: Its optimality mapping and layout.
        x: Solution, however it was found; shape of the unknown.
        theta: Parameters, tensors; the function may capture further ones.
        rule: Linear solver and order.
        mask: `(*P)` booleans, problems that get a derivative; others get none.
        report: Filled by the linear solves.
        inverse: `(v, transposed) -> H v` with an approximate inverse H of dF/dx from the forward
            solver, or None.

    Raises:
        InvalidArgument: When differentiated more often than `rule.order`.
        ConvergenceError: In the backward pass, if the linear solve fails under `raise`.
    """
    point = x.detach()
    fixed = tuple(t.detach() for t in theta)
    solves = _Inverse(problem, rule, report or LinearReport(), forward=inverse)
    with torch.autocast(x.device.type, enabled=False):
        out = point
        for k in range(rule.order):
            r = problem.residual(out, *theta)
            if k == rule.order - 1:
                r = guarded(r, rule.order)
            out = out - _Apply.apply(solves, False, True, r, point, *fixed)
    if mask is not None:
        out = torch.where(problem.layout.spread(mask, out), out, point)
    return out
