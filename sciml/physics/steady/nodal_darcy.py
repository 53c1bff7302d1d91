"""Darcy flow on nodes, for media that files give as numbers: a coarse solve to learn from.

    -div(a grad u) = 1  in the unit square,    u = 0 on its boundary,    a = low + (high - low) x

x is what the file holds: 0 and 1 where a medium has two phases, the coefficient itself with low = 0
and high = 1. Files rarely say what a is, so both numbers can be fitted to known solutions. The flux
through the face between two nodes is a_face (u_right - u_left) / h. Where x is only known at the
nodes, the solve is as wrong as that: `data.coarse` gives it to a network that learns the rest.

With `refine` the equation is solved on a finer grid, whose nodes take x from a cubic interpolation;
that of two phases is cut at one half, so that their boundaries are curves and not stairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sciml.errors import InvalidArgument
from sciml.physics.checks import check_choice, check_positive
from sciml.solvers import CG, Operator, Solution, linear_solve
from sciml.solvers.solution import Policy
from sciml.typed_arguments import typed

RATIOS = [10.0 ** (k / 2) for k in range(-4, 5)]  # of high to low, tried first
NARROWED = 12  # steps of the golden section between the neighbours of the best of them
FINEST = 16  # intervals of the solve in one of the input's
LOOK = 100  # samples that numbers are fitted to at most


@typed
class NodalDarcy:
    """-div(a grad u) = 1 on the nodes of a square grid.

    Args:
        low: a where the input is 0; None to fit both to known solutions.
        high: a where the input is 1.
        grid: Nodes i / n, the right and upper end left out ("left"), or i / (n - 1) ("both").
        mean: Of the two nodes of a face, "harmonic" or "arithmetic".
        refine: Intervals of the solve in one of the input's, 1 to 16.
        phases: Whether inputs are two phases, for `refine`; None to look at what is fitted to, or
            at every sample by itself.

    Raises:
        InvalidArgument: For numbers that cannot be.

    Example:
        >>> import torch
        >>> from sciml.physics.steady import NodalDarcy
        >>> solver = NodalDarcy(low=3.0, high=12.0)
        >>> a = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).double()
        >>> tuple(solver.solve(a).value.shape)
        (2, 1, 8, 8)
    """

    channels = ("coefficient",)

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        grid: Literal["left", "both"] = "left",
        mean: Literal["harmonic", "arithmetic"] = "harmonic",
        refine: int = 1,
        phases: bool | None = None,
    ) -> None:
        if (low is None) != (high is None):
            raise InvalidArgument(f"low={low} with high={high}", "both numbers, or none to fit")
        if low is not None and not (low >= 0 and high > 0):
            raise InvalidArgument(f"low={low}, high={high}", "low of 0 or more, high above 0")
        self.low, self.high = low, high
        self.grid = check_choice("grid", grid, ("left", "both"))
        self.mean = check_choice("mean", mean, ("harmonic", "arithmetic"))
        if not 1 <= refine <= FINEST:
            raise InvalidArgument(f"refine={refine}", f"an integer from 1 to {FINEST}")
        self.refine, self.phases = refine, phases

    def node(self) -> dict[str, Any]:
        """Return what a configuration says to make this solver again."""
        names = ("low", "high", "grid", "mean", "refine", "phases")
        kept = {name: getattr(self, name) for name in names}
        return {"_target_": "sciml.physics.steady.NodalDarcy", **kept}

    def fitted(self, given: Tensor, target: Tensor) -> NodalDarcy:
        """Return the solver whose numbers fit known solutions best; the same where it has some.

        Args:
            given: Inputs `(B, 1, n, n)` between 0 and 1.
            target: Their solutions, of the same shape.

        Raises:
            InvalidArgument: If inputs lie outside 0 and 1.
        """
        phases = bool(_two_phases(given).all()) if self.phases is None else self.phases
        if self.low is not None and self.high is not None:
            return self._with(self.low, self.high, self.refine, phases)
        if float(given.min()) < 0 or float(given.max()) > 1:
            raise InvalidArgument(
                f"low and high to fit, with inputs from {float(given.min()):g} to "
                f"{float(given.max()):g}",
                "inputs between 0 and 1",
                "Where the input is the coefficient itself set low=0, high=1",
            )
        given, u = given[:LOOK], target[:LOOK].double().flatten(1)
        size = u.norm(dim=1, keepdim=True).clamp_min(1e-300)

        def tried(log_ratio: float, refine: int = 1) -> tuple[float, float]:
            """Return the squared relative error at a ratio, and the best `low` there."""
            solver = self._with(1.0, math.exp(log_ratio), refine, phases)
            found = solver.solve(given).value.flatten(1) / size
            scale = float((found * u / size).sum() / found.square().sum())
            return float((scale * found - u / size).square().sum()), 1 / scale

        logs = [math.log(r) for r in RATIOS]
        errors = [tried(v)[0] for v in logs]
        k = min(range(len(logs)), key=errors.__getitem__)
        left, right = logs[max(k - 1, 0)], logs[min(k + 1, len(logs) - 1)]
        share = (math.sqrt(5) - 1) / 2
        for _ in range(NARROWED):
            a, b = right - share * (right - left), left + share * (right - left)
            left, right = (left, b) if tried(a)[0] < tried(b)[0] else (a, right)
        ratio = (left + right) / 2
        # The ratio of the input's own grid will do for a finer one, where solves cost much more.
        low = check_positive("low, as fitted to the solutions", tried(ratio, self.refine)[1])
        return self._with(low, low * math.exp(ratio), self.refine, phases)

    def _with(self, low: float, high: float, refine: int, phases: bool) -> NodalDarcy:
        kept = {"grid": self.grid, "mean": self.mean}
        return NodalDarcy(low, high, refine=refine, phases=phases, **kept)

    def solve(self, given: Tensor, on_failure: Policy = "warn") -> Solution:
        """Return u `(B, 1, n, n)` at all nodes, zero at those of the boundary, float64.

        Args:
            given: x `(B, 1, n, n)` at the nodes.
            on_failure: See `sciml.solvers.linear_solve`.

        Raises:
            InvalidArgument: Without numbers, for another shape, or where a is not positive.
        """
        if self.low is None or self.high is None:
            raise InvalidArgument("low and high that are not known yet", "two numbers, or a fit")
        n = given.shape[-1]
        if given.dim() != 4 or tuple(given.shape[1:3]) != (1, n) or n < 4:
            raise InvalidArgument(
                f"inputs of shape {tuple(given.shape)} for NodalDarcy", "(B, 1, n, n), n at least 4"
            )
        x = given[:, 0].double()
        least = float((self.low + (self.high - self.low) * x).min())
        if not least > 0:
            raise InvalidArgument(f"a coefficient of {least:g}", "positive numbers")
        if self.grid == "left":  # what stands at the missing nodes is taken from their neighbours
            x = torch.cat([x, x[:, -1:]], 1)
            x = torch.cat([x, x[:, :, -1:]], 2)
        a = self.low + (self.high - self.low) * self._refined(x)
        intervals = a.shape[-1] - 1
        faces = self._faces(a)
        found = linear_solve(
            lambda u, *w: _product(u, w, intervals),
            torch.ones_like(a[:, 1:-1, 1:-1]),
            faces,
            linear=CG(preconditioner=_fast_solver),
            on_failure=on_failure,
            symmetric=True,
            positive_definite=True,
        )
        whole = functional.pad(found.value, (1, 1, 1, 1))[:, None]
        value = whole[:, :, :: self.refine, :: self.refine][:, :, :n, :n]
        return replace(found, value=value)

    def _refined(self, x: Tensor) -> Tensor:
        """Return x `(B, m, m)` on the nodes of the solve, within the range of each sample."""
        if self.refine == 1:
            return x
        size = [self.refine * (m - 1) + 1 for m in x.shape[1:]]
        fine = functional.interpolate(x[:, None], size=size, mode="bicubic", align_corners=True)
        fine, low, high = fine[:, 0], x.amin((1, 2), True), x.amax((1, 2), True)
        cut = _two_phases(x) if self.phases is None else torch.full_like(x[:, 0, 0], self.phases)
        # Rounding must not decide where both phases are as near.
        apart = (fine > 0.5 - 1e-9).to(x)
        return torch.where(cut.bool()[:, None, None], apart, fine.clamp(low, high))

    def _faces(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients of the faces along both axes, around interior nodes."""
        wide = (a[:, :, 1:-1], a[:, 1:-1, :])
        pairs = [(v.narrow(k, 0, v.shape[k] - 1), v.narrow(k, 1, v.shape[k] - 1))
                 for k, v in ((1, wide[0]), (2, wide[1]))]  # fmt: skip
        if self.mean == "harmonic":
            return tuple(2 * p * q / (p + q) for p, q in pairs)
        return tuple((p + q) / 2 for p, q in pairs)


