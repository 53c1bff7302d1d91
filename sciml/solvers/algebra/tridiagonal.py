"""Tridiagonal systems of a batch, factored once for any number of right-hand sides.

    lower_i x_{i-1} + diagonal_i x_i + upper_i x_{i+1} = b_i

On the CPU all systems are one long tridiagonal system without couplings between its blocks, which
LAPACK factors with partial pivoting (gttrf) in one call. Elsewhere cyclic reduction eliminates
every second unknown from its two neighbours' equations, which leaves a tridiagonal system of half
the size: log2(n) vectorised passes, O(n) operations. It does not pivot, which is safe for
diagonally dominant matrices (implicit steps of diffusion).

Source: Hockney 1965, J. ACM 12(1); Golub and Van Loan, Matrix Computations, section 4.5.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.arguments import takes, tensor
from sciml.errors import InvalidArgument, InvalidType
from sciml.tensor_types import check_alike
from sciml.typed_arguments import typed


@typed
class Tridiagonal:
    """The factors of a batch of tridiagonal matrices; solutions carry no gradient.

    Args:
        lower: `(..., n)` factors of x_{i-1}; the first is not used.
        diagonal: `(..., n)` factors of x_i.
        upper: `(..., n)` factors of x_{i+1}; the last is not used.
        method: `lapack` or `cyclic` reduction; None takes LAPACK on the CPU.

    Example:
        >>> import torch
        >>> from sciml.solvers import Tridiagonal
        >>> one = torch.ones(3, dtype=torch.float64)
        >>> Tridiagonal(-one, 2 * one, -one).solve(one)
        tensor([1.5000, 2.0000, 1.5000], dtype=torch.float64)

    A matrix that is singular or not finite gives NaN or infinite unknowns of its own problem; the
    others are untouched.

    Raises:
        InvalidType: If the bands are no tensors of one type, float32 or float64.
        InvalidArgument: If the three shapes differ, n is 0, or LAPACK is asked for off the CPU.
    """

    @takes(lower=tensor, diagonal=tensor, upper=tensor)
    def __init__(
        self,
        lower: Tensor,
        diagonal: Tensor,
        upper: Tensor,
        *,
        method: Literal["lapack", "cyclic"] | None = None,
    ) -> None:
        if not lower.shape == diagonal.shape == upper.shape or not diagonal.shape[-1:].numel():
            raise InvalidArgument(
                f"bands of shapes {tuple(lower.shape)}, {tuple(diagonal.shape)} and "
                f"{tuple(upper.shape)}",
                "three bands of the same shape (..., n), n at least 1",
                "Fill the unused first entry of `lower` and last entry of `upper` with zeros",
            )
        check_alike(lower=lower, diagonal=diagonal, upper=upper)
        if diagonal.dtype not in (torch.float32, torch.float64):
            raise InvalidType(f"bands of {diagonal.dtype}", "float32 or float64", "Type .float()")
        on_cpu = diagonal.device.type == "cpu"
        method = method or ("lapack" if on_cpu else "cyclic")
        if method not in ("lapack", "cyclic") or (method == "lapack" and not on_cpu):
            raise InvalidArgument(
                f"method={method!r} for matrices on {diagonal.device}",
                "'lapack' on the CPU, or 'cyclic' anywhere",
            )
        factor = _Elimination if method == "lapack" else _CyclicReduction
        self.shape, self.diagonal = diagonal.shape, diagonal.detach()
        self.factor = factor(*(band.detach() for band in (lower, diagonal, upper)))

    @takes(b=tensor)
    def solve(self, b: Tensor) -> Tensor:
        """Return x `(..., n)` for right-hand sides of the shape of the bands.

        Raises:
            InvalidArgument: For another shape.
        """
        if b.shape != self.shape:
            raise InvalidArgument(
                f"a right-hand side of shape {tuple(b.shape)}", f"the bands' {tuple(self.shape)}"
            )
        check_alike(bands=self.diagonal, b=b)
        return self.factor.solve(b.detach())


class _Elimination:
    """All matrices as blocks of one, by LAPACK's gttrf."""

    def __init__(self, lower: Tensor, diagonal: Tensor, upper: Tensor) -> None:
        from scipy.linalg.lapack import get_lapack_funcs

        lower, upper = lower.clone(), upper.clone()
        lower[..., 0], upper[..., -1] = 0, 0
        self.bad = ~(lower + diagonal + upper).isfinite().all(-1, keepdim=True)
        self.any_bad, self.factors = bool(self.bad.any()), None
        if not diagonal.numel():
            return
        self.fill = (0, max(3 - diagonal.numel(), 0))  # SciPy wants three unknowns
        factor, self.back = get_lapack_funcs(("gttrf", "gttrs"), (diagonal.numpy(),))
        while self.factors is None:
            # a block that is not finite or singular would reach its neighbours as 0 * infinity
            if self.any_bad:
                lower, upper = lower.masked_fill(self.bad, 0.0), upper.masked_fill(self.bad, 0.0)
                diagonal = diagonal.masked_fill(self.bad, 1.0)
            a, b, c = (pad(band.flatten(), self.fill) for band in (lower, diagonal, upper))
            b[diagonal.numel() :] = 1
            *factors, info = factor(a[1:].numpy(), b.numpy(), c[:-1].numpy())
            if info > 0:
                pivots = torch.from_numpy(factors[1])[: diagonal.numel()]
                zero = pivots.view(diagonal.shape) == 0
                self.bad, self.any_bad = self.bad | zero.any(-1, keepdim=True), True
            else:
                self.factors = factors

    def solve(self, b: Tensor) -> Tensor:
        if self.factors is None:
            return b.clone()
        spoilt = self.any_bad or not bool(b.isfinite().all())
        if spoilt:
            bad = self.bad | ~b.isfinite().all(-1, keepdim=True)
            b = b.masked_fill(bad, 0.0)
        x, _ = self.back(*self.factors, pad(b.flatten(), self.fill)[:, None].numpy())
        x = torch.from_numpy(x[: b.numel(), 0]).view(b.shape)
        return x.masked_fill(bad, torch.nan) if spoilt else x


