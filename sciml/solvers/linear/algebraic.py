"""Algebraic multigrid of PyAMG as a preconditioner: the extra `amg`."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sciml.errors import InvalidArgument, optional
from sciml.solvers.linear.stencil import Stencil
from sciml.solvers.linear.stencil_preconditioner import StencilPreconditioner
from sciml.typed_arguments import typed

KINDS = ("ruge_stuben", "smoothed_aggregation")


@typed
class AlgebraicMultigrid(StencilPreconditioner):
    """One V-cycle of PyAMG with its defaults, one problem after the other, on a CPU.

    Args:
        stencil: The matrices.
        kind: `ruge_stuben` or `smoothed_aggregation`.

    Raises:
        MissingPackage: Without PyAMG.
        InvalidArgument: For another kind, or matrices on another device.

    Example:
        >>> import torch
        >>> from sciml.solvers.linear import AlgebraicMultigrid, FlexibleCG, Stencil
        >>> faces = torch.ones(1, 15, 16), torch.ones(1, 16, 15)
        >>> stencil = Stencil(faces, torch.ones(1, 16, 16) * 0.01, torch.ones(1, 16, 16) > 0)
        >>> solver = FlexibleCG(preconditioner=AlgebraicMultigrid(stencil))  # needs pyamg
        >>> b = torch.linspace(-1, 1, 16).expand(1, 16, 16)
        >>> bool(stencil.solve(b, linear=solver, on_failure="raise").iterations < 10)
        True
    """

    def __init__(
        self,
        stencil: Stencil,
        kind: Literal["ruge_stuben", "smoothed_aggregation"] = "ruge_stuben",
    ) -> None:
        super().__init__(stencil)
        if kind not in KINDS or stencil.shift.device.type != "cpu":
            raise InvalidArgument(
                f"kind={kind!r} on {stencil.shift.device}", f"{' or '.join(KINDS)}, on the CPU"
            )
        pyamg = optional("pyamg", "amg", "AlgebraicMultigrid")
        make = getattr(pyamg, f"{kind}_solver")
        count = self.stencil.problems.numel()
        self._masks = self.stencil.unknown.reshape(count, -1).numpy()
        self._cycles = [
            make(self.stencil.to_csr(k).astype(np.float64)).aspreconditioner(cycle="V")
            if self._masks[k].any()
            else None
            for k in range(count)
        ]

    def _keep(self, places: slice) -> None:
        self._cycles, self._masks = self._cycles[places], self._masks[places]

    def product(self, r: Tensor) -> Tensor:
        """Return one V-cycle from zero."""
        n = self._masks.shape[1]
        wide = torch.broadcast_shapes(r.shape, self.stencil.shift.shape)
        given = r.expand(wide).reshape(-1, len(self._cycles), n).double().numpy()
        out = np.zeros_like(given)
        for k, (cycle, mask) in enumerate(zip(self._cycles, self._masks, strict=True)):
            if cycle is not None:
                for j in range(len(given)):
                    out[j, k, mask] = cycle.matvec(given[j, k, mask])
        return torch.from_numpy(out).to(r.dtype).reshape(wide)
