"""Inverses of sums of Kronecker products, applied to matrices.

A layer's gradient V `(d_out, d_in)` is divided by its curvature block without ever forming it:

    one pair, exact      (G x A + lambda)^-1 :  Q_G [ (Q_G^T V Q_A) / (l_G l_A^T + lambda) ] Q_A^T
    one pair, factored   (G + sqrt(lambda)/pi)^-1 V (A + pi sqrt(lambda))^-1,
                         pi^2 = (tr A / d_A) / (tr G / d_G)
    one pair, same       (G + lambda)^-1 V (A + lambda)^-1
    two pairs            (G1 x A1 + G2 x A2)^-1 :  K_G [ (K_G^T V K_A) / (1 + s_G s_A^T) ] K_A^T

with eigenvectors Q, or with K that makes `K^T A1 K = 1` and `K^T A2 K = diag(s_A)`, and likewise
for G. Two pairs have no closed inverse with lambda added to their sum; their factors are damped as
in `same`, or for `factored` and `exact` as in `factored` with half of lambda for each pair. All
decompositions are done in float64. Factors have a leading axis for the groups of a convolution.

References: Martens and Grosse 2015, arXiv 1503.05671, sections 4 and 6.3; Dangel et al. 2024,
arXiv 2405.15603, appendix (two pairs); George et al. 2018, arXiv 1806.03884 (`second_moments`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from sciml.optim.curvature.per_sample import Slots, split_groups

Damping = Literal["exact", "factored", "same"]
Pair = Sequence[Tensor]  # [A, G]
# Numbers one chunk of per-sample gradients may have.
CHUNK = 2**24


def eigen(matrices: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return eigenvalues (clamped at 0) and eigenvectors of symmetric matrices `(..., d, d)`.

    Float64; on an accelerator matrices of one size are decomposed together.
    """
    matrices = [m.double() for m in matrices]
    matrices = [(m + m.mT) / 2 for m in matrices]
    if not matrices or not matrices[0].is_cuda:
        return [_clamped(*torch.linalg.eigh(m)) for m in matrices]
    out: list = [None] * len(matrices)
    for shape in dict.fromkeys(m.shape for m in matrices):
        chosen = [i for i, m in enumerate(matrices) if m.shape == shape]
        values, vectors = torch.linalg.eigh(torch.stack([matrices[i] for i in chosen]))
        for i, value, vector in zip(chosen, values, vectors, strict=True):
            out[i] = _clamped(value, vector)
    return out


def _clamped(values: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    return values.clamp_min(0), vectors


def active(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs that are not zero; at least one."""
    pairs = list(pairs)
    return [p for p in pairs if bool(p[0].any() & p[1].any())] or pairs[:1]


def merged(pairs: Sequence[Pair]) -> Pair:
    """Return one pair in place of several: G adds up, A is the mean weighted by tr G."""
    if len(pairs) == 1:
        return pairs[0]
    weights = torch.stack([_trace(g) for _, g in pairs])
    weights = weights / weights.sum(0).clamp_min(torch.finfo(weights.dtype).tiny)
    inputs = sum(w[:, None, None] * a for w, (a, _) in zip(weights, pairs, strict=True))
    return [inputs, sum(g for _, g in pairs)]


def _trace(m: Tensor) -> Tensor:
    return m.diagonal(dim1=-2, dim2=-1).sum(-1)


def balance(a: Tensor, g: Tensor) -> Tensor:
    """Return pi from the mean eigenvalues of A and G, between 1e-6 and 1e6; 1 if one is zero."""
    ratio = (a / g).sqrt()
    return torch.nan_to_num(ratio, nan=1.0, posinf=1.0).clamp(1e-6, 1e6)


def damped(pair: Pair, damping: Tensor, mode: Damping) -> Pair:
    """Return a pair in float64 with damped factors, for use beside another pair."""
    a, g = (m.double() for m in pair)
    if mode == "same":
        left = right = damping.to(a).expand(len(a))
    else:
        pi = balance(_trace(a) / a.shape[-1], _trace(g) / g.shape[-1])
        root = (damping.to(a) / 2).sqrt()
        right, left = pi * root, root / pi
    eye = [torch.eye(m.shape[-1], dtype=m.dtype, device=m.device) for m in (a, g)]
    return [a + right[:, None, None] * eye[0], g + left[:, None, None] * eye[1]]


def decompose(pairs: Sequence[Pair], damping: Tensor, mode: Damping) -> list[Tensor]:
    """Return `[left, right, left values, right values]` of a layer's one or two pairs.

    Two pairs are damped here; one pair is damped by `denominator`, so its damping may change
    without a new decomposition.
    """
    like = pairs[0][0]
    if len(pairs) == 1:
        (a, right), (g, left) = eigen(pairs[0])
    else:
        first, second = (damped(p, damping, mode) for p in pairs)
        (a, right), (g, left) = (_simultaneous(x, y) for x, y in zip(first, second, strict=True))
    return [x.to(like.dtype).contiguous() for x in (left, right, g, a)]


def _simultaneous(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return s and K with `K^T first K = 1` and `K^T second K = diag(s)`."""
    ((values, vectors),) = eigen([first])
    info = torch.finfo(values.dtype)  # below the rounding error eigenvalues mean nothing
    floor = (info.eps * values.amax(-1, keepdim=True)).clamp_min(info.tiny)
    root = vectors / torch.maximum(values, floor).sqrt()[..., None, :]
    ((s, turn),) = eigen([root.mT @ second @ root])
    return s, root @ turn


def denominator(basis: Sequence[Tensor], damping: Tensor, mode: Damping, joint: bool) -> Tensor:
    """Return what projected gradients `(g, o, k)` are divided by."""
    g, a = basis[2][..., :, None], basis[3][..., None, :]
    if joint:
        return 1 + g * a
    damping = damping.to(g.dtype)
    if mode == "exact":
        return g * a + damping
    if mode == "same":
        return (g + damping) * (a + damping)
    pi = balance(a.mean(-1, True), g.mean(-2, True))
    root = damping.sqrt()
    return (g + root / pi) * (a + pi * root)


def project(basis: Sequence[Tensor], v: Tensor) -> Tensor:
    """Return V `(g, o, k)` in the basis."""
    return basis[0].mT @ v @ basis[1]


def divide(basis: Sequence[Tensor], v: Tensor, by: Tensor) -> Tensor:
    """Return V `(g, o, k)` divided by the curvature that has the denominators `by`."""
    return basis[0] @ (project(basis, v) / by) @ basis[1].mT


def second_moments(basis: Sequence[Tensor], s: Slots) -> Tensor:
    """Return `sum_n (per-sample gradient in the basis)^2` `(g, o, k)`, elementwise."""
    z, gamma = split_groups(s)
    z = torch.einsum("sngk,gkl->gnsl", z.to(basis[1].dtype), basis[1])
    gamma = torch.einsum("sngo,gop->gnsp", gamma.to(basis[0].dtype), basis[0])
    if z.shape[2] == 1:
        return gamma[:, :, 0].square().mT @ z[:, :, 0].square()
    rows = max(1, CHUNK // (z.shape[0] * z.shape[3] * gamma.shape[3]))
    parts = zip(gamma.split(rows, 1), z.split(rows, 1), strict=True)
    return sum((y.mT @ x).square_().sum(1) for y, x in parts)