class _CyclicReduction:
    """Halving the systems, with one vectorised pass per level."""

    def __init__(self, lower: Tensor, diagonal: Tensor, upper: Tensor) -> None:
        self.size = diagonal.shape[-1]
        # 2^k - 1 unknowns: the added ones stand alone, with equations x = 0
        self.fill = (1 << self.size.bit_length()) - 1 - self.size
        a, c = pad(lower, (0, self.fill)), pad(upper, (0, self.fill))
        b = pad(diagonal, (0, self.fill), value=1.0)
        a[..., 0], c[..., self.size - 1] = 0, 0
        self.levels: list[tuple[Tensor, ...]] = []
        while b.shape[-1] > 1:
            inverse = b[..., ::2].reciprocal()
            before, after = a[..., ::2] * inverse, c[..., ::2] * inverse
            left, right = a[..., 1::2], c[..., 1::2]
            self.levels.append((left, right, inverse, before, after))
            b = b[..., 1::2] - left * after[..., :-1] - right * before[..., 1:]
            a, c = -left * before[..., :-1], -right * after[..., 1:]
        self.last = b.reciprocal()

    def solve(self, b: Tensor) -> Tensor:
        rest, scaled = pad(b, (0, self.fill)), []
        for left, right, inverse, _, _ in self.levels:
            even = rest[..., ::2] * inverse
            scaled.append(even)
            rest = rest[..., 1::2] - left * even[..., :-1] - right * even[..., 1:]
        x = rest * self.last
        for (_, _, _, before, after), even in zip(reversed(self.levels), scaled[::-1], strict=True):
            around = pad(x, (1, 1))
            even = even - before * around[..., :-1] - after * around[..., 1:]
            x = torch.stack([even, pad(x, (0, 1))], -1).flatten(-2)[..., :-1]
        return x[..., : self.size]
