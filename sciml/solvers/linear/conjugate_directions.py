"""Conjugate directions from any preconditioner, a learned one included, with safeguards.

Flexible CG takes the Polak-Ribiere coefficient, which is right for a preconditioner that varies a
little from step to step (rounded to float32, or not quite linear):

    beta = z_new . (r_new - r_old) / (z_old . r_old),      p = z_new + beta p

Conjugate directions (DCDM) take q = f(r / |r|) from any function f, linear or not, and make it
A-orthogonal to the last K directions, whose products with A are kept:

    d = q - sum_i (q . A d_i) / (d_i . A d_i) d_i,    alpha = d . r / d . A d,    x += alpha d

With f the identity and K >= 1 that is CG; with f a multiple of the inverse it is done in one step.
The A-norm of the error never rises, whatever f is.

Either can be left helpless by a bad f. Three tests see that, and `guarded` then goes on from where
the iteration stopped with a classical preconditioner, and says so in `Solution.stats["stage"]`:

    curvature   d . A d is not positive: A is not positive definite (`SINGULAR`)
    descent     z . r is not positive, or d . r is round-off: f is not definite (`PRECONDITIONER`)
    window      the residual fell by less than a tenth in `window` steps (`PRECONDITIONER`)

Sources: Kaneda et al. 2023, arXiv 2205.10763, algorithm 1 (the authors have no safeguards and
recompute the residual in every step); Notay 2000, SIAM J. Sci. Comput. 22(4) (flexible CG).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.solvers.algebra.krylov import Krylov
from sciml.solvers.algebra.linear_operators import Product
from sciml.solvers.algebra.refinement import Cascade
from sciml.solvers.algebra.scaling import Preconditioner, ScaledSystem, divide
from sciml.solvers.bookkeeping import CHECK, SolverProgress, check_counts
from sciml.solvers.solution import Status
from sciml.typed_arguments import typed

LEAST = 0.9  # factor by which the residual has to fall within the window


@typed
@dataclass(frozen=True)
class FlexibleCG(Krylov):
    """Flexible conjugate gradients, for symmetric positive (semi-)definite A.

    Converged means that the true residual is within the tolerance, without slack.

    Args:
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        every: Iterations between looks at the device; None chooses.
        preconditioner: Symmetric positive definite, at least nearly.
        window: Steps in which the residual has to fall by a tenth; None does not look.

    Raises:
        InvalidArgument: From the call, if A is not declared symmetric.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import FlexibleCG, Multigrid, Stencil
        >>> faces = torch.ones(1, 31, 32), torch.ones(1, 32, 31)
        >>> stencil = Stencil(faces, torch.ones(1, 32, 32) * 0.01, torch.ones(1, 32, 32) > 0)
        >>> solver = FlexibleCG(preconditioner=Multigrid(stencil))
        >>> b = torch.linspace(-1, 1, 32).expand(1, 32, 32)
        >>> stencil.solve(b, linear=solver, on_failure="raise").status.tolist()
        [0]
    """

    preconditioner: Preconditioner | None = None
    window: int | None = None
    needs_symmetry = needs_definite = True
    slack = 1

    def __post_init__(self) -> None:
        """Check tolerances and window."""
        super().__post_init__()
        check_window(self.window)

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        layout, x, r = system.layout, system.x, system.r
        scale, watch = layout.norm(system.b), _Watch(self.window, progress)
        progress.update(x, layout.norm(r), scale)
        if not progress.go_on():
            return 0
        z = system.precondition(r)
        p, rz = z, layout.dot(r, z)
        products = 0
        while progress.go_on():
            ap = system.matvec(p)
            curvature = layout.dot(p, ap)
            watch.signs(curvature, rz)
            alpha = layout.spread(divide(rz, curvature), x)
            x = progress.keep(torch.addcmul(x, alpha, p))
            r = torch.addcmul(r, alpha, ap, value=-1)
            progress.update(x, layout.norm(r), scale)
            products += 1
            watch.look()
            z = system.precondition(r)
            # r_new - r_old is what was subtracted, alpha A p with alpha = rz / curvature
            beta = divide(-layout.dot(z, ap), curvature)
            rz = layout.dot(r, z)
            p = torch.addcmul(z, layout.spread(beta, x), p)
        return products


@typed
@dataclass(frozen=True)
class ConjugateDirections(Krylov):
    """Conjugate directions from any function of the residual (DCDM), for SPD A.

    Args:
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations.
        every: Iterations between looks at the device; None chooses.
        preconditioner: `operator -> f`; f takes residuals of 2-norm 1 and returns directions of any
            scale and sign. None is the identity, which makes it CG.
        directions: K, directions that are kept; 0 is steepest descent along f.
        window: Steps in which the residual has to fall by a tenth; None does not look.

    Raises:
        InvalidArgument: From the call, if A is not declared symmetric.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import ConjugateDirections, Stencil, fixed
        >>> faces = torch.ones(1, 7, 8), torch.ones(1, 8, 7)
        >>> stencil = Stencil(faces, torch.ones(1, 8, 8), torch.ones(1, 8, 8) > 0)
        >>> solver = ConjugateDirections(preconditioner=fixed(torch.tanh), directions=2)
        >>> b = torch.linspace(-1, 1, 8).expand(1, 8, 8)
        >>> stencil.solve(b, linear=solver, on_failure="raise").status.tolist()
        [0]
    """

    preconditioner: Preconditioner | None = None
    directions: int = 2
    window: int | None = None
    needs_symmetry = needs_definite = True
    slack = 1

    def __post_init__(self) -> None:
        """Check tolerances, window and the number of directions."""
        super().__post_init__()
        check_window(self.window)
        check_counts(directions=self.directions)
        if self.directions < 0:
            raise InvalidArgument(f"directions={self.directions}", "zero or more", "Type 2")

    def _sweep(self, system: ScaledSystem, progress: SolverProgress) -> int:
        layout, x, r = system.layout, system.x, system.r
        scale, watch = layout.norm(system.b), _Watch(self.window, progress)
        kept: list[tuple[Tensor, Tensor, Tensor]] = []
        progress.update(x, layout.norm(r), scale)
        products, small = 0, 10 * torch.finfo(x.dtype).eps
        while progress.go_on():
            size = layout.norm(r)
            q = system.precondition(r / layout.spread(size.masked_fill(size == 0, 1.0), r))
            d = q
            for old, a_old, gamma in kept:
                share = layout.spread(divide(layout.dot(q, a_old), gamma), x)
                d = torch.addcmul(d, share, old, value=-1)
            w = system.matvec(d)
            curvature, along = layout.dot(d, w), layout.dot(d, r)
            # the sign of f does not matter; a direction across the residual leads nowhere
            descent = along.abs() - small * layout.norm(d) * layout.norm(r)
            watch.signs(curvature, descent)
            alpha = layout.spread(divide(along, curvature), x)
            x = progress.keep(torch.addcmul(x, alpha, d))
            r = torch.addcmul(r, alpha, w, value=-1)
            progress.update(x, layout.norm(r), scale)
            products += 1
            watch.look()
            kept = [*kept, (d, w, curvature)][-self.directions :] if self.directions else []
        return products


def check_window(window: int | None) -> None:
    """Refuse a window that cannot be.

    Raises:
        InvalidType: If it is not a whole number.
        InvalidArgument: If it is below 2.
    """
    if window is not None:
        check_counts(window=window)
        if window < 2:
            raise InvalidArgument(f"window={window}", "2 or more steps, or None", "Type window=10")


class _Watch:
    """The three tests of the module's text, per problem."""

    def __init__(self, window: int | None, progress: SolverProgress) -> None:
        self.window, self.progress = window, progress
        self.earlier: Tensor | None = None
        self.bent: Tensor | None = None  # curvature was not positive
        self.lost: Tensor | None = None  # z . r was not positive

    def signs(self, curvature: Tensor, descent: Tensor) -> None:
        """Note the signs of a step; a residual of zero has none and is done."""
        bent, lost = ~(curvature > 0), ~(descent > 0)
        self.bent = bent if self.bent is None else self.bent | bent
        self.lost = lost if self.lost is None else self.lost | lost

    def look(self) -> None:
        """End problems now and then; after `SolverProgress.update`: what is done is done."""
        progress = self.progress
        if progress.step % CHECK == 1:
            # NaN fails both tests and has a status of its own
            progress.finish(~progress.norm.isfinite(), Status.NONFINITE)
            progress.finish(self.lost, Status.PRECONDITIONER)
            progress.finish(self.bent, Status.SINGULAR)
        if self.window is not None and progress.step % self.window == 0:
            if self.earlier is not None:
                slow = ~(progress.residual <= LEAST * self.earlier)
                progress.finish(slow, Status.PRECONDITIONER)
            self.earlier = progress.residual


