"""Restarted GMRES, all problems of a batch at once.

Reference: Saad & Schultz 1986, SIAM J. Sci. Stat. Comput. 7(3); Saad 2003, algorithm 6.9.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.algebra.krylov import Krylov
from sciml.solvers.algebra.linear_operators import Operator
from sciml.solvers.algebra.scaling import Preconditioner, ScaledSystem, divide
from sciml.solvers.bookkeeping import SolverProgress
from sciml.solvers.solution import Outcome, Status
from sciml.typed_arguments import typed


@typed
@dataclass(frozen=True)
class GMRES(Krylov):
    """Restarted generalised minimum residuals, for any square A.

    The residual norm inside a cycle comes from the left null vector w of the Hessenberg matrix,
    |r_k| = |r_0| |w_0| / |w|, one small sum per step instead of rotations; the small least-squares
    problem is solved once per cycle.

    Args:
        rtol: Tolerance on |b - A x| / |b|; None takes 1e-10 in float64, 1e-5 below.
        atol: Absolute tolerance.
        max_iter: Largest number of products, over all cycles.
        every: Products between looks at the device; None chooses.
        preconditioner: Applied from the right, so residuals stay true ones.
        restart: Products per cycle; memory is `restart + 1` unknowns.

    Example:
        >>> import torch
        >>> from sciml.solvers import GMRES, linear_solve
        >>> a, b = torch.tensor([[2.0, -1.0], [1.0, 2.0]]), torch.tensor([[0.0, 5.0]])
        >>> found = linear_solve(lambda x: x @ a.T, b, linear=GMRES(), on_failure="raise")
        >>> [round(v, 4) for v in found.value[0].tolist()]
        [1.0, 2.0]
    """

    preconditioner: Preconditioner | None = None
    restart: int = 40

    def __call__(self, operator: Operator, b: Tensor, x0: Tensor | None = None) -> Outcome:
        """Solve `A x = b`."""
        layout = operator.layout
        system = ScaledSystem(operator, b, x0, self.atol, self.preconditioner)
        x, r, scale = system.x, system.r, layout.norm(system.b)
        products = int(x0 is not None)
        progress = SolverProgress(layout, x, self.rtol, system.atol, self.max_iter, 1)
        small = torch.finfo(b.dtype).eps ** 0.5
        look = self.every or (1 if b.device.type == "cpu" else 8)
        progress.update(x, layout.norm(r), scale)
        while progress.go_on():
            before = progress.step
            budget = min(self.restart, self.max_iter - before)
            correction, used, steps = self._cycle(system, r, progress, scale, budget, look)
            x = progress.keep(x + correction)
            r = system.b - system.matvec(x)
            products += used + 1
            progress.step = before + used - 1
            norm, active = layout.norm(r), progress.active
            # a cycle that gains nothing will not gain later: round-off, or A is singular
            stuck = norm >= 0.999 * progress.residual
            progress.update(x, norm, scale)
            progress.finish(stuck & (norm <= small * scale), Status.STALLED)
            progress.finish(stuck, Status.SINGULAR)
            progress.iterations = torch.where(active, before + steps, progress.iterations)
        return system.outcome(progress, products, verify=False)

    def _cycle(
        self,
        system: ScaledSystem,
        r: Tensor,
        progress: SolverProgress,
        scale: Tensor,
        budget: int,
        look: int,
    ) -> tuple[Tensor, int, Tensor]:
        """Return a correction, the products used, and the products each problem needed."""
        layout = system.layout
        beta = layout.norm(r)
        bound = 0.5 * (progress.atol + progress.rtol * scale)
        active = progress.active.clone()
        steps = torch.zeros_like(progress.iterations)
        basis = r.new_zeros(budget + 1, *r.shape)
        basis[0] = r * layout.spread(divide(torch.ones_like(beta), beta), r)
        h = r.new_zeros(budget + 1, budget, *beta.shape)
        null = r.new_zeros(budget + 1, *beta.shape)
        null[0] = 1
        used, usual = 0, torch.ones_like(beta)
        for k in range(budget):
            known = basis[: k + 1]
            w = system.matvec(system.precondition(basis[k]))
            length = layout.norm(w)
            if k == 0:
                usual = length.masked_fill(length == 0, 1.0)
            for _ in range(2):
                c = layout.dots(known, w)
                w = w - layout.combine(c, known)
                h[: k + 1, k] += c
                new = layout.norm(w)
                # Gram-Schmidt must be repeated where most of the vector was removed
                if w.device.type == "cpu" and not bool((new < 0.1 * length).any()):
                    break
            new = torch.where(new > 10 * torch.finfo(r.dtype).eps * length, new, 0.0)
            # columns of finished problems get a number of the usual size below the diagonal: they
            # add nothing
            h[: k + 1, k] *= active
            h[k + 1, k] = torch.where(active, new, usual)
            gain = -(null[: k + 1] * h[: k + 1, k]).sum(0)
            broken = (new == 0) & active  # the space is exhausted: solved, or singular
            null[k + 1] = torch.where(active & ~broken, divide(gain, new), 0.0)
            steps += active
            used = k + 1
            estimate = beta / torch.linalg.vector_norm(null[: k + 2], dim=0)
            active = active & ~broken & (estimate > bound)
            inverse = torch.where(active, divide(torch.ones_like(new), new), 0.0)
            basis[k + 1] = w * layout.spread(inverse, w)
            if used % look == 0 and not bool(active.any()):
                break
        y = _small_least_squares(h[: used + 1, :used], beta)
        return system.precondition(layout.combine(y, basis[:used])), used, steps


def _small_least_squares(h: Tensor, beta: Tensor) -> Tensor:
    """Return `argmin |beta e_1 - H y|` `(k, *P)` for H `(k + 1, k, *P)`, in float64."""
    matrix = h.movedim((0, 1), (-2, -1)).double()
    matrix = torch.where(matrix.isfinite(), matrix, torch.zeros_like(matrix))
    q, upper = torch.linalg.qr(matrix)
    rhs = q[..., 0, :] * beta[..., None].double()
    # a vanishing pivot is an exhausted direction that carries no information
    pivot = upper.diagonal(dim1=-2, dim2=-1).abs()
    dead = pivot <= 1e-14 * pivot.amax(-1, keepdim=True)
    upper = upper.masked_fill(torch.diag_embed(dead), 1.0)
    rhs = rhs.masked_fill(dead, 0.0)
    y = torch.linalg.solve_triangular(upper, rhs[..., None], upper=True)[..., 0]
    return y.movedim(-1, 0).to(h.dtype)
