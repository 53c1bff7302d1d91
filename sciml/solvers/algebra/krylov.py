"""Krylov solvers, all problems of a batch at once.

Every solver takes an `Operator`, a right-hand side and an optional start, and returns an `Outcome`.
Coefficients are per problem; finished problems stand still. The residual reported is the true one,
formed with one more product at the end.

A preconditioner is a function `operator -> (v -> M^{-1} v)`; it is called with the operator that is
solved, which in a backward pass is the transpose. `jacobi` and `LaggedFactor` are two.

References: Saad, Iterative Methods for Sparse Linear Systems, 2nd ed. 2003, algorithms 6.18 (CG),
7.7 (BiCGStab), 8.4 (CGNR); Paige & Saunders 1975 (MINRES).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.algebra.scaling import Preconditioner, ScaledSystem, divide
from sciml.solvers.batch_parts import joined, parts_of_vector
from sciml.solvers.bookkeeping import CHECK, SolverProgress, check_tolerances
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed


@dataclass(frozen=True)
class Krylov:
    """What short recurrences share; see `CG` for the arguments.

    Residuals of recurrences drift from the true ones, in float32 soon. Problems that believe to be
    done and are not start again from where they are, up to three times.

    Raises:
        InvalidArgument: For tolerances that cannot work.
    """

    rtol: float | Tensor | None = None
    atol: float = 0.0
    max_iter: int = 500
    every: int | None = None
    approximate = False
    needs_symmetry = False
    needs_definite = False
    slack = 2  # by which the residual of the recurrence may have drifted from the true one

    def __post_init__(self) -> None:
        """Check the tolerances."""
        check_tolerances(self.rtol, self.atol, self.max_iter)

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve `A x = b`; large batches part by part, see `sciml.solvers.batch_parts`."""
        parts = [slice(None)] if operator.part is None else parts_of_vector(b)
        if len(parts) == 1:
            return self._solved(operator, b, x0)
        return joined(
            [self._solved(operator.part(s), b[s], None if x0 is None else x0[s]) for s in parts]
        )

    def _solved(self, operator: Operator, b: Tensor, x0: Tensor | None) -> Outcome:
        """Solve one part."""
        out = self._swept(operator, b, x0)
        for _ in range(3):
            drifted = out.status == Status.STALLED
            if not bool(drifted.any()):
                break
            again = self._swept(operator, b, out.value)
            value = torch.where(operator.layout.spread(drifted, b), again.value, out.value)
            out = Outcome(
                value,
                torch.where(drifted, again.status, out.status),
                out.iterations + torch.where(drifted, again.iterations, 0),
                torch.where(drifted, again.residual, out.residual),
                torch.where(drifted, again.relative, out.relative),
                out.evaluations + again.evaluations,
            )
        return out

    def _swept(self, operator: Operator, b: Tensor, x0: Tensor | None) -> Outcome:
        """Solve once."""
        if self.needs_symmetry:
            _need_symmetric(operator, type(self).__name__)
        # MINRES and CG on the normal equations take no preconditioner
        system = ScaledSystem(operator, b, x0, self.atol, getattr(self, "preconditioner", None))
        progress = SolverProgress(
            operator.layout,
            system.x,
            self.rtol,
            system.atol,
            self.max_iter,
            self.every,
            monotone=False,
        )
        products = self._sweep(system, progress) + int(x0 is not None)
        # the residual of a recurrence may have drifted from the true one
        return system.outcome(progress, products, verify=True, slack=self.slack)

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        """Iterate, and return the number of products."""
        raise NotImplementedError


