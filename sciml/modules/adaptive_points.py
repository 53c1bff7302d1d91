"""Residual-adaptive points: candidates are kept where the residual is large.

Reference: Wu et al. 2023, arXiv 2207.10289, method RAD with c = 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kept_candidates(size: Tensor, power: float, count: int, generator: torch.Generator) -> Tensor:
    """Return the numbers `(count,)` of the candidates to keep, drawn without repetition.

    A candidate's probability is in proportion to |r|^k / mean |r|^k + 1.

    Args:
        size: |r| of every candidate, `(N,)`.
        power: k.
        count: Candidates to keep.
        generator: Source of the draw.
    """
    density = size**power
    density = density / density.mean().clamp_min(torch.finfo(size.dtype).tiny) + 1.0
    return torch.multinomial(density, count, generator=generator)