@typed
def fixed(product: Product) -> Preconditioner:
    """Return a preconditioner that is one function, whatever operator is solved.

    Example:
        >>> from sciml.solvers.linear import FlexibleCG, fixed
        >>> FlexibleCG(preconditioner=fixed(lambda r: r / 4)).window is None
        True
    """
    return lambda operator: product


@typed
def guarded(
    preconditioner: Preconditioner,
    fallback: Preconditioner | None = None,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    max_iter: int = 500,
    directions: int | None = None,
    window: int = 10,
    fallback_iter: int = 20_000,
) -> Cascade:
    """Return a solver that begins with a learned preconditioner and never relies on it.

    The first stage ends where its preconditioner breaks down, gives NaN or hardly helps. The second
    goes on from the best iterate with the classical one. `Solution.stats["stage"]` is 1 where it
    was needed.

    Args:
        preconditioner: The learned one.
        fallback: The classical one; None is plain CG.
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of iterations of the first stage.
        directions: None takes flexible CG, a number K takes `ConjugateDirections`.
        window: Steps in which the residual has to fall by a tenth in the first stage.
        fallback_iter: Largest number of iterations of the second stage.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import Multigrid, Stencil, fixed, guarded
        >>> faces = torch.ones(1, 15, 16), torch.ones(1, 16, 15)
        >>> stencil = Stencil(faces, torch.ones(1, 16, 16), torch.ones(1, 16, 16) > 0)
        >>> solver = guarded(fixed(lambda r: r / 5), Multigrid(stencil))
        >>> stencil.solve(torch.ones(1, 16, 16), linear=solver, on_failure="raise").status.tolist()
        [0]
    """
    shared = {"rtol": rtol, "atol": atol}
    if directions is None:
        first: Krylov = FlexibleCG(
            **shared, max_iter=max_iter, preconditioner=preconditioner, window=window
        )
    else:
        first = ConjugateDirections(
            **shared,
            max_iter=max_iter,
            preconditioner=preconditioner,
            directions=directions,
            window=window,
        )
    second = FlexibleCG(**shared, max_iter=fallback_iter, preconditioner=fallback)
    return Cascade((first, second), resume=True)