@typed
@dataclass(frozen=True)
class CG(Krylov):
    """Conjugate gradients, for symmetric positive (semi-)definite A.

    Args:
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        every: Iterations between looks at the device; None chooses.
        preconditioner: Symmetric positive definite.

    Raises:
        InvalidArgument: From the call, if A is not declared symmetric.

    Example:
        >>> import torch
        >>> from sciml.solvers import CG, linear_solve
        >>> b, doubled = torch.ones(1, 3), lambda x: 2 * x
        >>> linear_solve(doubled, b, linear=CG(), on_failure="raise", symmetric=True).value
        tensor([[0.5000, 0.5000, 0.5000]])
    """

    preconditioner: Preconditioner | None = None
    needs_symmetry = needs_definite = True

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        layout, precondition, x, r = system.layout, system.precondition, system.x, system.r
        z = precondition(r)
        p, rz, scale = z, layout.dot(r, z), layout.norm(system.b)
        indefinite = torch.zeros_like(rz, dtype=torch.bool)
        progress.update(x, layout.norm(r), scale)
        products = 0
        while progress.go_on():
            ap = system.matvec(p)
            curvature = layout.dot(p, ap)
            indefinite = indefinite | ~(curvature > 0)
            if products % CHECK == 0:
                progress.finish(indefinite, Status.SINGULAR)
            alpha = layout.spread(divide(rz, curvature), x)
            x = progress.keep(x + alpha * p)
            r = r - alpha * ap
            progress.update(x, layout.norm(r), scale)
            z = precondition(r)
            rz, old = layout.dot(r, z), rz
            p = z + layout.spread(divide(rz, old), x) * p
            products += 1
        progress.finish(indefinite, Status.SINGULAR)
        return products


@typed
@dataclass(frozen=True)
class NormalCG(Krylov):
    """CG on the normal equations (CGNR), for any square A.

    The condition number is squared: right up to about 1e6 in float64, useless beyond. The stop is
    on |b - A x|; a singular but consistent system gives the solution of minimum norm from zero.

    Example:
        >>> import torch
        >>> from sciml.solvers import NormalCG, linear_solve
        >>> b, turned = torch.tensor([[3.0, 1.0, 2.0]]), lambda x: x.roll(1, 1)
        >>> linear_solve(turned, b, linear=NormalCG(), on_failure="raise").value
        tensor([[1., 2., 3.]])
    """

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        layout, x, r = system.layout, system.x, system.r
        z = system.rmatvec(r)
        p, zz, scale = z, layout.dot(z, z), layout.norm(system.b)
        progress.update(x, layout.norm(r), scale)
        products = 0
        size, small = torch.zeros_like(scale), 100 * torch.finfo(x.dtype).eps
        while progress.go_on():
            ap = system.matvec(p)
            # A^T r = 0 with r != 0: the least-squares solution, the system is inconsistent
            size = size.maximum(divide(layout.norm(ap), layout.norm(p)))
            orthogonal = zz.sqrt() <= small * size * layout.norm(r)
            progress.finish(orthogonal, Status.SINGULAR)
            alpha = layout.spread(divide(zz, layout.dot(ap, ap)), x)
            x = progress.keep(x + alpha * p)
            r = r - alpha * ap
            progress.update(x, layout.norm(r), scale)
            z = system.rmatvec(r)
            zz, old = layout.dot(z, z), zz
            p = z + layout.spread(divide(zz, old), x) * p
            products += 2
        return products


