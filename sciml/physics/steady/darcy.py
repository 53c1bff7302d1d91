"""Darcy flow through a random medium, by finite volumes.

    -div(a grad u) = 1  in the unit square,    u = 0 on its boundary,

with one value of a per cell. The flux through a face is a_face (u_right - u_left) / h with the
harmonic mean a_face = 2 a_l a_r / (a_l + a_r), exact for layers aligned with the faces; the
boundary is half a cell away, so its faces carry 2 a u / h. The matrix is symmetric positive
definite. Conjugate gradients are preconditioned by the solution operator for a = 1, a fast solver
by sine transforms: the condition number is at most the contrast of a, on every grid. Where a is
smooth and its contrast large, scaling by a^-1/2 from both sides is better.

Reference for the random media: Li et al. 2021, arXiv 2010.08895 (section 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sciml.physics.checks import check_choice, check_number, check_positive
from sciml.physics.steady.periodic import cosine_field
from sciml.solvers import CG, Operator, Solution, linear_solve
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed


@typed
class Darcy:
    """-div(a grad u) = 1, u = 0 on the boundary of the unit square.

    Args:
        n: Cells per side.
        kind: `log_normal`: a = exp(spread m); `two_phase`: a is `low` where m < 0, else `high`.
        tau: Inverse correlation length of the Gaussian field m.
        alpha: Decay of its spectrum.
        spread: Standard deviation of log a.
        low: Smaller coefficient of two phases.
        high: Larger one.
        harder: Factor on tau for hard media.
        harder_contrast: Factor on the logarithm of the contrast of hard media.

    Example:
        >>> import torch
        >>> from sciml.physics.steady import Darcy
        >>> darcy = Darcy(n=16)
        >>> a = darcy.draw(2, torch.Generator().manual_seed(0))
        >>> u = darcy.solve(a).value
        >>> tuple(u.shape), bool(darcy.residual(u, a).abs().max() < 1e-6)
        ((2, 16, 16), True)
    """

    periodic = False

    def __init__(
        self,
        n: int = 32,
        *,
        kind: Literal["log_normal", "two_phase"] = "two_phase",
        tau: float = 3.0,
        alpha: float = 2.0,
        spread: float = 1.0,
        low: float = 3.0,
        high: float = 12.0,
        harder: float = 1.5,
        harder_contrast: float = 1.5,
    ) -> None:
        check_choice("problem.kind", kind, ("log_normal", "two_phase"))
        self.n, self.kind = n, kind
        self.tau = check_number("problem.tau", tau, 0.0)
        self.alpha = check_positive("problem.alpha", alpha)
        self.spread = check_positive("problem.spread", spread)
        self.low, self.high = (
            check_positive("problem.low", low),
            check_positive("problem.high", high),
        )
        self.harder = check_positive("problem.harder", harder)
        self.harder_contrast = check_positive("problem.harder_contrast", harder_contrast)

    def draw(self, count: int, generator: torch.Generator, *, hard: bool = False) -> Tensor:
        """Return coefficients a `(count, n, n)` at cell centres; hard ones are rougher."""
        tau = self.tau * (self.harder if hard else 1.0)
        contrast = self.harder_contrast if hard else 1.0
        m = cosine_field(count, self.n, generator, tau=tau, alpha=self.alpha)
        if self.kind == "log_normal":
            return torch.exp(contrast * self.spread * m)
        centre = math.sqrt(self.low * self.high)
        ratio = (self.high / self.low) ** (contrast / 2)
        return centre * ratio ** torch.where(m < 0, -torch.ones_like(m), torch.ones_like(m))

    def product(self, u: Tensor, a: Tensor) -> Tensor:
        """Return -div(a grad u) per cell, `(count, n, n)`."""
        out = torch.zeros_like(u)
        for axis in (-2, -1):
            # a ghost cell with -u and the same a puts the zero on the face
            first, last = u.narrow(axis, 0, 1), u.narrow(axis, self.n - 1, 1)
            wide = torch.cat([-first, u, -last], axis)
            edge = a.narrow(axis, 0, 1), a.narrow(axis, self.n - 1, 1)
            medium = torch.cat([edge[0], a, edge[1]], axis)
            left, right = medium.narrow(axis, 0, self.n + 1), medium.narrow(axis, 1, self.n + 1)
            flux = 2 * left * right / (left + right) * wide.diff(dim=axis)
            out = out - flux.diff(dim=axis)
        return out * self.n**2

    def residual(self, u: Tensor, given: Tensor) -> Tensor:
        """Return -div(a grad u) - 1, `(count, n, n)`."""
        return self.product(u, given) - 1

    def solve(self, given: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return u `(count, n, n)` for the source 1, differentiable in a; see `solve_source`."""
        return self.solve_source(given, torch.ones_like(given), on_failure)

    def solve_source(self, a: Tensor, source: Tensor, on_failure: Policy = "raise") -> Solution:
        """Return the solution of -div(a grad u) = source, `(count, n, n)` at cell centres.

        Args:
            a: Positive coefficients `(count, n, n)`.
            source: Right-hand sides of the same shape.
            on_failure: See `sciml.solvers.linear_solve`.
        """
        root = a.detach().rsqrt() if self.kind == "log_normal" else 1.0

        def precondition(operator: Operator) -> Callable[[Tensor], Tensor]:
            return lambda v: root * self.inverse_laplacian(root * v)

        return linear_solve(
            self.product,
            source,
            (a,),
            linear=CG(preconditioner=precondition),
            on_failure=on_failure,
            symmetric=True,
            positive_definite=True,
        )

    def inverse_laplacian(self, v: Tensor) -> Tensor:
        """Return the solution of the discrete problem with a = 1, by sine transforms."""
        k = torch.arange(1, self.n + 1, dtype=v.dtype, device=v.device)
        x = (torch.arange(self.n, dtype=v.dtype, device=v.device) + 0.5) / self.n
        scale = torch.full_like(k, math.sqrt(2.0 / self.n))
        scale[-1] = math.sqrt(1.0 / self.n)
        waves = torch.sin(math.pi * k[:, None] * x) * scale[:, None]  # orthogonal, (k, x)
        value = (2 * self.n * torch.sin(math.pi * k / (2 * self.n))) ** 2
        return waves.T @ ((waves @ v @ waves.T) / (value[:, None] + value)) @ waves
