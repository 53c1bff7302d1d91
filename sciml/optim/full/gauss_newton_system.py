"""The linear system of a Gauss-Newton step, over residuals or over parameters.

For R residuals and P parameters `J J^T` is R x R and `J^T J` is P x P; the smaller one is formed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.optim.curvature.jacobian import Jacobian

SMALL = 256  # columns below which a product is not cut into blocks


class GaussNewtonSystem:
    """The smaller one of `J J^T` and `J^T J` for the Jacobian of one batch.

    Args:
        jacobian: J, R rows.
        parameters: What it is taken with respect to, P numbers in all.

    Attributes:
        matrix: The system without damping.
        dense: J `(R, P)` where the system is over parameters, else None.
    """

    def __init__(self, jacobian: Jacobian, parameters: Sequence[Tensor]) -> None:
        self.jacobian, self.parameters = jacobian, parameters
        self.dense: Tensor | None = None
        if len(jacobian) <= sum(p.numel() for p in parameters):
            self.matrix = jacobian.kernel()
        else:
            self.dense = jacobian.dense()
            self.matrix = gram(self.dense)

    def restricted(self, target: Tensor) -> Tensor:
        """Return the right-hand side for residuals `(R, ...)`: themselves, or J^T times them."""
        return target if self.dense is None else self.dense.t() @ target

    def directions(self, solution: Tensor) -> list[Tensor]:
        """Return the direction of a solution `(R,)` or `(P,)`, one tensor per parameter."""
        if self.dense is None:
            return self.jacobian.transposed_times(solution)
        pieces = solution.split([p.numel() for p in self.parameters])
        return [v.view_as(p).to(p) for v, p in zip(pieces, self.parameters, strict=True)]


def gram(dense: Tensor, blocks: int = 4) -> Tensor:
    """Return `J^T J` of J `(R, P)`, of which five blocks in eight are computed: it is symmetric."""
    size = dense.shape[1]
    if size < SMALL:
        return dense.t() @ dense
    out = dense.new_zeros(size, size)
    ends = [size * k // blocks for k in range(blocks + 1)]
    for a, b in zip(ends[:-1], ends[1:], strict=True):
        torch.mm(dense[:, a:b].t(), dense[:, :b], out=out[a:b, :b])
        out[:a, a:b] = out[a:b, :a].t()
    return out