@typed
@dataclass(frozen=True)
class MINRES(Krylov):
    """Minimum residuals, for symmetric A, definite or not; singular consistent systems too.

    Raises:
        InvalidArgument: From the call, if A is not declared symmetric.

    Example:
        >>> import torch
        >>> from sciml.solvers import MINRES, linear_solve
        >>> b, flipped = torch.ones(1, 2), lambda x: x.flip(1)  # eigenvalues 1 and -1
        >>> linear_solve(flipped, b, linear=MINRES(), on_failure="raise", symmetric=True).value
        tensor([[1., 1.]])
    """

    needs_symmetry = True

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        layout, x, r = system.layout, system.x, system.r
        beta = layout.norm(r)
        scale = layout.norm(system.b)
        progress.update(x, beta, scale)
        zero = torch.zeros_like(beta)
        v, old_v = r * layout.spread(divide(torch.ones_like(beta), beta), x), torch.zeros_like(x)
        d, old_d = torch.zeros_like(x), torch.zeros_like(x)
        # Givens rotations of the last two columns of the Lanczos matrix
        c, s, old_c, old_s = zero - 1, zero, zero - 1, zero
        eta, products = beta, 0
        beta = zero
        while progress.go_on():
            w = system.matvec(v) - layout.spread(beta, x) * old_v
            alpha = layout.dot(v, w)
            w = w - layout.spread(alpha, x) * v
            new_beta = layout.norm(w)
            # column (beta, alpha, new_beta) after the two earlier rotations
            epsilon = old_s * beta
            shifted = -old_c * beta
            delta = c * shifted + s * alpha
            gamma = s * shifted - c * alpha
            rho = torch.hypot(gamma, new_beta)
            old_c, old_s = c, s
            c, s = divide(gamma, rho), divide(new_beta, rho)
            progress.finish(rho == 0, Status.SINGULAR)
            spread = layout.spread
            new_d = v - spread(delta, x) * d - spread(epsilon, x) * old_d
            new_d = new_d * spread(divide(torch.ones_like(rho), rho), x)
            x = progress.keep(x + spread(c * eta, x) * new_d)
            eta = s * eta
            old_d, d = d, new_d
            old_v, v = v, w * spread(divide(torch.ones_like(rho), new_beta), x)
            beta = new_beta
            products += 1
            progress.update(x, eta.abs(), scale)
        return products


@typed
@dataclass(frozen=True)
class BiCGStab(Krylov):
    """Stabilised bi-conjugate gradients, for any square A; short recurrences, two products each.

    Args:
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        every: Iterations between looks at the device; None chooses.
        preconditioner: Applied from the right, so residuals stay true ones.

    Example:
        >>> import torch
        >>> from sciml.solvers import BiCGStab, linear_solve
        >>> linear_solve(torch.neg, torch.ones(1, 3), linear=BiCGStab(), on_failure="raise").value
        tensor([[-1., -1., -1.]])
    """

    preconditioner: Preconditioner | None = None

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        layout, precondition, x, r = system.layout, system.precondition, system.x, system.r
        shadow, p, rho, scale = r, r, layout.dot(r, r), layout.norm(system.b)
        progress.update(x, layout.norm(r), scale)
        products = 0
        small = torch.finfo(x.dtype).eps
        while progress.go_on():
            y = precondition(p)
            v = system.matvec(y)
            alpha = layout.spread(divide(rho, layout.dot(shadow, v)), x)
            s = r - alpha * v
            z = precondition(s)
            t = system.matvec(z)
            omega = layout.spread(divide(layout.dot(t, s), layout.dot(t, t)), x)
            x = progress.keep(x + alpha * y + omega * z)
            r = s - omega * t
            new_rho = layout.dot(shadow, r)
            beta = layout.spread(divide(new_rho, rho), x) * torch.where(
                omega == 0, torch.zeros_like(omega), alpha / omega
            )
            p = r + beta * (p - omega * v)
            # the shadow residual has become orthogonal: start again from the present residual
            lost = new_rho.abs() <= small * layout.norm(shadow) * layout.norm(r)
            wide = layout.spread(lost, x)
            shadow, p = torch.where(wide, r, shadow), torch.where(wide, r, p)
            rho = torch.where(lost, layout.dot(r, r), new_rho)
            products += 2
            progress.update(x, layout.norm(r), scale)
        return products


def _need_symmetric(operator: Operator, name: str) -> None:
    if not operator.symmetric:
        raise InvalidArgument(
            f"{name} for a matrix not declared symmetric",
            "a symmetric one",
            "Type symmetric=True if it is, else take GMRES(), BiCGStab() or NormalCG()",
        )