def _two_phases(x: Tensor) -> Tensor:
    """Return whether each sample `(B, ...)` holds 0 and 1 alone, up to rounding, `(B,)`."""
    x = x.flatten(1)
    return torch.minimum(x.abs(), (x - 1).abs()).amax(1) < 1e-6


def _product(u: Tensor, faces: tuple[Tensor, Tensor], intervals: int) -> Tensor:
    """Return -div(a grad u) at the interior nodes, u zero around them."""
    out = torch.zeros_like(u)
    for k, w in zip((1, 2), faces, strict=True):
        pad = (0, 0, 1, 1) if k == 1 else (1, 1)
        flux = w * functional.pad(u, pad).diff(dim=k)
        out = out - flux.diff(dim=k)
    return out * intervals**2


def _fast_solver(operator: Operator) -> Callable[[Tensor], Tensor]:
    """Return the inverse of the operator with a = 1, by sine transforms."""
    m = operator.like.shape[-1]
    k = torch.arange(1, m + 1, dtype=operator.like.dtype, device=operator.like.device)
    waves = torch.sin(math.pi / (m + 1) * k[:, None] * k) * math.sqrt(2 / (m + 1))
    value = (2 * (m + 1) * torch.sin(math.pi * k / (2 * (m + 1)))) ** 2
    return lambda v: waves @ ((waves @ v @ waves) / (value[:, None] + value)) @ waves
