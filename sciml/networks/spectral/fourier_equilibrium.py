"""FNO-DEQ: the equilibrium of one Fourier layer, for steady PDEs on square grids.

With a the input field, g = P(a) its lift, sigma = GELU, Q the decoder, and A the Fourier layer
(`sciml.networks.spectral.square_fno`, `sciml.networks.spectral.fourier_layer`),

    z* = g + sigma(A z*),     u = Q(z*)

A steady PDE is a fixed point itself, u = K_a(u), and a network with tied layers and input injection
is its analogue: the equilibrium iterates until the state stands still, for as long as an input
needs. Its derivative is the implicit one.

Reference: Marwah et al. 2023, arXiv 2312.00234. Departure: |A| may be bounded (`contraction`),
which makes the equilibrium unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.spectral.fourier_layer import FourierLayer
from sciml.networks.spectral.square_fno import FieldOperator
from sciml.solvers import GMRES, Anderson, Implicit, Solution, fixed_point
from sciml.typed_arguments import typed

SLOPE = 1.1290  # largest slope of GELU, at sqrt(2)


@typed
class FNODEQ(FieldOperator):
    """Equilibrium of one Fourier layer; further arguments as in `FieldOperator`.

    Args:
        modes: Modes kept per direction, m.
        contraction: Bound c on the Lipschitz constant of the map, by |A| <= c / 1.129 (the largest
            slope of GELU); below 1 the equilibrium exists, is unique, and every solver finds it.
            None leaves A free.
        solver: Forward solver while training; None for Anderson acceleration to 1e-3.
        adjoint: Derivative rule; None for the implicit function theorem to 1e-2.
        patience: Factor on the solver's iterations, and divisor of its tolerance, outside training.
        on_failure: As in `sciml.solvers.root`.

    Raises:
        InvalidArgument: For a bound or a patience that cannot be.

    Example:
        >>> import torch
        >>> from sciml.networks import FNODEQ
        >>> network = FNODEQ(width=4, hidden=8, modes=4, contraction=0.8)
        >>> found = network.infer(torch.rand(2, 1, 16, 16))
        >>> tuple(found["value"].shape), found["converged"].tolist()
        ((2, 1, 16, 16), [True, True])
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 16,
        hidden: int = 32,
        modes: int = 8,
        contraction: float | None = None,
        positions: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        out_mean: float = 0.0,
        out_std: float = 1.0,
        solver: Any = None,
        adjoint: Any = None,
        patience: float = 10.0,
        on_failure: Literal["raise", "warn", "mask", "best"] = "best",
    ) -> None:
        super().__init__(in_channels, width, hidden, positions, mean, std, out_mean, out_std)
        if contraction is not None and not contraction > 0:
            raise InvalidArgument(f"network.contraction={contraction}", "a positive number or null")
        if not patience >= 1:
            raise InvalidArgument(f"network.patience={patience}", "at least 1")
        bound = None if contraction is None else contraction / SLOPE
        self.layer = FourierLayer(width, modes, 0.5, bound)
        self.solver = solver or Anderson(rtol=1e-3, max_iter=16, window=5)
        self.adjoint = adjoint or Implicit(GMRES(rtol=1e-2, max_iter=10))
        self.patience, self.on_failure = patience, on_failure

    def map(self, z: Tensor, g: Tensor, *kernel: Tensor) -> Tensor:
        """Return g + sigma(A z), shape of z `(N, C, n1, n2)`."""
        return g + F.gelu(self.layer.product(z, *kernel))

    def solve(self, field: Tensor, solver: Any = None) -> tuple[Tensor, Solution]:
        """Return u `(N, 1, n1, n2)` and the solution that holds z*.

        Args:
            field: a `(N, in_channels, n1, n2)`.
            solver: In place of the network's own.
        """
        g = self.lifted(field)
        if solver is None:
            solver = self.solver if self.training else stretched(self.solver, self.patience)
        solution = fixed_point(
            self.map,
            g.detach(),
            (g, *self.layer.kernel()),
            on_failure=self.on_failure,
            solver=solver,
            adjoint=self.adjoint,
        )
        return self.decoded(solution.value), solution

    def forward(self, field: Tensor) -> Tensor:
        """Return u `(N, 1, n1, n2)` from a `(N, in_channels, n1, n2)`."""
        return self.solve(field)[0]

    def schema(self) -> dict[str, dict[str, Any]]:
        """Return what goes in and out: also whether each sample's equilibrium was found."""
        out = super().schema()
        per_sample = {"shape": ["N"], "unit": "1"}
        out["outputs"]["converged"] = {**per_sample, "dtype": "bool"}
        out["outputs"]["residual"] = {**per_sample, "dtype": "float"}
        return out

    def infer(self, field: Tensor) -> dict[str, Tensor]:
        """Return the solution as `value`, and `converged` and relative `residual` per sample."""
        value, solution = self.solve(field)
        relative = solution.stats["relative"]
        return {"value": value, "converged": solution.converged, "residual": relative}


def stretched(solver: Any, factor: float) -> Any:
    """Return a solver with `factor` times the iterations and a tolerance as much smaller.

    Solvers without `max_iter` come back as they are. In single precision tolerances stop at 1e-5.
    """
    if not hasattr(solver, "max_iter"):
        return solver
    rtol = getattr(solver, "rtol", None)
    tight = {} if rtol is None else {"rtol": max(rtol / factor, min(rtol, 1e-5))}
    return replace(solver, max_iter=round(factor * solver.max_iter), **tight)
