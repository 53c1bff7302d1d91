"""Norms of entries of any size: squares that leave the range of the dtype are formed again.

A norm is formed from squares first, and anew from entries times a power of two where these over- or
underflowed. Powers of two change no digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Below these norms the squares of entries that matter may be rounded to zero.
LOWEST = {
    dtype: 1e3 * (torch.finfo(dtype).tiny / torch.finfo(dtype).eps) ** 0.5
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


def power_of_two(size: Tensor) -> Tensor:
    """Return the power of two that brings a size near 1 when it multiplies it, exactly.

    Zero and what is not finite get 1; the power itself neither over- nor underflows.
    """
    largest = math.frexp(torch.finfo(size.dtype).max)[1] - 2
    exponent = torch.frexp(size)[1].clamp(-largest, largest)
    one = torch.ones_like(size)
    return torch.where(size.isfinite(), torch.ldexp(one, -exponent), one)


def unit_of(size: Tensor) -> Tensor | None:
    """Return the powers of two that bring sizes `(*P)` near 1, or None where all are near enough.

    Sizes up to the eighth root of the dtype's range, zero and what is not finite get 1.
    """
    far = torch.finfo(size.dtype).max ** 0.125
    odd = ((size > far) | (size < 1 / far)) & (size > 0) & size.isfinite()
    if transformed() or size.device.type != "cpu":  # no look at values
        return torch.where(odd, power_of_two(size), 1.0)
    return torch.where(odd, power_of_two(size), 1.0) if bool(odd.any()) else None


def transformed() -> bool:
    """Return whether a transform of `torch.func` runs, under which tensors may hide values."""
    return torch._C._are_functorch_transforms_active()


def in_range(norm: Tensor, largest: Callable[[], Tensor], again: Callable[..., Tensor]) -> Tensor:
    """Return a Euclidean norm, formed again where squares left the range of the dtype.

    Args:
        norm: `(*P)`, from squares of the entries.
        largest: Returns the largest absolute value `(*P)`.
        again: Returns the norm times a power of two `(*P)`, from entries times that power.
    """
    low = LOWEST[norm.dtype]
    # a look costs less than the work it saves
    looks = norm.device.type == "cpu" and not transformed()
    if looks:
        if not norm.numel():
            return norm
        least, most = norm.aminmax()
        if least.item() >= low and most.item() < math.inf:
            return norm
    size = largest()
    lost = ((norm < low) & (size > 0)) | ((norm == math.inf) & size.isfinite())
    if looks and not bool(lost.any()):  # zeros, and what is not finite at all
        return norm
    unit = power_of_two(size)
    return torch.where(lost, again(unit) / unit, norm)


def norm_of(v: Tensor) -> Tensor:
    """Return the Euclidean norm over the last axis, of entries of any size."""
    if v.shape[-1] == 0:
        return v.new_zeros(v.shape[:-1])
    return in_range(
        torch.linalg.vector_norm(v, dim=-1),
        lambda: torch.linalg.vector_norm(v, torch.inf, dim=-1),
        lambda unit: torch.linalg.vector_norm(v * unit[..., None], dim=-1),
    )
