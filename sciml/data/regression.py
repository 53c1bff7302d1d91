"""What needs no training: nearest sample, linear regression of modes, kernel ridge regression.

All in float64, by dense linear algebra over at most a few thousand samples.

    kernel ridge   u(a) = m + K(a, A) (K(A, A) + r)^-1 (U - m), with the Matern kernel of order 5/2
                   of the distance of blurred or plain inputs; length and ridge are those that are
                   best on a fifth of the samples, and so is whether a linear mean comes first

Reference: Batlle et al. 2024, arXiv 2304.13202 (kernel methods for operator learning).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
RIDGES = (1e-10, 1e-7, 1e-5, 1e-3, 1e-1)
LENGTHS = (0.5, 1.0, 2.0, 5.0, 15.0)  # of the median distance
MODES = 64
TINY = 1e-200
FAR = 1e3  # in lengths: the kernel is 0 there, and the square of infinity times 0 is none


def relative(found: Tensor, wanted: Tensor) -> float:
    """Return the mean over samples of |found - wanted|_2 / |wanted|_2."""
    e, u = (found - wanted).flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1)
    return float((e / u.clamp_min(1e-300))[u > 0].mean())


def nearest(x: Tensor, y: Tensor) -> Model:
    """Return the output of the closest known input."""
    flat = x.flatten(1)
    return lambda new: y[torch.cdist(new.flatten(1), flat).argmin(1)]


def modal(x: Tensor, y: Tensor) -> Model:
    """Return linear ridge regression between the leading modes of inputs and outputs."""
    cut = max(1, len(x) * 4 // 5)

    def fitted(x: Tensor, y: Tensor, count: int) -> Model:
        mx, my = x.flatten(1).mean(0), y.flatten(1).mean(0)
        a, b = x.flatten(1) - mx, y.flatten(1) - my
        k = min(count, len(x) - 1, a.shape[1]) or 1
        basis = torch.linalg.svd(a, full_matrices=False).Vh[:k].T
        z = a @ basis
        gram = z.T @ z
        ridge = (1e-8 * gram.diagonal().mean()).clamp_min(TINY)  # of inputs that never change: 0
        gram = gram + ridge * torch.eye(k, dtype=gram.dtype)
        weight = torch.linalg.solve(gram, z.T @ b)
        return lambda new: (my + (new.flatten(1) - mx) @ basis @ weight).reshape(-1, *y.shape[1:])

    counts = [c for c in (8, 16, 32, MODES, 128) if c < cut] or [1]
    best = min(counts, key=lambda c: relative(fitted(x[:cut], y[:cut], c)(x[cut:]), y[cut:])
               if cut < len(x) else 0.0)  # fmt: skip
    return fitted(x, y, best)


def kernel_ridge(x: Tensor, y: Tensor) -> Model:
    """Return kernel ridge regression; what is free is chosen on a fifth of the samples."""
    cut = max(1, len(x) * 4 // 5)
    best, choice = math.inf, (0, False, 1.0, 1e-5)
    if cut < len(x):
        for blur in (0, 1, 2) if x.dim() > 2 else (0,):
            for linear in (False, True):
                for length, ridge, error in _tried(x, y, cut, blur, linear):
                    if error < best:
                        best, choice = error, (blur, linear, length, ridge)
    blur, linear, length, ridge = choice
    return _fitted(x, y, blur, linear, length, ridge)


def _tried(
    x: Tensor, y: Tensor, cut: int, blur: int, linear: bool
) -> Iterator[tuple[float, float, float]]:
    mean = modal(x[:cut], y[:cut]) if linear else None
    a, b = _features(x, blur), y.flatten(1)
    shift = mean(x).flatten(1) if mean else b[:cut].mean(0)
    rest = b - shift
    distance = torch.cdist(a, a[:cut])
    typical = _typical(distance[:cut])
    size = b[cut:].norm(dim=1).clamp_min(1e-300)
    for length in LENGTHS:
        k = matern(distance / (length * typical))
        values, vectors = torch.linalg.eigh(k[:cut])
        turned, seen = vectors.T @ rest[:cut], k[cut:] @ vectors
        for ridge in RIDGES:
            found = seen @ (turned / (values.clamp_min(0) + ridge * cut**0.5)[:, None])
            yield length, ridge, float(((found - rest[cut:]).norm(dim=1) / size).mean())


def _fitted(x: Tensor, y: Tensor, blur: int, linear: bool, length: float, ridge: float) -> Model:
    mean = modal(x, y) if linear else None
    a, b = _features(x, blur), y.flatten(1)
    middle = b.mean(0)
    distance = torch.cdist(a, a)
    typical = _typical(distance)
    k = matern(distance / (length * typical))
    k = k + ridge * len(k) ** 0.5 * torch.eye(len(k), dtype=k.dtype)
    weights = torch.linalg.solve(k, b - (mean(x).flatten(1) if mean else middle))

    def predict(new: Tensor) -> Tensor:
        shift = mean(new).flatten(1) if mean else middle
        near = matern(torch.cdist(_features(new, blur), a) / (length * typical))
        return (shift + near @ weights).reshape(-1, *y.shape[1:])

    return predict


def _typical(distance: Tensor) -> Tensor:
    """Return the median distance; where most are zero, the mean of the others, or 1."""
    others = distance[distance > 0]
    middle = distance.median()
    if middle > 0:
        return middle
    return others.mean() if len(others) else torch.ones((), dtype=distance.dtype)


def matern(r: Tensor) -> Tensor:
    """Return the Matern kernel of order 5/2 of distances in lengths."""
    s = (math.sqrt(5) * r).clamp_max(FAR)
    return (1 + s + s.square() / 3) * torch.exp(-s)


def _features(x: Tensor, blur: int) -> Tensor:
    """Return inputs `(B, m)`, averaged over three neighbours `blur` times, scaled by channel."""
    for _ in range(blur):
        for axis in range(2, x.dim()):
            n = x.shape[axis]
            before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)
            after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
            x = (before + 2 * x + after) / 4
    return x.flatten(1)
