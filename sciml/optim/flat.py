"""Parameters as one float64 vector: complex numbers as pairs, other precisions converted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def real(x: Tensor) -> Tensor:
    """Return x, or its real and imaginary parts as a last axis of size two."""
    return torch.view_as_real(x) if x.is_complex() else x


def sizes(parameters: Iterable[Tensor]) -> list[int]:
    """Return how many real numbers every parameter holds."""
    return [p.numel() * (2 if p.is_complex() else 1) for p in parameters]


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Return the tensors one after the other, `(n,)` in float64, without graph."""
    return torch.cat([real(t.detach().resolve_conj()).reshape(-1).double() for t in tensors])


def unflatten(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return `(..., n)` as tensors `(..., *shape)` of the precision of `like`."""
    out = []
    for piece, p in zip(flat.split(sizes(like), dim=-1), like, strict=True):
        shape = (*flat.shape[:-1], *real(p).shape)
        piece = piece.reshape(shape).to(real(p).dtype)
        out.append(torch.view_as_complex(piece.contiguous()) if p.is_complex() else piece)
    return out


@torch.no_grad()
def assign(flat: Tensor, parameters: Sequence[Tensor]) -> None:
    """Write a vector `(n,)` into the parameters."""
    for piece, p in zip(flat.split(sizes(parameters)), parameters, strict=True):
        real(p).copy_(piece.view(real(p).shape))
