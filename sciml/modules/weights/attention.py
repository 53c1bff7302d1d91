"""Residual-based attention: points where the residual stays large weigh more.

Every point of a kept batch has a multiplier per equation,

    lambda_i <- gamma lambda_i + eta |r_i| / max_j |r_j| ,      loss = mean (lambda_i r_i)^2 ,

which is bounded by eta / (1 - gamma), 10 for the usual numbers, and needs no gradients of its own.

Reference: Anagnostopoulos et al. 2024, "Residual-based attention in physics-informed neural
networks", Comput. Methods Appl. Mech. Engrg. 421, arXiv 2307.00379. Departures: the first
multipliers are those after one update, eta |r_i| / max |r|, divided by eta: an optimizer whose
steps depend on the size of the loss is not slowed down; residuals are those of the step before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.autodiff.streams import Streams
from sciml.errors import InvalidArgument
from sciml.modules.weights.row_weights import RowWeights, summed
from sciml.physics.systems import PointSet

KEPT_FOR = 100  # steps of one batch below which multipliers mean nothing


class ResidualAttention(RowWeights):
    """Multipliers of the points of a kept batch.

    Args:
        equations: Their names.
        fixed_for: Steps for which a batch is kept.
        decay: gamma.
        rate: eta.

    Raises:
        InvalidArgument: For numbers out of range, or a batch that is not kept.
    """

    def __init__(
        self,
        equations: Sequence[str],
        fixed_for: int,
        decay: float = 0.999,
        rate: float = 0.01,
    ) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InvalidArgument(f"module.attention_decay={decay}", "0 <= decay < 1")
        if not rate > 0:
            raise InvalidArgument(f"module.attention_rate={rate}", "a positive number")
        if fixed_for < KEPT_FOR:
            raise InvalidArgument(
                f"module.attention=true with points that are redrawn every {fixed_for} steps",
                f"a batch kept for {KEPT_FOR} steps at least: multipliers belong to points",
                "Type data.fixed_for=100000",
            )
        self.decay, self.rate = decay, rate
        # of the global batch: equation by equation, rank by rank
        self.register_buffer("multipliers", torch.zeros(0))
        self.register_buffer("coming", torch.zeros(0))
        self.register_buffer("batch_of", torch.tensor(-1))
        self._batch_of: int | None = None  # the same on the host; None for not yet read
        self._place = {name: k for k, name in enumerate(equations)}
        self._slice = slice(0, 0)

    def begin(self, p: PointSet, streams: Streams) -> None:
        """Take what the last step made, or ones for a new batch."""
        n = len(p)
        self._slice = slice(streams.rank * n, (streams.rank + 1) * n)
        if self._batch_of is None:
            self._batch_of = int(self.batch_of)
        if self._batch_of != streams.step:
            self.multipliers = self.multipliers.new_zeros(0)
            self.batch_of.fill_(streams.step)
            self._batch_of = streams.step
        else:
            self.multipliers = self.coming

    def factor(self, name: str, p: PointSet) -> Tensor:
        """Return the multipliers of an equation."""
        if not self.multipliers.numel():
            return torch.ones_like(p.x[:, 0])
        return self.multipliers[self._place[name], self._slice].to(p.x)

    def update(self, p: PointSet, residuals: Mapping[str, Tensor], streams: Streams) -> None:
        """Update the multipliers."""
        found = p.x.new_zeros(len(residuals), len(p) * streams.world)
        for name, r in residuals.items():
            found[self._place[name], self._slice] = r.abs()
        found = summed(found)
        share = found / found.amax(1, keepdim=True).clamp_min(torch.finfo(found.dtype).tiny)
        fresh = not self.multipliers.numel()
        before = torch.zeros_like(share) if fresh else self.decay * self.multipliers.to(share)
        self.coming = share if fresh else before + self.rate * share

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over how many points there were."""
        for name in ("multipliers", "coming"):
            if f"{prefix}{name}" in state_dict:
                kept = torch.empty_like(state_dict[f"{prefix}{name}"], device=self.batch_of.device)
                setattr(self, name, kept)
        self._batch_of = None
        super()._load_from_state_dict(state_dict, prefix, *args)
