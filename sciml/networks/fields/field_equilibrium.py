"""FNO-DEQ between fields of files: the equilibrium of one Fourier layer, in the plane.

    z* = P(a) + gelu(A z*),     u = Q(z*)

Reference: Marwah et al. 2023, arXiv 2312.00234; see `sciml.networks.spectral.fourier_equilibrium`,
whose layer, solver and derivative these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from sciml.errors import InvalidArgument
from sciml.networks.fields.field_network import FieldNetwork
from sciml.networks.fields.fno import perceptron
from sciml.networks.spectral.fourier_equilibrium import SLOPE, stretched
from sciml.networks.spectral.fourier_layer import FourierLayer
from sciml.solvers import GMRES, Anderson, Implicit, fixed_point
from sciml.typed_arguments import typed


@typed
class GridFNODEQ(FieldNetwork):
    """Equilibrium of one Fourier layer between fields.

    Args:
        fields: The data module's description; two directions of space.
        width: Channels of the state.
        modes: Modes kept per direction; None for 12, or half the points where there are fewer.
        hidden: Hidden channels of P and Q.
        contraction: Bound on the map's Lipschitz constant; None leaves it free.
        solver: Forward solver while training; None for Anderson acceleration to 1e-3.
        adjoint: Derivative rule; None for the implicit function theorem to 1e-2.
        patience: Factor on the solver's iterations outside training.
        on_failure: As in `sciml.solvers.root`.
        resolution: As in `FieldNetwork`.
        views: As in `FieldNetwork`.
        coarse_solver: As in `FieldNetwork`.

    Raises:
        InvalidArgument: For numbers that cannot be, or fields that are not in the plane.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from sciml.data import FieldFiles
        >>> from sciml.networks.fields import GridFNODEQ
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     x, y = np.random.rand(2, 20, 8, 8)
        ...     np.savez(f"{folder}/pairs.npz", x=x, y=y)
        ...     data = FieldFiles(path=f"{folder}/pairs.npz")
        >>> network = GridFNODEQ(data.sizes["fields"], width=4, modes=4, hidden=4)
        >>> tuple(network.infer(x=torch.rand(3, 8, 8))["y"].shape)
        (3, 8, 8)
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        width: int = 24,
        modes: int | None = None,
        hidden: int = 48,
        contraction: float | None = None,
        solver: Any = None,
        adjoint: Any = None,
        patience: float = 4.0,
        on_failure: Literal["raise", "warn", "mask", "best"] = "best",
        resolution: Literal["free", "trained"] = "free",
        views: bool = False,
        coarse_solver: Any = None,
    ) -> None:
        super().__init__(fields, resolution, views, coarse_solver)
        if self.fields.dim != 2:
            raise InvalidArgument(
                f"fields in {self.fields.dim} directions for FNO-DEQ",
                "two directions",
                "Type model=fno",
            )
        if contraction is not None and not contraction > 0:
            raise InvalidArgument(f"network.contraction={contraction}", "a positive number or null")
        modes = min(12, min(self.fields.size) // 2) if modes is None else modes
        bound = None if contraction is None else contraction / SLOPE
        self.lift = perceptron(self.seen_channels, hidden, width)
        self.decode = perceptron(width, hidden, self.fields.out_channels)
        self.layer = FourierLayer(width, modes, 0.5, bound)
        self.solver = solver or Anderson(rtol=1e-3, max_iter=16, window=5)
        self.adjoint = adjoint or Implicit(GMRES(rtol=1e-2, max_iter=10))
        self.patience, self.on_failure = patience, on_failure

    def body(self, z: Tensor) -> Tensor:
        """Return normalised outputs `(B, C_out, n1, n2)`."""
        g = self.lift(z)
        solution = fixed_point(
            lambda z, g, *kernel: g + F.gelu(self.layer.product(z, *kernel)),
            g.detach(),
            (g, *self.layer.kernel()),
            on_failure=self.on_failure,
            solver=self.solver if self.training else stretched(self.solver, self.patience),
            adjoint=self.adjoint,
        )
        return self.decode(solution.value)
