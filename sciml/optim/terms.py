"""The terms of a loss in the form curvature needs: residuals before they are squared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass
class LossTerm:
    """One weighted term of a loss over the global batch.

    For kind `residual` the loss is `weight / count * sum(residual^2)`.

    Attributes:
        name: Name in the logs.
        residual: Residuals or logits of this rank `(n,)` or `(n, m)`, with graph.
        weight: Weight of the term.
        count: Number of samples in the global batch, all ranks together.
        kind: What the residual is.
    """

    name: str
    residual: Tensor
    weight: float
    count: int
    kind: Literal["residual", "gaussian", "categorical"] = "residual"

    def loss(self, world: int = 1) -> Tensor:
        """Return this rank's share of the loss, scaled for gradients averaged over ranks."""
        return self.weight * world / self.count * self.residual.square().sum()
